//! A declaration as a citizen's app or a grid worker sends it (D1).

use scan_model::declaration::{DeclarationKind, MAX_REGIONS, Symptom};
use scan_model::fact::MAX_TEXT;
use scan_model::{Declaration, PersonId, ScanId, Timestamp};
use serde::Deserialize;

use super::{DocumentForm, check_residence, past_time};
use crate::problem::Problem;

/// Longest person type, in bytes.
const MAX_PERSON_TYPE: usize = 60;

/// A declaration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclarationForm {
    declaration_id: String,
    kind: DeclarationKind,
    /// Whose: a code, which says so without a document.
    #[serde(default)]
    pub code: Option<String>,
    /// Whose, by document.
    #[serde(default)]
    pub document: Option<DocumentForm>,
    #[serde(default)]
    organisation: Option<u32>,
    #[serde(default)]
    person_type: String,
    #[serde(default)]
    residence: Option<u32>,
    symptoms: Vec<Symptom>,
    contact: bool,
    travelled: Vec<u32>,
    #[serde(default)]
    note: String,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    synthetic: bool,
}

impl DeclarationForm {
    /// As what it is made.
    pub const fn kind(&self) -> DeclarationKind {
        self.kind
    }

    /// Checks every field, and makes it a record of a person.
    pub fn into_declaration(
        self,
        person: PersonId,
        supplied_by: u64,
        now: Timestamp,
    ) -> Result<Declaration, Problem> {
        let declaration_id: ScanId =
            self.declaration_id
                .parse()
                .map_err(|error: scan_model::scan::ScanIdError| {
                    Problem::field("declaration_id", "uuid_v7", error.to_string())
                })?;
        let organisation_is_due = matches!(
            self.kind,
            DeclarationKind::OrganisationMember
                | DeclarationKind::Employee
                | DeclarationKind::StudentOrStaff
        );
        if organisation_is_due != self.organisation.is_some() {
            let detail = "is required for organisation_member, employee and student_or_staff, and for no other kind";
            return Err(Problem::field("organisation", "by_kind", detail));
        }
        for (field, text, most) in [
            ("person_type", &self.person_type, MAX_PERSON_TYPE),
            ("note", &self.note, MAX_TEXT),
        ] {
            if text.len() > most || text.chars().any(char::is_control) {
                let detail =
                    format!("must have at most {most} bytes, none of them control characters");
                return Err(Problem::field(field, "text", detail));
            }
        }
        check_residence(self.residence)?;
        let is_region = |code: &u32| (110_000..=829_999).contains(code);
        if self.travelled.len() > MAX_REGIONS || !self.travelled.iter().all(is_region) {
            let detail =
                format!("must be at most {MAX_REGIONS} codes of GB/T 2260, six digits each");
            return Err(Problem::field("travelled", "regions", detail));
        }
        let event_time = self
            .time
            .as_deref()
            .map_or(Ok(now), |text| past_time("time", text, now))?;
        Ok(Declaration {
            declaration_id,
            person,
            kind: self.kind,
            organisation: self.organisation,
            person_type: self.person_type,
            residence: self.residence,
            symptoms: self.symptoms.into_iter().collect(),
            contact: self.contact,
            travelled: self.travelled,
            note: self.note,
            event_time,
            received_at: now,
            supplied_by,
            synthetic: self.synthetic,
        })
    }
}
