//! Which records of a partition a newer one of their key supersedes, found in bounded memory.
//!
//! The keys go to buckets, and each bucket is looked at alone; a record found superseded is one bit. The first bucket is a sample:
//! only where its share makes a rewrite worthwhile is the partition read once more, for all the others. A look says how many
//! records must be appended before another can be, so that a log of a province that only grows is read a few times in all.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use scheduling::Breather;

use super::batch;
use super::buckets::{self, Buckets, Keyed};
use super::compaction::{Limits, for_each_batch};
use super::segment::Segment;
use crate::error::LogError;
use crate::record::Offset;

/// A partition is rewritten once this share of its closed records has been superseded.
const WORTHWHILE: f64 = 0.3;
/// Records of a bucket between two breaths.
const BREATH: u32 = 500;

/// What the last look at a partition found. It outlives the process beside the segments, so that a start is not followed by
/// another look at all of them.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LastLook {
    /// Where the log ended.
    end: Offset,
    /// Where its closed segments ended.
    closed_end: Offset,
    /// Records of the closed segments.
    records: u64,
    /// Those of them that may go: superseded ones, and tombstones whose time comes.
    may_go: u64,
}

/// The name of its file in the partition's folder: its four numbers and their CRC-32C, little-endian.
const FILE: &str = "looked";

impl LastLook {
    /// The one that an earlier process left; none at all where there is none or it is damaged.
    pub(super) fn read(folder: &Path) -> Self {
        let decode = |bytes: Vec<u8>| {
            let (numbers, crc) = bytes.split_last_chunk::<4>()?;
            let is_intact = crc32c::crc32c(numbers) == u32::from_le_bytes(*crc);
            let ([end, closed_end, records, may_go], []) = numbers.as_chunks::<8>() else {
                return None;
            };
            is_intact.then(|| Self {
                end: u64::from_le_bytes(*end),
                closed_end: u64::from_le_bytes(*closed_end),
                records: u64::from_le_bytes(*records),
                may_go: u64::from_le_bytes(*may_go),
            })
        };
        let read = fs::read(folder.join(FILE)).ok();
        read.and_then(decode).unwrap_or_default()
    }

    /// Leaves it for the next process. Where the disk refuses, that one looks again.
    fn write(&self, folder: &Path) {
        let mut bytes = Vec::with_capacity(36);
        for number in [self.end, self.closed_end, self.records, self.may_go] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        if let Err(error) = fs::write(folder.join(FILE), bytes) {
            let folder = folder.display();
            tracing::debug!(%folder, %error, "the last look was not noted");
        }
    }

    /// After a rewrite what is left is counted anew.
    pub(super) fn forget(&mut self, folder: &Path) {
        *self = Self::default();
        self.write(folder);
    }

    /// Whether a rewrite can have become worthwhile: what was appended since can have superseded one record each.
    pub(super) fn is_due(&self, closed_end: Offset, end: Offset) -> bool {
        let may_go = self.may_go + end.saturating_sub(self.end);
        let records = self.records + closed_end.saturating_sub(self.closed_end);
        records > 0 && may_go > 0 && is_worthwhile(may_go, records)
    }
}

fn is_worthwhile(go: u64, records: u64) -> bool {
    go as f64 >= records as f64 * WORTHWHILE
}

/// The records of closed segments that go, a bit an offset.
pub(super) struct Superseded {
    base: Offset,
    /// Offsets covered.
    records: u64,
    bits: Vec<u64>,
}

impl Superseded {
    fn new(base: Offset, end: Offset) -> Self {
        let records = end - base;
        Self {
            base,
            records,
            bits: vec![0; records.div_ceil(64) as usize],
        }
    }

    /// Marks a record; answers whether it is one of the closed segments, as only those can go.
    fn mark(&mut self, offset: Offset) -> bool {
        let at = offset - self.base;
        let is_closed = at < self.records;
        if is_closed {
            self.bits[(at / 64) as usize] |= 1 << (at % 64);
        }
        is_closed
    }

    /// Whether the record at an offset goes.
    pub(super) fn holds(&self, offset: Offset) -> bool {
        let at = offset.wrapping_sub(self.base);
        let word = self.bits.get((at / 64) as usize);
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

/// What is counted of a bucket beside the bits it sets.
#[derive(Default)]
struct Counted {
    /// Records that go.
    gone: u64,
    /// Tombstones whose time has not come.
    tombstones: u64,
}

/// What goes of the closed segments, where enough of it does for a rewrite; remembers what it saw.
pub(super) fn find(
    closed: &[Arc<Segment>],
    active: &Arc<Segment>,
    tombstones_kept_ms: i64,
    limits: &Limits<'_>,
    last: &mut LastLook,
    folder: &Path,
) -> Result<Option<Superseded>, LogError> {
    let (Some(first), Some(latest)) = (closed.first(), closed.last()) else {
        return Ok(None);
    };
    let (base, closed_end, end) = (first.base, latest.end(), active.end());
    if !last.is_due(closed_end, end) {
        return Ok(None);
    }
    let mut buckets = Buckets::new(folder, (end - base).div_ceil(limits.keys_at_once.max(1)));
    // Fills some of the buckets; answers how many records the closed segments hold, of all keys and none.
    let fill = |buckets: &mut Buckets, numbers: Range<u64>| {
        let mut records = 0;
        let mut breather = Breather::giving_way_every(BREATH);
        for segment in closed.iter().chain([active]) {
            let is_closed = !Arc::ptr_eq(segment, active);
            for_each_batch(segment, limits, |header, body| {
                records += u64::from(is_closed) * u64::from(header.count);
                let has_expired = header.append_time_ms < tombstones_kept_ms;
                batch::for_each_key(header, &body, |offset, key, is_tombstone| {
                    breather.item();
                    let Some(key) = key else { return Ok(()) };
                    let first_half = buckets::first_half(key);
                    if !numbers.contains(&buckets.number_of(first_half)) {
                        return Ok(());
                    }
                    Ok(buckets.push(Keyed {
                        hash: [first_half, buckets::second_half(key)],
                        offset,
                        is_tombstone,
                        is_expired: is_tombstone && has_expired,
                    })?)
                })
            })?;
        }
        Ok::<_, LogError>(records)
    };
    let records = fill(&mut buckets, 0..1)?;
    let mut found = Superseded::new(base, closed_end);
    let mut newest = HashMap::new();
    let mut look = |buckets: &mut Buckets, number| {
        limits.go_on()?;
        Ok::<_, LogError>(look(buckets.take(number)?, &mut newest, &mut found))
    };
    let sample = look(&mut buckets, 0)?;
    let count = buckets.len();
    *last = LastLook {
        end,
        closed_end,
        records,
        may_go: (sample.gone + sample.tombstones) * count,
    };
    last.write(folder);
    if sample.gone == 0 || !is_worthwhile(sample.gone * count, records) {
        return Ok(None);
    }
    fill(&mut buckets, 1..count)?;
    for number in 1..count {
        look(&mut buckets, number)?;
    }
    Ok(Some(found))
}

/// Marks what goes of a bucket's records. The map is given so that its memory serves every bucket.
fn look(
    records: Vec<Keyed>,
    newest: &mut HashMap<[u64; 2], Keyed>,
    found: &mut Superseded,
) -> Counted {
    let mut counted = Counted::default();
    let mut go = |offset| counted.gone += u64::from(found.mark(offset));
    let mut breather = Breather::giving_way_every(BREATH);
    for record in records {
        if let Some(earlier) = newest.insert(record.hash, record) {
            go(earlier.offset);
        }
        breather.item();
    }
    for (_, newest) in newest.drain() {
        if newest.is_expired {
            go(newest.offset);
        } else {
            counted.tombstones += u64::from(newest.is_tombstone);
        }
        breather.item();
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_looked_at_again_once_enough_was_appended() {
        assert!(LastLook::default().is_due(100, 130));
        let look = LastLook {
            end: 1_300,
            closed_end: 1_000,
            records: 1_000,
            may_go: 100,
        };
        // What goes reaches 300 of 1,000 closed records with 200 further ones at the earliest.
        assert!(!look.is_due(1_000, 1_499));
        assert!(look.is_due(1_000, 1_500));
        // A segment that was closed since makes it 400 of 1,300.
        assert!(!look.is_due(1_300, 1_589));
        assert!(look.is_due(1_300, 1_590));
    }

    #[test]
    fn what_was_never_marked_stays() {
        let mut found = Superseded::new(1_000, 1_100);
        assert!(found.mark(1_000) && found.mark(1_099));
        assert!(!found.mark(1_100) && !found.mark(5_000));
        let held: Vec<u64> = (900..5_100).filter(|offset| found.holds(*offset)).collect();
        assert_eq!(held, [1_000, 1_099]);
    }
}
