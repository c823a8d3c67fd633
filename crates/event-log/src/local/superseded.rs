//! Which records of a partition a newer one of their key supersedes, found in bounded memory.
//!
//! The keys are looked at in as many passes as keep a pass within so many keys, and each record found superseded is one bit.
//! The first pass is a sample: only where its share makes a rewrite worthwhile do the others follow. A look says how many
//! records must be appended before another can be, so that a log of a province that only grows is read a few times in all.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::compaction::for_each_batch;
use super::segment::Segment;
use crate::error::LogError;
use crate::record::{Offset, StoredRecord};

/// A partition is rewritten once this share of its closed records has been superseded.
const WORTHWHILE: f64 = 0.3;

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

/// The newest record of a key in a pass.
struct Newest {
    offset: Offset,
    is_tombstone: bool,
    is_expired: bool,
}

/// What a pass counts beside the bits it sets.
#[derive(Default)]
struct Counted {
    /// Records of the closed segments, of all keys and none.
    records: u64,
    /// Records that go, of the pass's keys.
    gone: u64,
    /// Tombstones of the pass's keys whose time has not come.
    tombstones: u64,
}

/// What goes of the closed segments, where enough of it does for a rewrite; remembers what it saw.
pub(super) fn find(
    closed: &[Arc<Segment>],
    active: &Arc<Segment>,
    tombstones_kept_ms: i64,
    keys_at_once: u64,
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
    let passes = (end - base).div_ceil(keys_at_once.max(1)).max(1);
    let mut found = Superseded::new(base, closed_end);
    let mut look = |pass| {
        let keys = Keys { pass, passes };
        look(closed, active, &keys, tombstones_kept_ms, &mut found)
    };
    let sample = look(0)?;
    *last = LastLook {
        end,
        closed_end,
        records: sample.records,
        may_go: (sample.gone + sample.tombstones) * passes,
    };
    last.write(folder);
    if sample.gone == 0 || !is_worthwhile(sample.gone * passes, sample.records) {
        return Ok(None);
    }
    for pass in 1..passes {
        look(pass)?;
    }
    Ok(Some(found))
}

/// The keys of a pass.
struct Keys {
    pass: u64,
    passes: u64,
}

/// One pass: marks what goes of the records whose keys are the pass's.
fn look(
    closed: &[Arc<Segment>],
    active: &Arc<Segment>,
    keys: &Keys,
    tombstones_kept_ms: i64,
    found: &mut Superseded,
) -> Result<Counted, LogError> {
    let mut newest: HashMap<(u64, u64), Newest> = HashMap::new();
    let mut counted = Counted::default();
    let mut go = |offset| counted.gone += u64::from(found.mark(offset));
    for segment in closed.iter().chain([active]) {
        let is_closed = !Arc::ptr_eq(segment, active);
        for_each_batch(segment, |_, batch| {
            counted.records += u64::from(is_closed) * batch.len() as u64;
            for record in &batch {
                let Some(key) = &record.record.key else {
                    continue;
                };
                let hash = hash(key);
                if hash.0 % keys.passes != keys.pass {
                    continue;
                }
                if let Some(earlier) = newest.insert(hash, Newest::of(record, tombstones_kept_ms)) {
                    go(earlier.offset);
                }
            }
            Ok(())
        })?;
    }
    for newest in newest.into_values() {
        if newest.is_expired {
            go(newest.offset);
        } else {
            counted.tombstones += u64::from(newest.is_tombstone);
        }
    }
    Ok(counted)
}

impl Newest {
    fn of(record: &StoredRecord, tombstones_kept_ms: i64) -> Self {
        let is_tombstone = record.record.value.is_none();
        Self {
            offset: record.offset,
            is_tombstone,
            is_expired: is_tombstone && record.append_time_ms < tombstones_kept_ms,
        }
    }
}

/// 128 bits of a key's hash.
fn hash(key: &[u8]) -> (u64, u64) {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(key);
        hasher.finish()
    };
    (half(1), half(2))
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
