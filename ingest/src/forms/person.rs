//! An enrolment as the identity service sends it (P7, P8).

use scan_model::enrolment::{Enrolment, Sex, Verification, normalise_name};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::{DocumentKind, Identity, PersonKey, Timestamp};
use serde::Deserialize;

use super::{DocumentForm, Text, check_residence};
use crate::bulk::rows::Items;
use crate::problem::Problem;

/// A person.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonForm<'a> {
    #[serde(borrow)]
    document: DocumentForm<Text<'a>>,
    #[serde(borrow)]
    renews: Option<DocumentForm<Text<'a>>>,
    name: Text<'a>,
    phone: Option<Text<'a>>,
    #[serde(default)]
    sex: Option<Sex>,
    #[serde(default)]
    birth_year: Option<u16>,
    #[serde(default)]
    verification: Option<Verification>,
    #[serde(default)]
    residence: Option<u32>,
    #[serde(default)]
    synthetic: bool,
}

/// A person as a line of CSV: the same fields, the document's among them. Empty ones are left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonRow<'a> {
    kind: DocumentKind,
    #[serde(borrow)]
    number: Text<'a>,
    issuer: Option<Text<'a>>,
    issue_count: Option<Text<'a>>,
    name: Text<'a>,
    phone: Option<Text<'a>>,
    #[serde(default)]
    sex: Option<Sex>,
    #[serde(default)]
    birth_year: Option<u16>,
    #[serde(default)]
    verification: Option<Verification>,
    #[serde(default)]
    residence: Option<u32>,
    #[serde(default)]
    synthetic: Option<bool>,
}

/// Persons as items of a request.
pub struct Persons;

impl Items for Persons {
    type Form<'a> = PersonForm<'a>;
    type Row<'a> = PersonRow<'a>;

    fn from_row(row: Self::Row<'_>) -> Self::Form<'_> {
        PersonForm {
            document: DocumentForm {
                kind: row.kind,
                number: row.number,
                issuer: row.issuer,
                issue_count: row.issue_count,
            },
            renews: None,
            name: row.name,
            phone: row.phone,
            sex: row.sex,
            birth_year: row.birth_year,
            verification: row.verification,
            residence: row.residence,
            synthetic: row.synthetic.unwrap_or(false),
        }
    }
}

impl PersonForm<'_> {
    /// The identity of the earlier document that this one renews (P1).
    pub fn renewed(&self, key: &PersonKey, now: Timestamp) -> Result<Option<Identity>, Problem> {
        let Some(renews) = &self.renews else {
            return Ok(None);
        };
        let document = renews
            .parse(now)
            .map_err(|problem| problem.moved("document", "renews"))?;
        Ok(Some(key.identify(&document)))
    }

    /// Validates the form and makes it a record without document number, name or phone (Y4).
    pub fn into_enrolment(self, key: &PersonKey, now: Timestamp) -> Result<Enrolment, Problem> {
        let document = self.document.parse(now)?;
        let name = MaskedName::of(self.name.as_ref())
            .map_err(|error| Problem::field("name", "name", error.to_string()))?;
        let phone = self
            .phone
            .as_ref()
            .map(|phone| MaskedPhone::read(phone.as_ref()))
            .transpose()
            .map_err(|error| Problem::field("phone", "phone", error.to_string()))?;
        let (phone, normal_phone) = phone.unzip();
        let (birth_year, sex) = match document.birth_year_and_sex() {
            Some((year, sex)) => {
                if self
                    .sex
                    .is_some_and(|stated| stated != sex && stated != Sex::Unknown)
                {
                    let detail = "must agree with the resident ID, or be left out";
                    return Err(Problem::field("sex", "agrees_with_document", detail));
                }
                if self.birth_year.is_some_and(|stated| stated != year) {
                    let detail = "must agree with the resident ID, or be left out";
                    return Err(Problem::field("birth_year", "agrees_with_document", detail));
                }
                (Some(year), sex)
            }
            None => (self.birth_year, self.sex.unwrap_or_default()),
        };
        let this_year = now.shanghai_year() as u16;
        if birth_year.is_some_and(|year| !(1890..=this_year).contains(&year)) {
            let detail = format!("must lie between 1890 and {this_year}");
            return Err(Problem::field("birth_year", "range", detail));
        }
        check_residence(self.residence)?;
        let default_verification = if document.is_entrant() {
            Verification::NameMatched
        } else {
            Verification::FaceChecked
        };
        Ok(Enrolment {
            identity: key.identify(&document),
            verification: self.verification.unwrap_or(default_verification),
            sex,
            birth_year,
            name,
            phone,
            name_hash: key.hash_text("name", &normalise_name(self.name.as_ref())),
            phone_hash: normal_phone.map(|phone| key.hash_text("phone", &phone)),
            residence: self.residence,
            recorded_at: now,
            synthetic: self.synthetic,
            change: 1,
        })
    }
}
