//! How readers and the one writer share slots without a lock.
//!
//! A *directory word* says which slots are a segment's. The protocol, checked under every interleaving by a model
//! checker in this file's tests:
//!
//! - **Update.** The writer stores words 2 and 3, then word 1 with release order. A reader loads word 1 with acquire
//!   order, then 2 and 3: they are as new as word 1 or newer.
//! - **Insert.** The [reach](super::probe) of the id's home slot, then words 1 to 3, then word 0, the id, with release order. A reader
//!   that meets the id meets its record, and one that has heard of the insert looks far enough.
//! - **Move.** The writer copies a segment into fresh slots, stores the directory word, and only then, behind a fence,
//!   gives the old slots' memory back, which turns them to zeros. A reader loads the directory word before and after; if
//!   it has changed, what was read may be zeros, and the reader begins again. A directory word never returns to an
//!   earlier value, and a segment moves a few dozen times in its life, so a reader's steps are bounded even if the
//!   writer stops for ever, wherever it stops (INV-2).

use std::sync::atomic::Ordering;

use super::probe::{self, Place, RECORD};
use super::words::Word;
use crate::layout::{Decision, PersonWord, ShownWord};

/// A slot: the four words of a resident record. An id of zero marks it free.
#[derive(Default)]
#[repr(C, align(32))]
pub struct Slot<W> {
    pub(super) id: W,
    pub(super) decision: W,
    pub(super) person: W,
    pub(super) shown: W,
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

impl<W: Word> Slot<W> {
    /// The record, if its id has been met in this slot.
    fn read(&self) -> Resident {
        let decision = Decision(self.decision.load(Ordering::Acquire));
        Resident {
            decision,
            person: PersonWord(self.person.load(Ordering::Relaxed) & RECORD),
            shown: ShownWord(self.shown.load(Ordering::Relaxed)),
        }
    }

    /// The four words as the writer knows them, the slot's [reach](super::probe) among them.
    pub(super) fn words(&self) -> [u64; 4] {
        [&self.id, &self.decision, &self.person, &self.shown].map(|w| w.load(Ordering::Relaxed))
    }

    /// Changes the record of an id that is there.
    fn update(&self, resident: Resident) {
        let reach = self.person.load(Ordering::Relaxed) & !RECORD;
        let person = resident.person.0 & RECORD | reach;
        self.person.store(person, Ordering::Relaxed);
        self.shown.store(resident.shown.0, Ordering::Relaxed);
        self.decision.store(resident.decision.0, Ordering::Release);
    }

    /// Fills a free slot.
    pub(super) fn fill(&self, [id, decision, person, shown]: [u64; 4]) {
        self.person.store(person, Ordering::Relaxed);
        self.shown.store(shown, Ordering::Relaxed);
        self.decision.store(decision, Ordering::Relaxed);
        self.id.store(id, Ordering::Release);
    }
}

/// Reads the record of an id. `slots_of` gives the slots that a directory word names.
#[inline]
pub(super) fn read<'s, W: Word + 's>(
    directory: &W,
    slots_of: impl Fn(u64) -> &'s [Slot<W>],
    key: u64,
    id: u64,
) -> Option<Resident> {
    let mut word = directory.load(Ordering::Acquire);
    loop {
        let slots = slots_of(word);
        let found = probe::look(slots, key, id).map(Slot::read);
        W::fence(Ordering::Acquire);
        let now = directory.load(Ordering::Relaxed);
        if now == word {
            return found;
        }
        word = now;
        W::fence(Ordering::Acquire);
    }
}

/// Writes a record where [`probe::find`] says; answers whether the id is new. The one writer alone calls it.
pub(super) fn put<W: Word>(
    slots: &[Slot<W>],
    place: Place,
    key: u64,
    id: u64,
    resident: Resident,
) -> bool {
    match place {
        Place::Taken(index) => {
            slots[index].update(resident);
            false
        }
        Place::Free(index) => {
            let (decision, person, shown) =
                (resident.decision.0, resident.person.0, resident.shown.0);
            insert(slots, index, key, [id, decision, person, shown]);
            true
        }
        Place::Full => false,
    }
}

/// Puts a record into a free slot, after its home slot has been made to reach it. The words may be another slot's.
pub(super) fn insert<W: Word>(slots: &[Slot<W>], index: usize, key: u64, words: [u64; 4]) {
    let [id, decision, person, shown] = words;
    probe::extend(slots, key, index);
    slots[index].fill([id, decision, person & RECORD, shown]);
}

/// Makes fresh slots a segment's. From its return on the old ones may be turned to zeros.
pub(super) fn publish<W: Word>(directory: &W, word: u64) {
    directory.store(word, Ordering::Release);
    W::fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic as checked;

    impl Word for checked::AtomicU64 {
        fn load(&self, order: Ordering) -> u64 {
            Self::load(self, order)
        }

        fn store(&self, value: u64, order: Ordering) {
            Self::store(self, value, order);
        }

        fn fence(order: Ordering) {
            checked::fence(order);
        }
    }

    /// Two buffers of a few slots, which a segment moves between, and its directory word: generation << 1 | buffer.
    struct Model {
        directory: checked::AtomicU64,
        buffers: [Vec<Slot<checked::AtomicU64>>; 2],
    }

    const PERSON: u64 = 1 << 63;
    const NEIGHBOUR: u64 = PERSON | 1;

    const fn resident(value: u64) -> Resident {
        Resident {
            decision: Decision(value),
            person: PersonWord(value),
            shown: ShownWord(value),
        }
    }

    impl Model {
        fn with_slots(count: usize) -> Self {
            let word = || checked::AtomicU64::new(0);
            let slot = || Slot {
                id: word(),
                decision: word(),
                person: word(),
                shown: word(),
            };
            let buffer = || (0..count).map(|_| slot()).collect();
            Self {
                directory: word(),
                buffers: [buffer(), buffer()],
            }
        }

        fn slots(&self, word: u64) -> &[Slot<checked::AtomicU64>] {
            &self.buffers[(word & 1) as usize]
        }

        fn put(&self, word: u64, value: u64) {
            let slots = self.slots(word);
            let place = probe::find(slots, PERSON, PERSON);
            put(slots, place, PERSON, PERSON, resident(value));
        }

        /// Puts somebody else, whose probe begins where the person's does and who lies beyond.
        fn put_neighbour(&self, word: u64, value: u64) {
            let slots = self.slots(word);
            let place = probe::find(slots, NEIGHBOUR, NEIGHBOUR);
            put(slots, place, NEIGHBOUR, NEIGHBOUR, resident(value));
        }

        fn get_neighbour(&self) -> Option<Resident> {
            let slots_of = |word| self.slots(word);
            read(&self.directory, slots_of, NEIGHBOUR, NEIGHBOUR)
        }

        fn get(&self) -> Option<Resident> {
            read(&self.directory, |word| self.slots(word), PERSON, PERSON)
        }

        fn discard(&self, word: u64) {
            for slot in self.slots(word) {
                for word in [&slot.id, &slot.decision, &slot.person, &slot.shown] {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }

        fn advance(&self, from: u64, value: u64) -> u64 {
            let to = (from & !1) + 2 | (from & 1 ^ 1);
            self.put(to, value);
            publish(&self.directory, to);
            self.discard(from);
            to
        }
    }

    fn check(found: Option<Resident>, oldest: u64) -> u64 {
        let found = found.expect("an enrolled person is found");
        assert!(found.decision.0 >= oldest, "an answer went back in time");
        assert!(found.person.0 >= found.decision.0);
        assert!(found.shown.0 >= found.decision.0);
        found.decision.0
    }

    #[test]
    fn inv2_no_interleaving_of_updates_shows_a_torn_or_an_older_record() {
        loom::model(|| {
            let model = Arc::new(Model::with_slots(1));
            model.put(0, 1);
            let reader = Arc::clone(&model);
            let reader = loom::thread::spawn(move || {
                let first = check(reader.get(), 1);
                check(reader.get(), first);
            });
            model.put(0, 2);
            model.put(0, 3);
            reader.join().unwrap();
        });
    }

    #[test]
    fn inv2_no_interleaving_of_an_insert_shows_half_a_record() {
        loom::model(|| {
            let model = Arc::new(Model::with_slots(1));
            let reader = Arc::clone(&model);
            let reader = loom::thread::spawn(move || {
                if let Some(found) = reader.get() {
                    check(Some(found), 1);
                }
            });
            model.put(0, 1);
            reader.join().unwrap();
        });
    }

    #[test]
    fn inv2_no_interleaving_hides_one_beyond_its_home_from_a_reader_who_has_heard_of_it() {
        loom::model(|| {
            let model = Arc::new(Model::with_slots(2));
            let told = Arc::new(checked::AtomicU64::new(0));
            model.put(0, 1);
            let (reader, heard) = (Arc::clone(&model), Arc::clone(&told));
            let reader = loom::thread::spawn(move || {
                let has_heard = Word::load(&*heard, Ordering::Acquire) == 1;
                let found = reader.get_neighbour();
                assert!(found.is_some() || !has_heard, "an insert was not seen");
                if let Some(found) = found {
                    check(Some(found), 1);
                }
                check(reader.get(), 1);
            });
            model.put_neighbour(0, 1);
            Word::store(&*told, 1, Ordering::Release);
            model.put(0, 2);
            reader.join().unwrap();
            assert!(model.get_neighbour().is_some(), "an update lost the reach");
        });
    }

    #[test]
    fn inv2_no_interleaving_of_a_move_loses_a_person_or_shows_zeros() {
        loom::model(|| {
            let model = Arc::new(Model::with_slots(1));
            model.put(0, 1);
            let reader = Arc::clone(&model);
            let reader = loom::thread::spawn(move || {
                check(reader.get(), 1);
            });
            model.advance(0, 1);
            reader.join().unwrap();
        });
    }

    #[test]
    fn inv2_no_interleaving_of_two_moves_and_an_update_misleads_a_reader() {
        let mut checker = loom::model::Builder::new();
        checker.preemption_bound = Some(3);
        checker.check(|| {
            let model = Arc::new(Model::with_slots(1));
            model.put(0, 1);
            let reader = Arc::clone(&model);
            let reader = loom::thread::spawn(move || {
                check(reader.get(), 1);
            });
            let moved = model.advance(0, 1);
            model.put(moved, 2);
            model.advance(moved, 2);
            reader.join().unwrap();
        });
    }
}
