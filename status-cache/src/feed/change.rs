//! What a record of one of the topics changes.

use event_log::StoredRecord;
use scan_model::codec::{self, CodecError};
use scan_model::{Alias, CodeRevocation, Declaration, Enrolment, Fact, PersonId, alias};

use crate::cache::{Applied, Turn};
use crate::positions::StatusTopic;
use crate::table::TableFull;

/// A record of one of the topics.
pub(super) enum Change {
    Enrolment(Enrolment),
    Alias(Alias),
    Fact(Fact),
    Revocation(CodeRevocation),
    Declaration(Declaration),
}

impl Change {
    /// Nothing where the record is a tombstone.
    pub(super) fn decode(
        topic: StatusTopic,
        record: &StoredRecord,
    ) -> Result<Option<Self>, CodecError> {
        let Some(value) = &record.record.value else {
            return Ok(None);
        };
        Ok(Some(match topic {
            StatusTopic::Persons if value.first() >= Some(&alias::FIRST_VERSION) => {
                Self::Alias(codec::decode(value)?)
            }
            StatusTopic::Persons => Self::Enrolment(codec::decode(value)?),
            StatusTopic::Facts => Self::Fact(codec::decode(value)?),
            StatusTopic::CodeRevocations => Self::Revocation(codec::decode(value)?),
            StatusTopic::Declarations => Self::Declaration(codec::decode(value)?),
        }))
    }

    pub(super) const fn person(&self) -> PersonId {
        match self {
            Self::Enrolment(enrolment) => enrolment.identity.person,
            Self::Alias(alias) => alias.identity.person,
            Self::Fact(fact) => fact.person,
            Self::Revocation(revocation) => revocation.person,
            Self::Declaration(declaration) => declaration.person,
        }
    }

    /// The person in whose segment the change takes effect.
    pub(super) fn segment_person(&self, turn: &Turn<'_>) -> PersonId {
        match self {
            Self::Fact(_) | Self::Declaration(_) => turn.person(self.person()),
            Self::Enrolment(_) | Self::Alias(_) | Self::Revocation(_) => self.person(),
        }
    }

    pub(super) fn apply(self, turn: &mut Turn<'_>) -> Result<Applied, TableFull> {
        match self {
            Self::Enrolment(enrolment) => turn.apply_enrolment(&enrolment),
            Self::Alias(alias) => Ok(turn.apply_alias(&alias)),
            Self::Fact(fact) => Ok(turn.apply_fact(fact)),
            Self::Revocation(revocation) => Ok(turn.apply_revocation(&revocation)),
            Self::Declaration(declaration) => Ok(turn.apply_declaration(&declaration)),
        }
    }
}
