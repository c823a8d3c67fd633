//! Identity documents and their exact validation (P1).
//!
//! A [`Document`] exists only in a valid, normalised form: two spellings of one document compare
//! equal and hash to the same [`PersonId`](crate::PersonId). Its number lives in clear for one request only
//! (INV-3), so the type has no `Serialize` and its `Debug` prints no digits.

mod birth_certificate;
mod passport;
mod permit;
mod resident_id;

use std::borrow::Cow;
use std::fmt;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

pub use resident_id::{ResidentId, check_digit};

use crate::enrolment::Sex;
use crate::mask;

/// The kinds of document that identify a person (P1, P2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// 居民身份证: 18 characters, GB 11643.
    ResidentId,
    /// 港澳居民来往内地通行证.
    HongKongMacauPermit,
    /// 台湾居民来往大陆通行证.
    TaiwanPermit,
    /// A passport of any issuer in ICAO Doc 9303 part 3.
    Passport,
    /// 出生医学证明, for a minor without a resident ID registered outside the province.
    BirthCertificate,
}

impl DocumentKind {
    /// The names that a request may use.
    pub const NAMES: &'static str =
        "resident_id, hong_kong_macau_permit, taiwan_permit, passport, birth_certificate";

    pub(crate) const fn tag(self) -> u8 {
        match self {
            Self::ResidentId => 1,
            Self::HongKongMacauPermit => 2,
            Self::TaiwanPermit => 3,
            Self::Passport => 4,
            Self::BirthCertificate => 5,
        }
    }
}

/// Which rule a document number breaks.
///
/// The message says what is allowed and repeats no digit of the input (INV-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Wrong number of characters.
    #[error("must have {expected} characters, not {actual}")]
    Length {
        /// What the kind of document has.
        expected: &'static str,
        /// What was given.
        actual: usize,
    },
    /// A character that this position does not allow.
    #[error("character {position} must be {expected}")]
    Character {
        /// Position, counted from 1.
        position: usize,
        /// What may stand there.
        expected: &'static str,
    },
    /// The GB 11643 check character does not match.
    #[error("check digit does not match (GB 11643, ISO 7064 MOD 11-2)")]
    CheckDigit,
    /// The birth date is not in the calendar.
    #[error("birth date is not a date of the calendar")]
    BirthDate,
    /// The birth date lies outside 1900 to today.
    #[error("birth date must lie between 1900-01-01 and today")]
    BirthDateRange,
    /// The first six digits were never a GB/T 2260 code.
    #[error("division code is not, and never was, in GB/T 2260")]
    Division,
    /// The sequence 000 is not issued.
    #[error("sequence number 000 is not issued")]
    Sequence,
    /// The issue count must be two digits, 00 to 99.
    #[error("issue count must be two digits")]
    IssueCount,
    /// This kind of document has no issue count.
    #[error("issue count does not belong to this kind of document")]
    UnexpectedIssueCount,
    /// A passport needs its issuer.
    #[error("issuing country is required for a passport")]
    IssuerMissing,
    /// The issuer is not in ICAO Doc 9303.
    #[error("issuing country must be a three-letter code of ICAO Doc 9303")]
    Issuer,
    /// Only passports name an issuer.
    #[error("issuing country does not belong to this kind of document")]
    UnexpectedIssuer,
}

impl DocumentError {
    /// Which field of the request breaks the rule: `number`, `issuer` or `issue_count`.
    pub const fn field(self) -> &'static str {
        match self {
            Self::IssueCount | Self::UnexpectedIssueCount => "issue_count",
            Self::IssuerMissing | Self::Issuer | Self::UnexpectedIssuer => "issuer",
            _ => "number",
        }
    }

    /// A stable name of the rule, for programs.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::Character { .. } => "character",
            Self::CheckDigit => "check_digit",
            Self::BirthDate => "birth_date",
            Self::BirthDateRange => "birth_date_range",
            Self::Division => "division",
            Self::Sequence => "sequence",
            Self::IssueCount => "issue_count",
            Self::UnexpectedIssueCount => "unexpected_issue_count",
            Self::IssuerMissing => "issuer_missing",
            Self::Issuer => "issuer",
            Self::UnexpectedIssuer => "unexpected_issuer",
        }
    }
}

/// A valid document in normal form. Equality is identity: an issue count is not part of it (P1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Document {
    kind: DocumentKind,
    issuer: Option<[u8; 3]>,
    number: ArrayString<LONGEST>,
}

/// Characters of the longest number, a resident ID's.
const LONGEST: usize = 18;

impl Document {
    /// Validates and normalises a document.
    ///
    /// `today` is the Asia/Shanghai date as (year, month, day); a birth date after it is refused.
    ///
    /// # Errors
    /// The first rule that the input breaks; [`DocumentError::field`] names the field.
    pub fn parse(
        kind: DocumentKind,
        number: &str,
        issuer: Option<&str>,
        issue_count: Option<&str>,
        today: (i16, i8, i8),
    ) -> Result<Self, DocumentError> {
        if issuer.is_some() && kind != DocumentKind::Passport {
            return Err(DocumentError::UnexpectedIssuer);
        }
        let takes_issue_count = matches!(
            kind,
            DocumentKind::HongKongMacauPermit | DocumentKind::TaiwanPermit
        );
        if let Some(count) = issue_count {
            if !takes_issue_count {
                return Err(DocumentError::UnexpectedIssueCount);
            }
            if count.len() != 2 || !count.bytes().all(|b| b.is_ascii_digit()) {
                return Err(DocumentError::IssueCount);
            }
        }
        let number = upper_case(mask::trim(number));
        let (issuer, number) = match kind {
            DocumentKind::ResidentId => {
                ResidentId::parse(&number, today)?;
                (None, &*number)
            }
            DocumentKind::HongKongMacauPermit => (None, permit::hong_kong_macau(&number)?),
            DocumentKind::TaiwanPermit => (None, permit::taiwan(&number)?),
            DocumentKind::Passport => {
                let (issuer, number) = passport::parse(&number, issuer)?;
                (Some(issuer), number)
            }
            DocumentKind::BirthCertificate => (None, birth_certificate::parse(&number)?),
        };
        // No kind allows as many.
        let number = ArrayString::from(number).map_err(|_| DocumentError::Length {
            expected: "at most 18",
            actual: number.chars().count(),
        })?;
        Ok(Self {
            kind,
            issuer,
            number,
        })
    }

    /// The kind of this document.
    pub const fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// Whether the identity behind it is name-matched only, never face-checked (P2).
    pub const fn is_entrant(&self) -> bool {
        matches!(
            self.kind,
            DocumentKind::Passport | DocumentKind::TaiwanPermit
        )
    }

    /// Birth year and sex, where the number itself says so: mainland resident IDs only (P7).
    pub fn birth_year_and_sex(&self) -> Option<(u16, Sex)> {
        (self.kind == DocumentKind::ResidentId)
            .then(|| ResidentId::year_and_sex_of_valid(&self.number))
    }

    /// Kind, issuer and normalised number, as the keyed hash reads them.
    pub(crate) fn identity_parts(&self) -> ([u8; 4], &[u8]) {
        let [a, b, c] = self.issuer.unwrap_or([b'-'; 3]);
        ([self.kind.tag(), a, b, c], self.number.as_bytes())
    }
}

/// The number in upper case, as most are already.
fn upper_case(number: &str) -> Cow<'_, str> {
    if !number.is_ascii() {
        Cow::Owned(number.to_uppercase())
    } else if number.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Cow::Owned(number.to_ascii_uppercase())
    } else {
        Cow::Borrowed(number)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({:?}, number hidden)", self.kind)
    }
}

/// Requires ASCII digits at `bytes[from..]`; positions in the error count from 1.
fn require_digits(bytes: &[u8], from: usize) -> Result<(), DocumentError> {
    let digits = &bytes[from.min(bytes.len())..];
    // Nearly all are, which is seen quickest without a branch at each.
    if digits.iter().fold(true, |are, b| are & b.is_ascii_digit()) {
        return Ok(());
    }
    match digits.iter().position(|b| !b.is_ascii_digit()) {
        None => Ok(()),
        Some(index) => Err(DocumentError::Character {
            position: from + index + 1,
            expected: "a digit",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: (i16, i8, i8) = (2026, 11, 21);

    fn parse(kind: DocumentKind, number: &str) -> Result<Document, DocumentError> {
        Document::parse(kind, number, None, None, TODAY)
    }

    #[test]
    fn p1_a_lower_case_check_character_is_the_same_document() {
        let body = "44010319900307301";
        let check = check_digit(body.as_bytes());
        let number = format!("{body}{}", check as char);
        let upper = parse(DocumentKind::ResidentId, &number).unwrap();
        let lower = parse(
            DocumentKind::ResidentId,
            &format!(" {} ", number.to_lowercase()),
        );
        assert_eq!(upper, lower.unwrap());
    }

    #[test]
    fn p1_an_issue_count_is_validated_and_is_not_identity() {
        let kind = DocumentKind::HongKongMacauPermit;
        let first = Document::parse(kind, "H01234567", None, Some("01"), TODAY).unwrap();
        let second = Document::parse(kind, "H01234567", None, Some("02"), TODAY).unwrap();
        assert_eq!(first, second);
        let bad = Document::parse(kind, "H01234567", None, Some("2"), TODAY).unwrap_err();
        assert_eq!((bad.field(), bad.rule()), ("issue_count", "issue_count"));
    }

    #[test]
    fn inv3_debug_output_shows_no_number() {
        let document = parse(DocumentKind::BirthCertificate, "P440000001").unwrap();
        assert!(!format!("{document:?}").contains("440000001"));
    }

    #[test]
    fn p1_a_passport_needs_an_issuer_known_to_icao() {
        let kind = DocumentKind::Passport;
        let missing = Document::parse(kind, "E12345678", None, None, TODAY).unwrap_err();
        assert_eq!(missing, DocumentError::IssuerMissing);
        let unknown = Document::parse(kind, "E12345678", Some("QQQ"), None, TODAY).unwrap_err();
        assert_eq!(unknown, DocumentError::Issuer);
        assert!(Document::parse(kind, "E12345678", Some("chn"), None, TODAY).is_ok());
    }
}
