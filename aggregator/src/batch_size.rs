//! How much one turn gathers: little while the log is followed closely, more and more while it is behind.
//!
//! The store's work for a row falls with the rows of an insert, so a backlog is worked off in large batches. Their bounds are a number
//! of records and of bytes (INV-6).

use std::time::Duration;

use tokio::time::Instant;

/// Lingers that a turn may gather for while there is a backlog.
const LONGEST: u32 = 16;

/// The size of the next batch.
pub(crate) struct BatchSize {
    least: usize,
    most: usize,
    most_bytes: usize,
    linger: Duration,
    /// Records wanted now, between the two.
    wanted: usize,
}

impl BatchSize {
    pub(crate) fn new(least: usize, most: usize, most_bytes: usize, linger: Duration) -> Self {
        Self {
            least,
            most: most.max(least),
            most_bytes,
            linger,
            wanted: least,
        }
    }

    /// Whether this much is a whole batch.
    pub(crate) const fn is_full(&self, records: usize, bytes: usize) -> bool {
        records >= self.wanted || bytes >= self.most_bytes
    }

    /// How long to wait for more, after the first record arrived at an instant; `None` where the batch's time is over.
    pub(crate) fn wait(&self, since: Instant) -> Option<Duration> {
        let elapsed = since.elapsed();
        match self.linger.checked_sub(elapsed) {
            Some(left) if !left.is_zero() => Some(left),
            // The next records of a backlog are soon at hand.
            _ if self.wanted > self.least && elapsed < self.linger * LONGEST => Some(self.linger),
            _ => None,
        }
    }

    /// Learns from a batch: a full one tells of a backlog.
    pub(crate) fn learn(&mut self, records: usize, bytes: usize) {
        self.wanted = if self.is_full(records, bytes) {
            (self.wanted * 2).min(self.most)
        } else {
            (self.wanted / 2).max(self.least)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size() -> BatchSize {
        BatchSize::new(100, 350, 10_000, Duration::from_millis(300))
    }

    #[test]
    fn inv6_a_backlog_doubles_the_batch_up_to_its_bounds_and_its_end_halves_it() {
        let mut size = size();
        for wanted in [100, 200, 350, 350] {
            assert!(size.is_full(wanted, 0) && !size.is_full(wanted - 1, 0));
            assert!(size.is_full(1, 10_000));
            size.learn(wanted, 0);
        }
        for wanted in [350, 175, 100, 100] {
            assert!(size.is_full(wanted, 0) && !size.is_full(wanted - 1, 0));
            size.learn(wanted - 1, 0);
        }
    }

    #[test]
    fn a_batch_waits_for_its_linger_and_with_a_backlog_as_long_as_records_are_at_hand() {
        let mut size = size();
        let ago = |milliseconds| Instant::now() - Duration::from_millis(milliseconds);
        assert!(
            size.wait(ago(100))
                .is_some_and(|wait| wait <= Duration::from_millis(200))
        );
        assert_eq!(size.wait(ago(300)), None);
        size.learn(100, 0);
        assert!(
            size.wait(ago(100))
                .is_some_and(|wait| wait <= Duration::from_millis(200))
        );
        assert_eq!(size.wait(ago(300)), Some(Duration::from_millis(300)));
        assert_eq!(size.wait(ago(300 * 16)), None);
    }
}
