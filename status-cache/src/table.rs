//! An open-addressed table of resident records, read without a lock.
//!
//! Linear probing from `id × slots / 2⁶⁴`; ids are keyed hashes, so they are spread already. Records are never removed, so
//! a probe ends at the record or at the first free slot, whichever comes first, and no probe is longer than the table's
//! longest run. Writers take turns under a mutex of the [cache](crate::cache); readers see a record only once its id
//! is published, last of its words.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use scan_model::PersonId;

use crate::layout::{Decision, PersonWord, ShownWord};

/// Records to slots, in hundredths.
const MAX_LOAD_PERCENT: usize = 85;

/// No further person fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the status table is configured for {capacity} persons and is full; raise persons.capacity and restart"
)]
pub struct TableFull {
    /// The configured number of persons.
    pub capacity: usize,
}

#[repr(align(32))]
struct Slot {
    id: AtomicU64,
    decision: AtomicU64,
    person: AtomicU64,
    shown: AtomicU64,
}

/// What a reader finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Word 1.
    pub decision: Decision,
    /// Word 2, as new as the decision or newer.
    pub person: PersonWord,
    /// Word 3, as new as the decision or newer.
    pub shown: ShownWord,
}

/// The table.
pub struct Table {
    slots: Box<[Slot]>,
    capacity: usize,
    count: AtomicUsize,
}

impl Table {
    /// A table for up to `capacity` persons.
    pub fn new(capacity: usize) -> Self {
        let slots = (capacity * 100).div_ceil(MAX_LOAD_PERCENT).max(8);
        let empty = || Slot {
            id: AtomicU64::new(0),
            decision: AtomicU64::new(0),
            person: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        };
        Self {
            slots: (0..slots).map(|_| empty()).collect(),
            capacity,
            count: AtomicUsize::new(0),
        }
    }

    /// Persons in it.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the table occupies.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The record of a person. Reads memory only, in bounded steps (INV-2).
    pub fn get(&self, id: PersonId) -> Option<Resident> {
        let slot = self.find(id).ok()?;
        let decision = Decision(slot.decision.load(Ordering::Acquire));
        Some(Resident {
            decision,
            person: PersonWord(slot.person.load(Ordering::Relaxed)),
            shown: ShownWord(slot.shown.load(Ordering::Relaxed)),
        })
    }

    /// Writes a person's record, in the order that [`Self::get`] relies on. One writer at a time.
    ///
    /// # Errors
    /// [`TableFull`] where the person is new and no more fit.
    pub(crate) fn put(&self, id: PersonId, resident: Resident) -> Result<(), TableFull> {
        match self.find(id) {
            Ok(slot) => {
                slot.person.store(resident.person.0, Ordering::Relaxed);
                slot.shown.store(resident.shown.0, Ordering::Relaxed);
                slot.decision.store(resident.decision.0, Ordering::Release);
            }
            Err(free) => {
                if self.len() >= self.capacity {
                    return Err(TableFull {
                        capacity: self.capacity,
                    });
                }
                free.person.store(resident.person.0, Ordering::Relaxed);
                free.shown.store(resident.shown.0, Ordering::Relaxed);
                free.decision.store(resident.decision.0, Ordering::Relaxed);
                free.id.store(id.0, Ordering::Release);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Every record, for a snapshot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PersonId, Resident)> {
        self.slots.iter().filter_map(|slot| {
            let id = slot.id.load(Ordering::Acquire);
            (id != 0).then(|| {
                let decision = Decision(slot.decision.load(Ordering::Acquire));
                let person = PersonWord(slot.person.load(Ordering::Relaxed));
                let shown = ShownWord(slot.shown.load(Ordering::Relaxed));
                (
                    PersonId(id),
                    Resident {
                        decision,
                        person,
                        shown,
                    },
                )
            })
        })
    }

    /// The person's slot, or the free slot where the person would go.
    fn find(&self, id: PersonId) -> Result<&Slot, &Slot> {
        let slots = self.slots.len();
        let mut index = (u128::from(id.0) * slots as u128 >> 64) as usize;
        loop {
            let slot = &self.slots[index];
            match slot.id.load(Ordering::Acquire) {
                found if found == id.0 => return Ok(slot),
                // Always reached: at least 15 % of the slots stay free.
                0 => return Err(slot),
                _ => index = if index + 1 == slots { 0 } else { index + 1 },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(value: u64) -> Resident {
        Resident {
            decision: Decision(value),
            person: PersonWord(value),
            shown: ShownWord(value),
        }
    }

    #[test]
    fn a_record_is_32_bytes() {
        assert_eq!(size_of::<Slot>(), 32);
        let table = Table::new(85_000);
        assert_eq!(table.bytes(), 100_000 * 32);
    }

    #[test]
    fn everyone_put_in_is_found_and_no_one_else() {
        let table = Table::new(1000);
        let id = |n: u64| PersonId(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for n in 1..=1000 {
            table.put(id(n), resident(n)).unwrap();
        }
        for n in 1..=1000 {
            assert_eq!(table.get(id(n)), Some(resident(n)));
        }
        assert_eq!(table.get(id(1001)), None);
        assert_eq!(
            table.put(id(1001), resident(0)),
            Err(TableFull { capacity: 1000 })
        );
        assert!(
            table.put(id(7), resident(8)).is_ok(),
            "a full table still takes updates"
        );
    }

    #[test]
    fn ids_at_the_end_of_the_range_wrap_around() {
        let table = Table::new(20);
        for n in 0..20 {
            table.put(PersonId(u64::MAX - n), resident(n)).unwrap();
        }
        assert!((0..20).all(|n| table.get(PersonId(u64::MAX - n)) == Some(resident(n))));
    }

    #[test]
    fn inv2_a_reader_beside_a_writer_never_sees_a_torn_decision() {
        let table = Table::new(64);
        let id = PersonId(42);
        table.put(id, resident(0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..200_000_u64 {
                    table.put(id, resident(n << 32 | n)).unwrap();
                }
            });
            scope.spawn(|| {
                let mut newest = 0;
                while newest < 199_999 {
                    let found = table.get(id).unwrap();
                    let decision = found.decision.0;
                    assert_eq!(decision >> 32, decision & 0xFFFF_FFFF);
                    assert!(
                        found.person.0 >= decision,
                        "details are as new as the decision"
                    );
                    newest = decision & 0xFFFF_FFFF;
                }
            });
        });
    }
}
