//! How long a segment is: steps of an eighth, and each segment's steps lie elsewhere than its neighbours'.
//!
//! Segments hold about equally many persons, so equal steps would fill and grow them all at the same time, and the table's
//! load would swing between its bounds. Segment *s* of 128 has the lengths `128 × (9/8)^(k + s/128)` in slots, rounded up
//! to a page: at any population, loads are spread evenly between [`MAX_LOAD`] × 8/9 and [`MAX_LOAD`], and one segment
//! grows at a time.

/// The first bits of an id, which say the segment.
pub const SEGMENT_BITS: u32 = 7;
/// Segments of the table: the persons whose ids share their first bits.
pub const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// Persons to slots at which a segment begins to grow.
pub const MAX_LOAD: f64 = 0.926;
/// Persons to slots at which it no longer waits for another segment's growth.
pub const URGENT_LOAD: f64 = 0.95;

/// Slots of a page.
const PAGE_SLOTS: usize = 128;
const STEP: f64 = 9.0 / 8.0;

/// The shortest length of a segment that is longer than `slots`.
pub fn longer(segment: usize, slots: usize) -> usize {
    let begin = PAGE_SLOTS as f64 * STEP.powf(segment as f64 / SEGMENTS as f64);
    let steps = ((slots + 1) as f64 / begin).log(STEP).floor().max(0.0);
    let mut length = begin * STEP.powf(steps);
    loop {
        let pages = (length / PAGE_SLOTS as f64).ceil() as usize;
        if pages * PAGE_SLOTS > slots {
            return pages * PAGE_SLOTS;
        }
        length *= STEP;
    }
}

/// The shortest length of a segment that so many persons do not load beyond [`MAX_LOAD`].
pub fn for_persons(segment: usize, persons: usize) -> usize {
    let mut length = longer(segment, 0);
    while is_beyond(MAX_LOAD, persons, length) {
        length = longer(segment, length);
    }
    length
}

/// Whether a segment of so many persons and slots is loaded beyond a bound.
pub fn is_beyond(load: f64, persons: usize, slots: usize) -> bool {
    persons as f64 > slots as f64 * load
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_longer_segment_is_longer_by_an_eighth_or_two_pages(segment in 0..SEGMENTS, slots in 0_usize..1 << 30) {
            let next = longer(segment, slots);
            prop_assert!(next > slots);
            prop_assert!(next <= slots * 9 / 8 + 3 * PAGE_SLOTS);
            prop_assert_eq!(next % PAGE_SLOTS, 0);
        }
    }

    #[test]
    fn at_any_population_the_whole_table_is_loaded_about_equally() {
        for persons_each in (200_000..1_600_000).step_by(100_000) {
            let slots: usize = (0..SEGMENTS)
                .map(|segment| for_persons(segment, persons_each))
                .sum();
            let load = (persons_each * SEGMENTS) as f64 / slots as f64;
            assert!((0.865..0.88).contains(&load), "{persons_each}: {load}");
        }
    }
}
