//! A sealed batch: the rows of one partition's range, encoded once, never changed after.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use event_log::{Offset, Partition};
use scan_model::{Scan, Timestamp};
use warehouse::scan_rows::{self, LogPlace};
use warehouse::slices::Slice;

/// Rows of one partition, by offset, in RowBinary.
pub struct SealedBatch {
    /// The log partition.
    pub partition: Partition,
    /// The first offset of the range.
    pub first: Offset,
    /// The offset behind the range. Offsets in it without a row were duplicates or dead letters.
    pub next: Offset,
    /// The rollup slices that the rows belong to.
    pub slices: BTreeSet<Slice>,
    /// The newest append time in the range.
    pub newest: Timestamp,
    rows: Bytes,
    /// Offset and end position of each row.
    ends: Vec<(Offset, usize)>,
}

/// Builds a batch.
pub struct BatchSealer {
    partition: Partition,
    first: Offset,
    slices: BTreeSet<Slice>,
    newest: Timestamp,
    rows: Vec<u8>,
    ends: Vec<(Offset, usize)>,
}

impl BatchSealer {
    /// A batch whose range begins at `first`.
    pub fn new(partition: Partition, first: Offset) -> Self {
        Self {
            partition,
            first,
            slices: BTreeSet::new(),
            newest: Timestamp(0),
            rows: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Makes room for rows.
    pub fn reserve(&mut self, rows: usize) {
        self.rows.reserve_exact(rows * scan_rows::LARGEST);
        self.ends.reserve_exact(rows);
    }

    /// Adds a scan's row.
    pub fn push(&mut self, log_offset: Offset, appended_at: Timestamp, scan: &Scan) {
        let place = LogPlace {
            log_partition: self.partition,
            log_offset,
            appended_at,
        };
        scan_rows::encode(&mut self.rows, place, scan);
        self.ends.push((log_offset, self.rows.len()));
        self.slices
            .insert(Slice::of(self.partition, scan.event_time));
    }

    /// Notes an append time in the range, of a row or not.
    pub fn note_time(&mut self, appended_at: Timestamp) {
        self.newest = self.newest.max(appended_at);
    }

    /// Seals the batch; its range ends before `next`.
    pub fn seal(self, next: Offset) -> SealedBatch {
        let Self {
            partition,
            first,
            slices,
            newest,
            rows,
            ends,
        } = self;
        SealedBatch {
            partition,
            first,
            next,
            slices,
            newest,
            rows: rows.into(),
            ends,
        }
    }
}

impl SealedBatch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no row is in it.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All rows.
    pub fn rows(&self) -> Bytes {
        self.rows.clone()
    }

    /// The rows whose offsets are not in a set.
    pub fn rows_without(&self, present: &HashSet<Offset>) -> Bytes {
        let mut kept = Vec::new();
        let mut start = 0;
        for (offset, end) in &self.ends {
            if !present.contains(offset) {
                kept.extend_from_slice(&self.rows[start..*end]);
            }
            start = *end;
        }
        kept.into()
    }

    /// Takes out the rows at some offsets; the range stays what it is.
    pub fn leave_out(&mut self, refused: &HashSet<Offset>) {
        if refused.is_empty() {
            return;
        }
        self.rows = self.rows_without(refused);
        let mut start = 0;
        let mut kept_end = 0;
        let ends = std::mem::take(&mut self.ends);
        for (offset, end) in ends {
            if !refused.contains(&offset) {
                kept_end += end - start;
                self.ends.push((offset, kept_end));
            }
            start = end;
        }
    }

    /// The rows at `from..to`, counted within the batch, for bisection.
    pub fn rows_between(&self, from: usize, to: usize) -> Bytes {
        let start = from.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let end = to.checked_sub(1).map_or(0, |last| self.ends[last].1);
        self.rows.slice(start..end)
    }

    /// The offset of a row.
    pub fn offset_of(&self, row: usize) -> Offset {
        self.ends[row].0
    }

    /// The offsets of all rows.
    pub fn offsets(&self) -> impl Iterator<Item = Offset> {
        self.ends.iter().map(|(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_without_some_rows_has_the_others_unaltered() {
        let mut batch = SealedBatch {
            partition: 0,
            first: 10,
            next: 20,
            slices: BTreeSet::new(),
            newest: Timestamp(0),
            rows: Bytes::from_static(b"aabbbcdd"),
            ends: vec![(10, 2), (12, 5), (13, 6), (19, 8)],
        };
        batch.leave_out(&HashSet::from([12, 19]));
        assert_eq!(batch.rows(), "aac");
        assert_eq!(batch.offsets().collect::<Vec<_>>(), [10, 13]);
        assert_eq!(batch.rows_between(1, 2), "c");
        assert_eq!((batch.first, batch.next), (10, 20));
    }
}
