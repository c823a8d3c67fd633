//! Where a person is looked for, and for how long.
//!
//! A probe is linear: from the home slot of a key on, at most once round, to the record or to the first free slot. In a table that is
//! nearly full the free slot is some thirty slots away, and more where it is fullest, so one who is not there would be looked for over a
//! kilobyte of memory. Each slot therefore states its *reach*: how many slots beyond it the farthest record lies whose probe begins at
//! it. A reader goes no farther. At the mean load two of five slots begin no probe at all, and state zero.
//!
//! The reach is of the slot and not of the record in it, and lies in bits of word 2 that no record uses. It only grows, before the record
//! for which it grows is there: a reader who may know of a record meets a reach that spans it.

use std::sync::atomic::Ordering;

use super::protocol::Slot;
use super::words::Word;

/// Where the reach lies in word 2.
const REACH_SHIFT: u32 = 56;
/// The bits of word 2 that are a record's.
pub(super) const RECORD: u64 = (1 << REACH_SHIFT) - 1;
/// A reach of so many slots or more: as far as the first free slot.
const FAR: u64 = 0xFF;

/// Where a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The id is in this slot.
    Taken(usize),
    /// The id is nowhere; it would go into this slot.
    Free(usize),
    /// Every slot is taken by others.
    Full,
}

/// Where the probe for a key begins. Keys are spread over 64 bits, so each slot begins equally many probes.
#[inline]
pub(super) const fn home(slots: usize, key: u64) -> usize {
    ((key as u128 * slots as u128) >> 64) as usize
}

/// Probes for an id as a writer does: to the id or to the first free slot.
#[inline]
pub(super) fn find<W: Word>(slots: &[Slot<W>], key: u64, id: u64) -> Place {
    let (before, after) = slots.split_at(home(slots.len(), key));
    let begins_at = before.len();
    for (index, slot) in after.iter().enumerate() {
        match slot.id.load(Ordering::Acquire) {
            found if found == id => return Place::Taken(begins_at + index),
            0 => return Place::Free(begins_at + index),
            _ => {}
        }
    }
    for (index, slot) in before.iter().enumerate() {
        match slot.id.load(Ordering::Acquire) {
            found if found == id => return Place::Taken(index),
            0 => return Place::Free(index),
            _ => {}
        }
    }
    Place::Full
}

/// Probes for an id as a reader does: as far as its home slot reaches.
#[inline]
pub(super) fn look<W: Word>(slots: &[Slot<W>], key: u64, id: u64) -> Option<&Slot<W>> {
    let (before, after) = slots.split_at(home(slots.len(), key));
    let (home, beyond) = after.split_first()?;
    match home.id.load(Ordering::Acquire) {
        found if found == id => return Some(home),
        0 => return None,
        _ => {}
    }
    let reach = reach_of(home);
    let straight = &beyond[..reach.min(beyond.len())];
    let round = &before[..(reach - straight.len()).min(before.len())];
    for slots in [straight, round] {
        for slot in slots {
            match slot.id.load(Ordering::Acquire) {
                found if found == id => return Some(slot),
                0 => return None,
                _ => {}
            }
        }
    }
    None
}

/// Has the home slot of a key reach the slot of an index, into which its record is about to go.
#[inline]
pub(super) fn extend<W: Word>(slots: &[Slot<W>], key: u64, index: usize) {
    let home = home(slots.len(), key);
    if index == home {
        return;
    }
    let beyond = if index >= home {
        index - home
    } else {
        slots.len() - home + index
    };
    let reach = (beyond as u64).min(FAR);
    let person = slots[home].person.load(Ordering::Relaxed);
    if reach > person >> REACH_SHIFT {
        slots[home]
            .person
            .store(person & RECORD | reach << REACH_SHIFT, Ordering::Relaxed);
    }
}

/// Slots beyond this one in which the records lie whose probes begin here.
#[inline]
fn reach_of<W: Word>(slot: &Slot<W>) -> usize {
    match slot.person.load(Ordering::Relaxed) >> REACH_SHIFT {
        FAR => usize::MAX,
        reach => reach as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU64;

    fn empty(slots: usize) -> Vec<Slot<AtomicU64>> {
        (0..slots).map(|_| Slot::default()).collect()
    }

    fn insert(slots: &[Slot<AtomicU64>], key: u64) {
        let Place::Free(index) = find(slots, key, key) else {
            panic!("{key} found no free slot")
        };
        extend(slots, key, index);
        slots[index].fill([key, 1, 2, 3]);
    }

    /// Keys that begin at the first slots, at the last ones, and anywhere: long probes, and such as go round.
    fn keys() -> impl Strategy<Value = Vec<u64>> {
        let key = prop_oneof![
            1..u64::MAX >> 6,
            u64::MAX - (u64::MAX >> 7)..u64::MAX,
            1..u64::MAX
        ];
        proptest::collection::hash_set(key, 1..600).prop_map(|keys| keys.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_reader_finds_all_who_are_there_and_nobody_else(keys in keys(), spare in 1_usize..40) {
            let slots = empty(keys.len() + spare);
            let (inserted, others) = keys.split_at(keys.len() / 2 + 1);
            for (count, key) in inserted.iter().enumerate() {
                insert(&slots, *key);
                for key in &inserted[..=count] {
                    prop_assert_eq!(look(&slots, *key, *key).unwrap().id.load(Ordering::Relaxed), *key);
                }
            }
            for key in others {
                prop_assert!(look(&slots, *key, *key).is_none());
            }
            for key in others {
                insert(&slots, *key);
            }
            for key in &keys {
                prop_assert!(look(&slots, *key, *key).is_some());
            }
        }
    }

    #[test]
    fn one_beyond_the_farthest_stated_reach_is_found() {
        let slots = empty(700);
        for key in 1..=600 {
            insert(&slots, key);
        }
        assert!((1..=600).all(|key| look(&slots, key, key).is_some()));
        assert!(look(&slots, 601, 601).is_none());
    }

    #[test]
    fn a_full_row_is_looked_through_once() {
        let slots = empty(300);
        for key in 1..=300 {
            insert(&slots, key);
        }
        assert_eq!(find(&slots, 301, 301), Place::Full);
        assert!(look(&slots, 301, 301).is_none());
    }
}
