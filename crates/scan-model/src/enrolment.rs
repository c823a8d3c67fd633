//! A person as the external identity service reports them (P7, P8).

use std::borrow::Cow;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::mask::{MaskedName, MaskedPhone, is_han, trim};
use crate::person::Identity;
use crate::time::Timestamp;

/// Sex, as documents record it; *unknown* is its own bucket in every statistic (P7).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Sex {
    /// Not known.
    #[default]
    Unknown,
    /// Male.
    Male,
    /// Female.
    Female,
}

/// How the identity behind a person was checked (P2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Name and number agree; the tester checks the document itself.
    NameMatched,
    /// A face check tied the person to the document.
    FaceChecked,
}

/// One person's enrolment: masked fields, keyed hashes and buckets; no document number, name or phone (Y4).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Enrolment {
    /// Who it is.
    pub identity: Identity,
    /// How the identity was checked.
    pub verification: Verification,
    /// Sex, from the document or from enrolment.
    pub sex: Sex,
    /// Birth year, from the document or from enrolment.
    pub birth_year: Option<u16>,
    /// The name as testers see it.
    pub name: MaskedName,
    /// The phone number as testers see it.
    pub phone: Option<MaskedPhone>,
    /// Keyed hash of the normalised name.
    pub name_hash: u64,
    /// Keyed hash of the normalised phone number.
    pub phone_hash: Option<u64>,
    /// Division of residence, where known (P9).
    pub residence: Option<u32>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Whether load generation made this person (X11).
    pub synthetic: bool,
    /// The number of this change of the person's status, as the appending node counted (S6).
    pub change: u16,
}

/// A name in the one form in which names are compared (P2): trimmed, hyphens as spaces, upper case, words sorted so
/// that surname and given name may be swapped.
pub fn normalise_name(name: &str) -> Cow<'_, str> {
    let name = trim(name);
    // Chinese characters have no case, and a name of nothing else is one word.
    if name.chars().all(is_han) {
        return Cow::Borrowed(name);
    }
    let upper = name.replace('-', " ").to_uppercase();
    let mut words: Vec<&str> = upper.split_whitespace().collect();
    words.sort_unstable();
    Cow::Owned(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_names_match_after_trimming_hyphens_case_and_swapping() {
        assert_eq!(
            normalise_name(" anne-marie SMITH"),
            normalise_name("Smith Anne Marie")
        );
        assert_ne!(normalise_name("ANN SMITH"), normalise_name("ANNE SMITH"));
        assert_eq!(normalise_name(" 张伟 "), "张伟");
        assert_eq!(normalise_name("张伟 a-b"), "A B 张伟");
    }
}
