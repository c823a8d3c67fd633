//! Everyone's resident records, read without a lock: 128 segments, each an open-addressed row of 32-byte slots.
//!
//! - [`words`] and [`protocol`]: the slots, and how readers and the one writer share them, model-checked.
//! - [`probe`]: where in a segment a person is looked for, and for how long.
//! - [`region`]: the memory under them, and the crate's only `unsafe`.
//! - [`sizes`]: how long segments are.
//! - [`growth`]: how one becomes longer without a pause.
//!
//! | bits of an id | say |
//! |---|---|
//! | 63–57 | the segment |
//! | 56–0 | the home slot in it: `(id << 7) × slots / 2⁶⁴` |
//!
//! | bits of a directory word | say |
//! |---|---|
//! | 63–1 | the slots of the segment |
//! | 0 | in which of the segment's two buffers they are |
//!
//! A segment only grows, so no directory word ever returns, and records are never removed. At a mean load of 0.87 a person takes
//! 36.7 bytes.

mod growth;
mod probe;
mod protocol;
mod region;
mod sizes;
mod words;

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use scan_model::PersonId;

use self::growth::Growth;
use self::probe::Place;
pub use self::protocol::Resident;
use self::protocol::Slot;
use self::region::{Region, SLOT_BYTES};
use self::sizes::SEGMENT_BITS;
pub use self::sizes::SEGMENTS;

/// Persons whose slots are fetched from memory together.
const BATCH: usize = 16;

/// Slots of a cache line.
const A_LINE: usize = 64 / SLOT_BYTES;

/// No further person fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the status table is configured for {capacity} persons and is full; raise persons.capacity and restart"
)]
pub struct TableFull {
    /// The configured number of persons.
    pub capacity: usize,
}

/// The table.
pub struct Table {
    region: Region,
    directory: Box<[AtomicU64]>,
    capacity: usize,
    /// Persons that are expected in each segment.
    expected_each: usize,
    persons: AtomicUsize,
    /// Slots of all segments, those of a growth under way among them.
    slots: AtomicUsize,
    writer: Mutex<WriterState>,
}

/// What the one writer knows.
struct WriterState {
    /// Persons of each segment.
    persons: Box<[usize]>,
    growth: Option<Growth>,
}

/// The segment of an id.
pub const fn segment_of(id: PersonId) -> usize {
    (id.0 >> (64 - SEGMENT_BITS)) as usize
}

/// Slots copied before other threads may go first.
const BREATH: usize = 4096;

/// An id's bits below the segment, as the key of its home slot.
const fn key_of(id: PersonId) -> u64 {
    id.0 << SEGMENT_BITS
}

impl Table {
    /// An empty table for up to `capacity` persons. It takes memory as persons come.
    ///
    /// # Errors
    /// Where the system refuses address space.
    pub fn new(capacity: usize) -> io::Result<Self> {
        // Ids are keyed hashes: no segment holds far more than its share of many, nor more than all of a few.
        let share = (capacity / SEGMENTS) as f64;
        let most = (share * 1.1 + 60_000.0).min(capacity as f64 + 128.0);
        let region = Region::reserve(2 * SEGMENTS, (most / sizes::MAX_LOAD * 1.07) as usize)?;
        let lengths = (0..SEGMENTS).map(|segment| sizes::longer(segment, 0));
        let slots = lengths.clone().sum();
        Ok(Self {
            region,
            directory: lengths
                .map(|length| AtomicU64::new((length as u64) << 1))
                .collect(),
            capacity,
            expected_each: 0,
            persons: AtomicUsize::new(0),
            slots: AtomicUsize::new(slots),
            writer: Mutex::new(WriterState {
                persons: vec![0; SEGMENTS].into_boxed_slice(),
                growth: None,
            }),
        })
    }

    /// The same table, which takes the room of so many persons once it grows. It grows to more.
    #[must_use]
    pub fn expecting(self, persons: usize) -> Self {
        let expected_each = persons.min(self.capacity).div_ceil(SEGMENTS);
        Self {
            expected_each,
            ..self
        }
    }

    /// Persons in it.
    pub fn len(&self) -> usize {
        self.persons.load(Ordering::Relaxed)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Persons that fit.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that the table occupies once every page has been written.
    pub fn bytes(&self) -> usize {
        self.slots.load(Ordering::Relaxed) * SLOT_BYTES + size_of_val(&*self.directory)
    }

    /// The record of a person. Reads memory only, in bounded steps (INV-2).
    #[inline]
    pub fn get(&self, id: PersonId) -> Option<Resident> {
        let segment = segment_of(id);
        let slots_of = |word| {
            let slots = self.slots_of(segment, word);
            Self::fetch_beyond(slots, key_of(id));
            slots
        };
        protocol::read(&self.directory[segment], slots_of, key_of(id), id.0)
    }

    /// The records of many, in the order asked: their slots are on their way from memory before the first is looked at.
    pub fn get_each(&self, ids: &[PersonId], mut found: impl FnMut(Option<Resident>)) {
        for batch in ids.chunks(BATCH) {
            self.touch_each(batch.iter().copied());
            for id in batch {
                found(self.get(*id));
            }
        }
    }

    /// Has the slots after the home slot of a key fetched along with it: a third of all records lie beyond its line,
    /// and a probe for one of them would wait for memory again.
    #[inline]
    fn fetch_beyond(slots: &[Slot<AtomicU64>], key: u64) {
        let home = probe::home(slots.len(), key);
        if let Some(beyond) = slots.get(home + A_LINE) {
            region::fetch(beyond);
        }
    }

    /// Fetches the home slots of ids: loads that nothing waits for, so that the processor has all of them under way at once.
    pub(crate) fn touch_each(&self, ids: impl Iterator<Item = PersonId>) {
        let touched = ids.fold(0, |sum, id| sum ^ self.touch(id));
        std::hint::black_box(touched);
    }

    /// Fetches the home slot of an id.
    #[inline]
    fn touch(&self, id: PersonId) -> u64 {
        let segment = segment_of(id);
        let word = self.directory[segment].load(Ordering::Acquire);
        let slots = self.slots_of(segment, word);
        Self::fetch_beyond(slots, key_of(id));
        slots[probe::home(slots.len(), key_of(id))]
            .id
            .load(Ordering::Relaxed)
    }

    /// Takes the writer's turn.
    pub(crate) fn writer(&self) -> TableWriter<'_> {
        TableWriter {
            table: self,
            state: self.writer.lock(),
        }
    }

    /// The slots that a directory word names.
    #[inline]
    fn slots_of(&self, segment: usize, word: u64) -> &[Slot<AtomicU64>] {
        let buffer = segment * 2 + (word & 1) as usize;
        self.region.slots(buffer, (word >> 1) as usize)
    }

    /// Makes an empty segment of so many slots, to be filled from a snapshot before anyone reads; answers `false` where it
    /// does not fit.
    pub(crate) fn prepare_segment(&self, segment: usize, slots: usize) -> bool {
        if slots == 0 || slots > self.region.slots_each() {
            return false;
        }
        let before = self.directory[segment].swap((slots as u64) << 1, Ordering::Relaxed) >> 1;
        self.slots.fetch_add(slots, Ordering::Relaxed);
        self.slots.fetch_sub(before as usize, Ordering::Relaxed);
        self.region.prefer_huge_pages(segment * 2, slots);
        true
    }

    /// Fills slots of a prepared segment from `first` on with images of 32 bytes; answers how many are persons.
    pub(crate) fn fill_segment(&self, segment: usize, first: usize, images: &[u8]) -> usize {
        let word = self.directory[segment].load(Ordering::Relaxed);
        let slots = &self.slots_of(segment, word)[first..];
        let mut persons = 0;
        for (slot, image) in slots.iter().zip(images.as_chunks::<SLOT_BYTES>().0) {
            let (words, _) = image.as_chunks::<8>();
            let words = [words[0], words[1], words[2], words[3]].map(u64::from_le_bytes);
            if words[0] != 0 {
                slot.fill(words);
                persons += 1;
            }
        }
        persons
    }

    /// Counts the persons of a filled segment.
    ///
    /// # Errors
    /// [`TableFull`] where they are more than configured.
    pub(crate) fn count_segment(&self, segment: usize, persons: usize) -> Result<(), TableFull> {
        let mut turn = self.writer.lock();
        turn.persons[segment] = persons;
        let before = self.persons.fetch_add(persons, Ordering::Relaxed);
        if before + persons > self.capacity {
            let capacity = self.capacity;
            return Err(TableFull { capacity });
        }
        Ok(())
    }
}

/// The writer's turn.
pub struct TableWriter<'t> {
    table: &'t Table,
    state: MutexGuard<'t, WriterState>,
}

impl TableWriter<'_> {
    /// The record of a person.
    pub fn get(&self, id: PersonId) -> Option<Resident> {
        self.table.get(id)
    }

    /// Writes a person's record, in the order that readers rely on. Readers see the earlier record or this one.
    ///
    /// # Errors
    /// [`TableFull`] where the person is new and no more fit.
    pub fn put(&mut self, id: PersonId, resident: Resident) -> Result<(), TableFull> {
        self.advance_growth();
        let table = self.table;
        let segment = segment_of(id);
        let word = table.directory[segment].load(Ordering::Relaxed);
        let slots = table.slots_of(segment, word);
        let place = probe::find(slots, key_of(id), id.0);
        let full = TableFull {
            capacity: table.capacity,
        };
        let index = match place {
            Place::Taken(index) => index,
            Place::Free(index) if table.len() < table.capacity => index,
            Place::Free(_) | Place::Full => return Err(full),
        };
        let is_new = protocol::put(slots, place, key_of(id), id.0, resident);
        self.mirror(segment, index, id, resident);
        if is_new {
            self.state.persons[segment] += 1;
            // Nobody else counts while the turn lasts.
            let before = table.persons.load(Ordering::Relaxed);
            table.persons.store(before + 1, Ordering::Relaxed);
            self.grow_if_loaded(segment);
        }
        Ok(())
    }

    /// The slots of a segment as images of 32 bytes, free ones as zeros, appended to `out`; answers how many persons they
    /// hold.
    pub fn copy_segment(&self, segment: usize, out: &mut Vec<u8>) -> usize {
        let word = self.table.directory[segment].load(Ordering::Relaxed);
        let slots = self.table.slots_of(segment, word);
        out.reserve(size_of_val(slots));
        for slots in slots.chunks(BREATH) {
            for slot in slots {
                for word in slot.words() {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
            scheduling::breathe();
        }
        self.state.persons[segment]
    }
}

#[cfg(test)]
mod tests;
