//! Health declarations (D1): what a person, or somebody for them, states of their health and travel.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::person::PersonId;
use crate::scan::ScanId;
use crate::time::Timestamp;

/// As what somebody declares (D1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclarationKind {
    /// For oneself, or for another as a proxy.
    Personal,
    /// As a member of an organisation.
    OrganisationMember,
    /// As an employee of an enterprise.
    Employee,
    /// As a student or member of staff of a school.
    StudentOrStaff,
    /// Taken down by a grid worker.
    GridCollection,
}

/// What may be felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symptom {
    /// 发热.
    Fever,
    /// 干咳.
    DryCough,
    /// 乏力.
    Fatigue,
    /// 咽痛.
    SoreThroat,
    /// 呼吸困难.
    Breathlessness,
    /// 嗅味觉减退.
    LossOfSmellOrTaste,
    /// 腹泻.
    Diarrhoea,
    /// Another, told in the note.
    Other,
}

/// Symptoms, a bit each in the order of [`Symptom`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SymptomSet(pub u16);

impl FromIterator<Symptom> for SymptomSet {
    fn from_iter<I: IntoIterator<Item = Symptom>>(symptoms: I) -> Self {
        Self(symptoms.into_iter().fold(0, |set, s| set | 1 << s as u16))
    }
}

/// Most regions of one declaration.
pub const MAX_REGIONS: usize = 20;

/// A declaration. Never edited or deleted; the newest counts (D2).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Declaration {
    /// The client's id, by which a copy is told.
    pub declaration_id: ScanId,
    /// Of whom.
    pub person: PersonId,
    /// As what.
    pub kind: DeclarationKind,
    /// To which organisation, where it is made to one.
    pub organisation: Option<u32>,
    /// The type of person, as the city's form names it; empty where it is left out.
    pub person_type: String,
    /// Division of residence (P9).
    pub residence: Option<u32>,
    /// Symptoms.
    pub symptoms: SymptomSet,
    /// Whether there was contact with a case in the last 14 days.
    pub contact: bool,
    /// Listed regions travelled in the last 14 days, as GB/T 2260 codes.
    pub travelled: Vec<u32>,
    /// Free text. Carries no identity (INV-3).
    pub note: String,
    /// When it was made.
    pub event_time: Timestamp,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Keyed hash of the caller who brought it.
    pub supplied_by: u64,
    /// Whether load generation made it (X11).
    pub synthetic: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_symptoms_are_bits_in_the_order_of_their_names() {
        let set: SymptomSet = [Symptom::Fever, Symptom::Other, Symptom::Fever]
            .into_iter()
            .collect();
        assert_eq!(set, SymptomSet(0b1000_0001));
    }
}
