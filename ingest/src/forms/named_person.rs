//! A person as a request names them: by id, or by document.

use scan_model::{PersonId, PersonKey, Timestamp};
use status_cache::{PersonStatus, StatusCache};

use super::DocumentForm;
use crate::problem::Problem;

/// Whom a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedPerson {
    /// The id.
    pub person: PersonId,
    /// Further keyed bits, where a document was given: they tell two documents of one id apart (P1).
    residue: Option<u16>,
}

impl NamedPerson {
    /// The person whom `person` or `document` names; exactly one of them must be given.
    pub fn of(
        person: Option<&str>,
        document: Option<&DocumentForm>,
        key: &PersonKey,
        cache: &StatusCache,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        match (person, document) {
            (Some(id), None) => {
                let person = id.parse().map_err(|_| {
                    Problem::field("person", "person_id", "must be 16 hexadecimal digits")
                })?;
                Ok(Self {
                    person,
                    residue: None,
                })
            }
            (None, Some(document)) => {
                // A renewed document names the person who was enrolled under the earlier one.
                let identity = cache.resolve(key.identify(&document.parse(now)?));
                Ok(Self {
                    person: identity.person,
                    residue: Some(identity.residue()),
                })
            }
            _ => Err(Problem::field(
                "person",
                "exactly_one",
                "give either person or document",
            )),
        }
    }

    /// The status of the person, who must be enrolled.
    pub fn enrolled(&self, cache: &StatusCache, now: Timestamp) -> Result<PersonStatus, Problem> {
        let is_same =
            |status: &PersonStatus| self.residue.is_none_or(|residue| residue == status.residue);
        cache.get(self.person, now).filter(is_same).ok_or_else(|| {
            Problem::unknown("person", "nobody is enrolled under this person or document")
        })
    }
}

#[cfg(test)]
mod tests {
    use scan_model::Enrolment;
    use scan_model::enrolment::{Sex, Verification};
    use scan_model::mask::MaskedName;
    use scan_model::person::Identity;

    use super::*;

    #[test]
    fn p1_another_document_of_the_same_id_names_nobody() {
        let cache = StatusCache::new(10).unwrap();
        let identity = Identity {
            person: PersonId(7),
            check: 0x1234,
        };
        let enrolment = Enrolment {
            identity,
            verification: Verification::FaceChecked,
            sex: Sex::Female,
            birth_year: None,
            name: MaskedName::of("张伟").unwrap(),
            phone: None,
            name_hash: 1,
            phone_hash: None,
            residence: None,
            recorded_at: Timestamp(0),
            synthetic: false,
            change: 1,
        };
        cache.apply_enrolment(&enrolment).unwrap();
        let named = |residue| NamedPerson {
            person: identity.person,
            residue,
        };
        let now = Timestamp::now();
        assert!(named(None).enrolled(&cache, now).is_ok());
        assert!(named(Some(0x1234)).enrolled(&cache, now).is_ok());
        let refused = named(Some(0x1235)).enrolled(&cache, now).err().unwrap();
        assert_eq!(refused.status(), 422);
    }
}
