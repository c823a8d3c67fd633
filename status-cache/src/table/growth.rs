//! Growth of a segment, without a pause.
//!
//! One segment grows at a time, into its other buffer, a few slots with each record written anywhere: no write waits for
//! more than [`STEP`] slots to be copied and [`POPULATED`] to be taken, and the extra memory is one segment, at most 0.9 % of the table. Until the copy is
//! complete the old slots are the segment; what is written to those copied already goes to the copy as well.
//!
//! In steps of an eighth a record is copied, and the memory of its slot cleared, some eight times on the table's way to a province. Where the
//! table is told how many persons to expect, the first growth of a segment goes the whole way.

use std::sync::atomic::Ordering;

use scan_model::PersonId;

use super::probe::{self, Place};
use super::protocol::{self, Resident};
use super::region::SLOT_BYTES;
use super::{TableWriter, key_of, sizes};

/// Slots copied with each record written.
const STEP: usize = 1024;

/// Slots of memory taken with each record written, at most: one megabyte.
const POPULATED: usize = (1 << 20) / SLOT_BYTES;

/// Slots beyond a record's home that it rarely passes.
const PROBES: usize = 128;

/// A growth under way.
pub(super) struct Growth {
    segment: usize,
    /// The directory word of the copy.
    word: u64,
    /// Slots of the old buffer below this one are copied.
    copied: usize,
    /// Slots of the new buffer below this one have their memory.
    populated: usize,
}

impl TableWriter<'_> {
    /// Begins to grow a segment that is loaded enough, where no other grows. One that cannot wait any longer finishes the
    /// other's growth first.
    pub(super) fn grow_if_loaded(&mut self, segment: usize) {
        let slots = (self.table.directory[segment].load(Ordering::Relaxed) >> 1) as usize;
        let persons = self.state.persons[segment];
        if !sizes::is_beyond(sizes::MAX_LOAD, persons, slots) {
            return;
        }
        if self.state.growth.is_some() {
            if !sizes::is_beyond(sizes::URGENT_LOAD, persons, slots) {
                return;
            }
            self.finish_growth();
        }
        self.begin_growth(segment);
        if sizes::is_beyond(sizes::URGENT_LOAD, persons, slots) {
            self.finish_growth();
        }
    }

    fn begin_growth(&mut self, segment: usize) {
        let table = self.table;
        let word = table.directory[segment].load(Ordering::Relaxed);
        let slots = (word >> 1) as usize;
        let longer = sizes::longer(segment, slots)
            .max(sizes::for_persons(segment, table.expected_each))
            .min(table.region.slots_each());
        if longer <= slots {
            return;
        }
        let other = word & 1 ^ 1;
        table
            .region
            .prefer_huge_pages(segment * 2 + other as usize, longer);
        table.slots.fetch_add(longer, Ordering::Relaxed);
        self.state.growth = Some(Growth {
            segment,
            word: (longer as u64) << 1 | other,
            copied: 0,
            populated: 0,
        });
    }

    fn finish_growth(&mut self) {
        while self.state.growth.is_some() {
            self.advance_growth();
        }
    }

    /// Copies the next slots, and makes the copy the segment once it is complete.
    pub(super) fn advance_growth(&mut self) {
        let Some(growth) = &mut self.state.growth else {
            return;
        };
        let table = self.table;
        let (segment, word) = (growth.segment, growth.word);
        let old_word = table.directory[segment].load(Ordering::Relaxed);
        let old = table.slots_of(segment, old_word);
        let new = table.slots_of(segment, word);
        let end = (growth.copied + STEP).min(old.len());
        // Both buffers have their records in the order of their keys: what is copied next goes here.
        let reach = end as u64 * new.len() as u64 / old.len() as u64;
        let reach = (reach as usize + PROBES).min(new.len());
        if reach > growth.populated {
            let buffer = segment * 2 + (word & 1) as usize;
            let taken = reach.min(growth.populated + POPULATED);
            table.region.populate(buffer, growth.populated..taken);
            growth.populated = taken;
            if taken < reach {
                return;
            }
        }
        for slot in &old[growth.copied..end] {
            let words = slot.words();
            let (id, key) = (words[0], key_of(PersonId(words[0])));
            if id != 0
                && let Place::Free(index) = probe::find(new, key, id)
            {
                protocol::insert(new, index, key, words);
            }
        }
        growth.copied = end;
        if end < old.len() {
            return;
        }
        protocol::publish(&table.directory[segment], word);
        table.slots.fetch_sub(old.len(), Ordering::Relaxed);
        if let Err(error) = table.region.discard(segment * 2 + (old_word & 1) as usize) {
            let bytes = old.len() * SLOT_BYTES;
            tracing::error!(%error, bytes, "the system did not take memory back");
        }
        self.state.growth = None;
    }

    /// Repeats in a growth's copy what was written to a slot that has been copied.
    pub(super) fn mirror(&self, segment: usize, index: usize, id: PersonId, resident: Resident) {
        if let Some(growth) = &self.state.growth
            && growth.segment == segment
            && index < growth.copied
        {
            let copy = self.table.slots_of(segment, growth.word);
            let place = probe::find(copy, key_of(id), id.0);
            protocol::put(copy, place, key_of(id), id.0, resident);
        }
    }
}
