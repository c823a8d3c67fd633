//! The memory under the table: one reservation of address space, taken from the system page by page as it is written.
//!
//! The only `unsafe` of this crate. The reservation is anonymous and private, so unwritten pages read as zeros, which is a
//! free slot; and it lives as long as the region, so a reader that still looks at slots given back reads zeros, which
//! [`protocol`](super::protocol) finds out.

use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::protocol::Slot;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = size_of::<Slot<AtomicU64>>();
/// Bytes of a small page, or a part of one.
const SMALL_PAGE: usize = 4096;
/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Has the memory of a place fetched, where the processor takes such hints, and waits for nothing.
#[inline]
pub fn fetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing into the program and cannot fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// A row of equally long buffers of slots.
pub struct Region {
    map: MmapRaw,
    /// Where the first buffer begins, so that each begins with a huge page.
    first: usize,
    buffer_bytes: usize,
}

impl Region {
    /// Reserves address space; no memory yet. The length of a buffer is rounded up to whole huge pages.
    ///
    /// # Errors
    /// Where the system refuses the reservation.
    pub fn reserve(buffers: usize, slots_each: usize) -> io::Result<Self> {
        let buffer_bytes = (slots_each * SLOT_BYTES).next_multiple_of(HUGE_PAGE);
        let map = MmapOptions::new()
            .len(buffers * buffer_bytes + HUGE_PAGE)
            .no_reserve_swap()
            .map_anon()?;
        let map = MmapRaw::from(map);
        let first = map.as_ptr().addr().next_multiple_of(HUGE_PAGE) - map.as_ptr().addr();
        Ok(Self {
            map,
            first,
            buffer_bytes,
        })
    }

    /// Slots that a buffer has room for.
    pub const fn slots_each(&self) -> usize {
        self.buffer_bytes / SLOT_BYTES
    }

    /// The first `slots` slots of a buffer.
    ///
    /// # Panics
    /// Where a buffer has fewer.
    #[inline]
    pub fn slots(&self, buffer: usize, slots: usize) -> &[Slot<AtomicU64>] {
        let begin = self.first + buffer * self.buffer_bytes;
        assert!(begin + slots * SLOT_BYTES <= self.map.len() && slots <= self.slots_each());
        // SAFETY: the range lies within the mapping, as just checked, and the mapping lives as long as `self`. It begins
        // at a page, so it is aligned. Any bytes are valid `AtomicU64`s, and nothing but atomic loads and stores touches
        // them; the kernel's zeroing of pages given back is no access of this program's.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(begin).cast(), slots) }
    }

    /// Asks for huge pages under those of a buffer's first `slots` that fill whole ones, so that the rest takes no more
    /// memory than it needs. A system without them goes on with small ones.
    pub fn prefer_huge_pages(&self, buffer: usize, slots: usize) {
        let whole = slots * SLOT_BYTES / HUGE_PAGE * HUGE_PAGE;
        if whole > 0 {
            let begin = self.first + buffer * self.buffer_bytes;
            // Refused where the system has none: a matter of speed alone.
            let _ = self.map.advise_range(Advice::HugePage, begin, whole);
        }
    }

    /// Takes memory for some of a buffer's slots at once. Taken page by page, with the first read and again with the first write, it
    /// costs two faults a page, and the second one interrupts every core. A system that cannot (before Linux 5.14) does that.
    pub fn populate(&self, buffer: usize, slots: Range<usize>) {
        let begin = slots.start * SLOT_BYTES / SMALL_PAGE * SMALL_PAGE;
        let end = (slots.end * SLOT_BYTES).next_multiple_of(SMALL_PAGE);
        let at = self.first + buffer * self.buffer_bytes + begin;
        let bytes = end.min(self.buffer_bytes).saturating_sub(begin);
        let _ = self.map.advise_range(Advice::PopulateWrite, at, bytes);
    }

    /// Gives a buffer's memory back; its slots read as zeros from then on.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn discard(&self, buffer: usize) -> io::Result<()> {
        let begin = self.first + buffer * self.buffer_bytes;
        let _ = self
            .map
            .advise_range(Advice::NoHugePage, begin, self.buffer_bytes);
        // SAFETY: the pages become zeros, which are valid `AtomicU64`s; every reader of them validates what it read.
        unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, begin, self.buffer_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn memory_given_back_reads_as_zeros() {
        let region = Region::reserve(2, 100_000).unwrap();
        assert!(region.slots_each() >= 100_000);
        region.prefer_huge_pages(1, 100_000);
        let slots = region.slots(1, 100_000);
        slots[50_000].fill([7; 4]);
        region.populate(1, 40_000..60_001);
        region.populate(1, 99_990..region.slots_each());
        assert_eq!(slots[50_000].words(), [7; 4]);
        assert_eq!(slots[99_999].words(), [0; 4]);
        slots[99_999].fill([1, 2, 3, 4]);
        region.slots(0, 5)[4].fill([9; 4]);
        region.discard(1).unwrap();
        assert_eq!(slots[99_999].id.load(Ordering::Relaxed), 0);
        assert_eq!(region.slots(0, 5)[4].words(), [9; 4]);
    }
}
