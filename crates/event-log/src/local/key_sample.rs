//! How many of a partition's records a newer one of their key supersedes, estimated in bounded memory (INV-6) while they are appended.
//!
//! Of all keys those are kept whose hash ends in so many zero bits that a few thousand remain, with the newest record of each. Their
//! number times the keys that each stands for estimates how many keys there are, to some 2 %; all records but so many are
//! superseded. Keys that hold most of the records cannot deceive it, whether they are in the sample or not.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::batch::{self, BatchHeader};
use super::buckets;
use crate::record::Offset;

/// Most keys kept: what a hash map of 4,096 places holds, or one of 8,192 after deletions.
const MOST: usize = 3_500;

/// The newest record of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub offset: Offset,
    pub is_tombstone: bool,
    /// Whether it is a tombstone whose time had come when it was looked at.
    pub is_expired: bool,
}

/// A sample of the keys of some records.
#[derive(Debug, Default)]
pub(super) struct KeySample {
    /// Each key stands for two to so many.
    doublings: u32,
    newest: HashMap<u64, Newest, BuildHasherDefault<DefaultHasher>>,
    /// Records with a key, of all keys.
    records: u64,
}

impl KeySample {
    /// Takes a record in, given the first half of its key's hash. Records of a key come in the order of the log.
    pub(super) fn add(&mut self, first_half: u64, newest: Newest) {
        self.records += 1;
        self.keep(first_half, newest);
    }

    fn keep(&mut self, first_half: u64, newest: Newest) {
        if first_half.trailing_zeros() < self.doublings {
            return;
        }
        self.newest.insert(first_half, newest);
        while self.newest.len() > MOST {
            self.thin(self.doublings + 1);
        }
    }

    fn thin(&mut self, doublings: u32) {
        self.doublings = doublings;
        self.newest
            .retain(|first_half, _| first_half.trailing_zeros() >= doublings);
    }

    /// Takes in what was sampled of later records.
    fn merge(&mut self, later: Self) {
        self.records += later.records;
        self.thin(self.doublings.max(later.doublings));
        for (first_half, newest) in later.newest {
            self.keep(first_half, newest);
        }
    }

    /// How many keys' newest records are of a kind.
    pub(super) fn keys(&self, mut is_counted: impl FnMut(&Newest) -> bool) -> u64 {
        let kept = self.newest.values().filter(|newest| is_counted(newest));
        (kept.count() as u64) << self.doublings
    }
}

/// The sample of a partition's keys, kept as records are appended. It knows the earlier ones once a look has read them.
#[derive(Debug)]
pub(super) struct AppendedKeys {
    sample: KeySample,
    /// What follows the last record taken in.
    end: Offset,
    /// Whether the records before this process's are in the sample.
    is_complete: bool,
}

impl AppendedKeys {
    /// Those of a partition whose records begin at `start` and go on at `end`.
    pub(super) fn new(start: Offset, end: Offset) -> Self {
        Self {
            sample: KeySample::default(),
            end,
            is_complete: start == end,
        }
    }

    /// Takes in a batch that was appended.
    pub(super) fn append(&mut self, header: &BatchHeader, body: &[u8]) {
        let sample = &mut self.sample;
        let taken = batch::for_each_key(header, body, |offset, key, is_tombstone| {
            if let Some(key) = key {
                let newest = Newest {
                    offset,
                    is_tombstone,
                    is_expired: false,
                };
                sample.add(buckets::first_half(key), newest);
            }
            Ok::<_, batch::BatchError>(())
        });
        // What cannot be taken apart is met by the next look.
        self.is_complete &= taken.is_ok();
        self.end = header.next;
    }

    /// How many records may go, superseded or tombstones; nothing where earlier records are not known.
    pub(super) fn may_go(&self) -> Option<u64> {
        let stay = || self.sample.keys(|newest| !newest.is_tombstone);
        self.is_complete
            .then(|| self.sample.records.saturating_sub(stay()))
    }

    /// Begins anew, for a look at all records before the offset that is answered.
    pub(super) fn begin_look(&mut self) -> Offset {
        self.sample = KeySample::default();
        self.is_complete = false;
        self.end
    }

    /// Takes in what a look found.
    pub(super) fn complete(&mut self, mut looked: KeySample) {
        looked.merge(std::mem::take(&mut self.sample));
        self.sample = looked;
        self.is_complete = true;
    }

    /// Earlier records are no longer what they were.
    pub(super) fn forget(&mut self) {
        self.is_complete = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(sample: &mut KeySample, keys: impl IntoIterator<Item = u64>) {
        for (offset, key) in (0..).zip(keys) {
            let newest = Newest {
                offset,
                is_tombstone: key.is_multiple_of(10),
                is_expired: false,
            };
            sample.add(buckets::first_half(&key.to_le_bytes()), newest);
        }
    }

    fn is_about(estimate: u64, truth: u64) -> bool {
        estimate.abs_diff(truth) * 12 <= truth
    }

    #[test]
    fn few_keys_are_counted_and_many_are_estimated_in_bounded_memory() {
        for keys in [0, 1, 3_000, 100_000, 1_000_000] {
            let mut sample = KeySample::default();
            add(&mut sample, 0..keys);
            let (all, tombstones) = (sample.keys(|_| true), sample.keys(|n| n.is_tombstone));
            if keys <= MOST as u64 {
                assert_eq!((all, tombstones), (keys, keys.div_ceil(10)));
            }
            assert!(is_about(all, keys), "{all} of {keys}");
            assert!(tombstones.abs_diff(keys / 10) * 4 <= keys / 10 + 4);
            assert!(sample.newest.capacity() < 8_192);
        }
    }

    #[test]
    fn a_key_with_most_of_the_records_counts_as_one_key_whether_it_is_sampled_or_not() {
        for hot in 0..40 {
            let mut sample = KeySample::default();
            let cold = (0..50_000).flat_map(|key| [1_000 + key, hot]);
            add(&mut sample, cold);
            assert_eq!(sample.records, 100_000);
            assert!(is_about(sample.keys(|_| true), 50_000));
        }
    }

    #[test]
    fn samples_of_parts_are_one_sample_of_the_whole() {
        for (earlier, later) in [(100, 90_000), (90_000, 100), (50_000, 70_000)] {
            let mut appended = AppendedKeys::new(0, 0);
            assert_eq!(appended.may_go(), Some(0));
            appended.begin_look();
            assert_eq!(appended.may_go(), None);
            let mut looked = KeySample::default();
            add(&mut looked, (0..earlier).map(|key| key * 10 + 1));
            add(&mut appended.sample, (0..later).map(|key| key * 10 + 1));
            appended.complete(looked);
            let gone = appended.may_go().unwrap();
            let truth = earlier.min(later);
            let slack = earlier.max(later) / 12;
            assert!(gone.abs_diff(truth) <= slack, "{gone} of {truth}");
            appended.forget();
            assert_eq!(appended.may_go(), None);
        }
    }
}
