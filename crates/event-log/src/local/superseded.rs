//! Which records of a partition a newer one of their key supersedes, found in bounded memory.
//!
//! A sample of the keys, kept as they are appended, says whether a rewrite can be worthwhile; a process that has not seen all of
//! them reads them once for it, and notes how many records must be appended before another look can find enough. Where it is
//! worthwhile all keys go to buckets, and each bucket is looked at alone; a record found superseded is one bit.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use scheduling::Breather;

use super::batch;
use super::buckets::{self, Buckets, Keyed};
use super::compaction::{Limits, for_each_batch};
use super::key_sample::{KeySample, Newest};
use super::partition::PartitionLog;
use super::segment::Segment;
use crate::error::LogError;
use crate::record::Offset;

/// A partition is rewritten once this share of its closed records has been superseded.
const WORTHWHILE: f64 = 0.3;
/// Records of a bucket between two breaths.
const BREATH: u32 = 250;

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
        let records = self.closed_records(closed_end);
        records > 0 && may_go > 0 && is_worthwhile(may_go, records)
    }

    /// Records of the segments that are closed by now.
    fn closed_records(&self, closed_end: Offset) -> u64 {
        self.records + closed_end.saturating_sub(self.closed_end)
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

    /// Marks a record where it is one of the closed segments, as only those can go.
    fn mark(&mut self, offset: Offset) {
        let at = offset - self.base;
        if at < self.records {
            self.bits[(at / 64) as usize] |= 1 << (at % 64);
        }
    }

    /// Whether the record at an offset goes.
    pub(super) fn holds(&self, offset: Offset) -> bool {
        let at = offset.wrapping_sub(self.base);
        let word = self.bits.get((at / 64) as usize);
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

/// What a look reads: the closed segments and the active one.
struct Looked<'l> {
    closed: &'l [Arc<Segment>],
    active: Arc<Segment>,
    limits: &'l Limits<'l>,
    tombstones_kept_ms: i64,
}

/// A record as a look meets it: its key, and what it is as the newest of that.
type Met<'b> = (&'b [u8], Newest);

impl Looked<'_> {
    /// Visits each record that has a key; answers how many records the closed segments hold, of all keys and none.
    fn for_each(
        &self,
        mut visit: impl FnMut(Met<'_>) -> Result<(), LogError>,
    ) -> Result<u64, LogError> {
        let mut records = 0;
        let mut breather = Breather::giving_way_every(BREATH);
        for segment in self.closed.iter().chain([&self.active]) {
            let is_closed = !Arc::ptr_eq(segment, &self.active);
            for_each_batch(segment, self.limits, |header, body| {
                records += u64::from(is_closed) * u64::from(header.count);
                let has_expired = header.append_time_ms < self.tombstones_kept_ms;
                batch::for_each_key(header, &body, |offset, key, is_tombstone| {
                    breather.item();
                    let Some(key) = key else { return Ok(()) };
                    let newest = Newest {
                        offset,
                        is_tombstone,
                        is_expired: is_tombstone && has_expired,
                    };
                    Ok(visit((key, newest))?)
                })
            })?;
        }
        Ok(records)
    }
}

/// What goes of the closed segments, where enough of it does for a rewrite; remembers what it saw.
pub(super) fn find(
    log: &PartitionLog,
    closed: &[Arc<Segment>],
    tombstones_kept_ms: i64,
    limits: &Limits<'_>,
    last: &mut LastLook,
) -> Result<Option<Superseded>, LogError> {
    let (Some(first), Some(latest)) = (closed.first(), closed.last()) else {
        return Ok(None);
    };
    let active = log.active();
    let (base, closed_end, end) = (first.base, latest.end(), active.end());
    if !last.is_due(closed_end, end) {
        return Ok(None);
    }
    let known = log.appended_keys().and_then(|keys| keys.lock().may_go());
    let closed_records = last.closed_records(closed_end);
    if let Some(may_go) = known
        && !is_worthwhile(may_go, closed_records / 10 * 9)
    {
        // As good as a look, also for the next process, which has not seen the keys.
        *last = LastLook {
            end,
            closed_end,
            records: closed_records,
            may_go,
        };
        last.write(log.folder());
        return Ok(None);
    }
    let looked = Looked {
        closed,
        active,
        limits,
        tombstones_kept_ms,
    };
    let (records, may_go, gone) = sample(log, &looked, closed_end)?;
    *last = LastLook {
        end,
        closed_end,
        records,
        may_go,
    };
    last.write(log.folder());
    if gone == 0 || !is_worthwhile(gone, records) {
        return Ok(None);
    }
    let mut buckets = Buckets::new(
        log.folder(),
        (end - base).div_ceil(limits.keys_at_once.max(1)),
    );
    looked.for_each(|(key, newest)| {
        buckets.push(Keyed {
            hash: [buckets::first_half(key), buckets::second_half(key)],
            newest,
        })
    })?;
    let mut found = Superseded::new(base, closed_end);
    let mut newest = HashMap::new();
    for number in 0..buckets.len() {
        limits.go_on()?;
        mark(buckets.take(number)?, &mut newest, &mut found);
    }
    Ok(Some(found))
}

/// Reads the keys once: the records of the closed segments, how many of them may go now or when their time comes, and how many go
/// now, the latter two estimated from a sample.
fn sample(
    log: &PartitionLog,
    looked: &Looked<'_>,
    closed_end: Offset,
) -> Result<(u64, u64, u64), LogError> {
    let known_from = log.appended_keys().map(|keys| keys.lock().begin_look());
    let mut sample = KeySample::default();
    let mut keyed = 0;
    let records = looked.for_each(|(key, newest)| {
        keyed += u64::from(newest.offset < closed_end);
        // What was appended since is sampled as it came.
        if known_from.is_none_or(|known_from| newest.offset < known_from) {
            sample.add(buckets::first_half(key), newest);
        }
        Ok(())
    })?;
    let stay = sample.keys(|newest| newest.offset < closed_end && !newest.is_expired);
    let tombstones = sample
        .keys(|newest| newest.offset < closed_end && newest.is_tombstone && !newest.is_expired);
    let gone = keyed.saturating_sub(stay);
    if let Some(keys) = log.appended_keys() {
        keys.lock().complete(sample);
    }
    Ok((records, gone + tombstones, gone))
}

/// Marks what goes of a bucket's records. The map is given so that its memory serves every bucket.
fn mark(records: Vec<Keyed>, newest: &mut HashMap<[u64; 2], Newest>, found: &mut Superseded) {
    let mut breather = Breather::giving_way_every(BREATH);
    for record in records {
        if let Some(earlier) = newest.insert(record.hash, record.newest) {
            found.mark(earlier.offset);
        }
        breather.item();
    }
    for (_, newest) in newest.drain() {
        if newest.is_expired {
            found.mark(newest.offset);
        }
        breather.item();
    }
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
        for offset in [1_000, 1_099, 1_100, 5_000] {
            found.mark(offset);
        }
        let held: Vec<u64> = (900..5_100).filter(|offset| found.holds(*offset)).collect();
        assert_eq!(held, [1_000, 1_099]);
    }
}
