//! Which documents are later ones of people who are enrolled under an earlier one, read without a lock (P1).

use foldhash::fast::RandomState;
use papaya::HashMap;
use scan_model::{Alias, Identity, PersonId};

use crate::table::{SEGMENTS, segment_of};

/// Bytes of a packed alias: id, residue, the person's id and check.
pub(crate) const PACKED_LENGTH: usize = 34;

/// What is kept of an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    residue: u16,
    of: Identity,
}

/// Aliases by the later document's id, in the table's segments.
pub struct Aliases {
    segments: Box<[HashMap<PersonId, Known, RandomState>]>,
}

impl Default for Aliases {
    fn default() -> Self {
        Self {
            segments: (0..SEGMENTS)
                .map(|_| HashMap::with_hasher(RandomState::default()))
                .collect(),
        }
    }
}

impl Aliases {
    /// The identity under which the person of a document is enrolled: the document's own, or that of the earlier document.
    pub fn resolve(&self, identity: Identity) -> Identity {
        let known = self.get(identity.person);
        known
            .filter(|known| known.residue == identity.residue())
            .map_or(identity, |known| known.of)
    }

    /// Whether the id of a document stands for the person of another document, with the same id by chance (P1).
    pub fn is_another_s(&self, identity: Identity) -> bool {
        let known = self.get(identity.person);
        known.is_some_and(|known| known.residue != identity.residue())
    }

    /// The person whom an id stands for.
    pub fn person(&self, id: PersonId) -> PersonId {
        self.get(id).map_or(id, |known| known.of.person)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.segments.iter().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, id: PersonId) -> Option<Known> {
        let segment = &self.segments[segment_of(id)];
        if segment.is_empty() {
            return None;
        }
        segment.pin().get(&id).copied()
    }

    /// Takes an alias in, or answers with the identity that the id stands for already.
    pub(crate) fn put(&self, alias: &Alias) -> Result<(), Identity> {
        let id = alias.identity.person;
        let known = Known {
            residue: alias.identity.residue(),
            of: alias.of,
        };
        match self.get(id) {
            Some(earlier) if earlier != known => Err(earlier.of),
            _ => {
                self.segments[segment_of(id)].pin().insert(id, known);
                Ok(())
            }
        }
    }

    /// The aliases of a segment, packed for a snapshot.
    pub(crate) fn copy_segment(&self, segment: usize) -> Vec<[u8; PACKED_LENGTH]> {
        let pinned = self.segments[segment].pin();
        pinned
            .iter()
            .map(|(id, known)| {
                let mut packed = [0; PACKED_LENGTH];
                packed[..8].copy_from_slice(&id.0.to_le_bytes());
                packed[8..10].copy_from_slice(&known.residue.to_le_bytes());
                packed[10..18].copy_from_slice(&known.of.person.0.to_le_bytes());
                packed[18..].copy_from_slice(&known.of.check.to_le_bytes());
                packed
            })
            .collect()
    }

    /// Takes a packed alias in; answers its id and the person's.
    pub(crate) fn restore(&self, packed: &[u8; PACKED_LENGTH]) -> (PersonId, PersonId) {
        let number = |bytes: &[u8]| {
            let padded = bytes.iter().rev();
            padded.fold(0_u128, |number, byte| number << 8 | u128::from(*byte))
        };
        let id = PersonId(number(&packed[..8]) as u64);
        let of = Identity {
            person: PersonId(number(&packed[10..18]) as u64),
            check: number(&packed[18..]),
        };
        let residue = number(&packed[8..10]) as u16;
        let known = Known { residue, of };
        self.segments[segment_of(id)].pin().insert(id, known);
        (id, of.person)
    }

    /// Every id with the person whom it stands for.
    pub(crate) fn all(&self) -> Vec<(PersonId, PersonId)> {
        let segments = self.segments.iter();
        segments
            .flat_map(|segment| {
                let pinned = segment.pin();
                let pairs: Vec<_> = pinned.iter().map(|(id, k)| (*id, k.of.person)).collect();
                pairs
            })
            .collect()
    }
}
