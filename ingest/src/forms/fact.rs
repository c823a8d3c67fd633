//! A fact as a feed sends it (S4).

use scan_model::fact::MAX_TEXT;
use scan_model::{Category, DocumentKind, Fact, PersonId, PersonKey, Timestamp};
use serde::Deserialize;
use status_cache::StatusCache;

use super::{DocumentForm, NamedPerson, time};
use crate::bulk::rows::Items;
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

/// A fact as a line of CSV; the person by id, or by the document's fields. Empty ones are left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRow {
    #[serde(default)]
    person: Option<String>,
    #[serde(default)]
    kind: Option<DocumentKind>,
    #[serde(default)]
    number: Option<String>,
    #[serde(default)]
    issuer: Option<String>,
    category: Category,
    source: String,
    reference: String,
    #[serde(default)]
    effective: Option<String>,
    #[serde(default)]
    expiry: Option<String>,
    #[serde(default)]
    withdrawn: Option<bool>,
    #[serde(default)]
    note: Option<String>,
}

/// Facts as items of a request.
pub struct Facts;

impl Items for Facts {
    type Form<'a> = FactForm;
    type Row<'a> = FactRow;

    fn from_row(row: Self::Row<'_>) -> Self::Form<'_> {
        let document = row.kind.map(|kind| DocumentForm {
            kind,
            number: row.number.unwrap_or_default(),
            issuer: row.issuer,
            issue_count: None,
        });
        FactForm {
            person: row.person,
            document,
            category: row.category,
            source: row.source,
            reference: row.reference,
            effective: row.effective,
            expiry: row.expiry,
            withdrawn: row.withdrawn.unwrap_or(false),
            note: row.note.unwrap_or_default(),
        }
    }
}

impl FactForm {
    /// Whom the fact is about.
    pub fn named(
        &self,
        key: &PersonKey,
        cache: &StatusCache,
        now: Timestamp,
    ) -> Result<NamedPerson, Problem> {
        let (person, document) = (self.person.as_deref(), self.document.as_ref());
        NamedPerson::of(person, document, key, cache, now)
    }

    /// Validates the rest of the form.
    pub fn into_fact(
        self,
        person: PersonId,
        change: u16,
        supplied_by: u64,
        now: Timestamp,
    ) -> Result<Fact, Problem> {
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
            change,
        })
    }
}
