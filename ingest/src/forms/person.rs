//! An enrolment as the identity service sends it (P7, P8).

use scan_model::enrolment::{Enrolment, Sex, Verification, normalise_name};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::person::{PendingHash, PendingIdentity, PersonHashes, PersonHashing};
use scan_model::{DocumentKind, Identity, PersonId, PersonKey, Timestamp};
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

/// A person as a line of CSV: the same fields, the document's among them, and those of the document that it renews, which is of the same
/// kind unless it says another. Empty ones are left out.
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
    #[serde(default)]
    renews_kind: Option<DocumentKind>,
    renews_number: Option<Text<'a>>,
    renews_issuer: Option<Text<'a>>,
    renews_issue_count: Option<Text<'a>>,
}

impl<'a> PersonRow<'a> {
    /// The document that this one renews, where any column speaks of one.
    fn renews(&mut self) -> Option<DocumentForm<Text<'a>>> {
        let number = self.renews_number.take();
        let issuer = self.renews_issuer.take();
        let issue_count = self.renews_issue_count.take();
        let speaks_of_one = self.renews_kind.is_some()
            || number.is_some()
            || issuer.is_some()
            || issue_count.is_some();
        speaks_of_one.then(|| DocumentForm {
            kind: self.renews_kind.unwrap_or(self.kind),
            number: number.unwrap_or_default(),
            issuer,
            issue_count,
        })
    }
}

/// Persons as items of a request.
pub struct Persons;

impl Items for Persons {
    type Form<'a> = PersonForm<'a>;
    type Row<'a> = PersonRow<'a>;

    fn from_row(mut row: Self::Row<'_>) -> Self::Form<'_> {
        let renews = row.renews();
        PersonForm {
            document: DocumentForm {
                kind: row.kind,
                number: row.number,
                issuer: row.issuer,
                issue_count: row.issue_count,
            },
            renews,
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

impl Persons {
    /// Hashing with room for the persons of a body, each of at least some 48 bytes.
    pub fn hashing(key: &PersonKey, body: &[u8]) -> PersonHashing {
        key.batch(body.len() / 48)
    }
}

/// An enrolment whose hashes are being computed.
pub struct EnrolmentDraft {
    /// The enrolment. Its identity and its hashes are nobody's until the draft is [complete](Self::complete).
    pub enrolment: Enrolment,
    identity: PendingIdentity,
    name_hash: PendingHash,
    phone_hash: Option<PendingHash>,
    renewed: Option<PendingIdentity>,
}

impl EnrolmentDraft {
    /// Fills in the hashes; answers the identity of the earlier document that this one renews (P1).
    pub fn complete(&mut self, hashes: &PersonHashes) -> Option<Identity> {
        self.enrolment.identity = hashes.identity(self.identity);
        self.enrolment.name_hash = hashes.text(self.name_hash);
        self.enrolment.phone_hash = self.phone_hash.map(|hash| hashes.text(hash));
        self.renewed.map(|renewed| hashes.identity(renewed))
    }
}

/// Stands where an identity is being computed.
const PENDING: Identity = Identity {
    person: PersonId(0),
    check: 0,
};

impl PersonForm<'_> {
    /// Validates the form and makes it a record without document number, name or phone (Y4), whose hashes are computed with others.
    pub fn into_draft(
        self,
        hashing: &mut PersonHashing,
        now: Timestamp,
    ) -> Result<EnrolmentDraft, Problem> {
        let renewed = match &self.renews {
            Some(renews) => Some(
                renews
                    .parse(now)
                    .map_err(|problem| problem.moved("document", "renews"))?,
            ),
            None => None,
        };
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
        let name_hash = hashing.hash_text("name", &normalise_name(self.name.as_ref()));
        let phone_hash = normal_phone.map(|phone| hashing.hash_text("phone", &phone));
        Ok(EnrolmentDraft {
            identity: hashing.identify(&document),
            renewed: renewed.map(|renewed| hashing.identify(&renewed)),
            name_hash,
            phone_hash,
            enrolment: Enrolment {
                identity: PENDING,
                verification: self.verification.unwrap_or(default_verification),
                sex,
                birth_year,
                name,
                phone,
                name_hash: 0,
                phone_hash: None,
                residence: self.residence,
                recorded_at: now,
                synthetic: self.synthetic,
                change: 1,
            },
        })
    }
}
