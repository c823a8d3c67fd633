//! A fact as a feed sends it (S4).

use scan_model::fact::MAX_TEXT;
use scan_model::{Category, Fact, PersonId, PersonKey, Timestamp};
use serde::Deserialize;

use super::{DocumentForm, time};
use crate::problem::Problem;

/// A fact about a person, named by id or by document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactForm {
    #[serde(default)]
    person: Option<String>,
    #[serde(default)]
    document: Option<DocumentForm>,
    category: Category,
    source: String,
    reference: String,
    #[serde(default)]
    effective: Option<String>,
    #[serde(default)]
    expiry: Option<String>,
    #[serde(default)]
    withdrawn: bool,
    #[serde(default)]
    note: String,
}

/// The person whom `person` or `document` names; exactly one of them must be given.
pub fn named_person(
    person: Option<&str>,
    document: Option<&DocumentForm>,
    key: &PersonKey,
    now: Timestamp,
) -> Result<PersonId, Problem> {
    match (person, document) {
        (Some(id), None) => id
            .parse()
            .map_err(|_| Problem::field("person", "person_id", "must be 16 hexadecimal digits")),
        (None, Some(document)) => Ok(key.identify(&document.parse(now)?).person),
        _ => Err(Problem::field(
            "person",
            "exactly_one",
            "give either person or document",
        )),
    }
}

impl FactForm {
    /// Validates the form; the record's change number is the caller's to set.
    pub fn into_fact(
        self,
        key: &PersonKey,
        supplied_by: u64,
        now: Timestamp,
    ) -> Result<Fact, Problem> {
        let person = named_person(self.person.as_deref(), self.document.as_ref(), key, now)?;
        for (field, text, least) in [
            ("source", &self.source, 1),
            ("reference", &self.reference, 1),
            ("note", &self.note, 0),
        ] {
            if text.len() < least || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                let detail = format!(
                    "must have {least} to {MAX_TEXT} bytes, none of them control characters"
                );
                return Err(Problem::field(field, "text", detail));
            }
        }
        let effective = self
            .effective
            .as_deref()
            .map_or(Ok(now), |text| time("effective", text))?;
        let stated = self
            .expiry
            .as_deref()
            .map(|text| time("expiry", text))
            .transpose()?;
        if stated.is_some_and(|expiry| expiry <= effective) {
            let detail = "must be later than effective; send withdrawn to end a fact now";
            return Err(Problem::field("expiry", "after_effective", detail));
        }
        let expiry = if self.withdrawn {
            Some(now.max(effective))
        } else {
            stated
        };
        Ok(Fact {
            person,
            category: self.category,
            source: self.source,
            reference: self.reference,
            effective,
            expiry,
            recorded_at: now,
            supplied_by,
            note: self.note,
            change: 0,
        })
    }
}
