//! Positions in the log: what is about to be inserted, and what is settled.
//!
//! A commit that is refused says that the group has changed. While it rebalances the commit is tried again, between polls; otherwise
//! the partition is taken over anew, if it is still this member's at all, and its batch is left to whoever settles it.

use std::time::Duration;

use event_log::{Committed, LogError, Partition};
use scan_model::Timestamp;
use warehouse::ownership::Epoch;

use crate::pending::{Pending, settled};
use crate::pipeline::{Aggregator, AggregatorError};
use crate::sealed::SealedBatch;

/// How often a commit is tried again while the group rebalances.
const REBALANCE_INTERVAL: Duration = Duration::from_millis(100);
/// After so many tries it is said, so that a group that does not come to rest is seen.
const REPORTED_TRIES: u32 = 100;

impl Aggregator {
    /// Records what is about to be inserted. Batches of partitions that are another's by now are left out.
    pub(crate) async fn record_pending(
        &mut self,
        batches: &mut Vec<SealedBatch>,
    ) -> Result<(), AggregatorError> {
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let pending = Pending {
                first: batch.first,
                next: batch.next,
                recorded_at: Timestamp::now(),
            };
            self.record(batch.partition, pending.to_commit()).await?;
        }
        self.keep_ours(batches);
        Ok(())
    }

    /// The claim under which a partition's batches are sent. Without one nothing passes that anyone has claimed.
    pub(crate) fn epoch(&self, partition: Partition) -> Epoch {
        self.assigned
            .get(&partition)
            .map_or(Epoch::UNCLAIMED, |assigned| assigned.epoch)
    }

    /// Moves the group's position behind settled batches.
    pub(crate) async fn commit(&mut self, batches: &[SealedBatch]) -> Result<(), AggregatorError> {
        for batch in batches {
            self.record(batch.partition, settled(batch.next)).await?;
            if let Some(assigned) = self.assigned.get_mut(&batch.partition) {
                self.rows_total.increment(batch.len() as u64);
                // More may carry the newest record's own millisecond.
                assigned.watermark.raise(Timestamp(batch.newest.0 - 1));
            }
        }
        Ok(())
    }

    /// Records a position. Where that is refused the partition is taken over anew, if it is still this member's at all; the
    /// others go on.
    async fn record(
        &mut self,
        partition: Partition,
        committed: Committed,
    ) -> Result<(), AggregatorError> {
        let mut tries = 0_u32;
        while self.assigned.contains_key(&partition) {
            match self.consumer.commit(partition, committed.clone()).await {
                Err(LogError::Rebalancing(_)) => {
                    tries += 1;
                    if tries.is_multiple_of(REPORTED_TRIES) {
                        tracing::warn!(partition, "the group is still rebalancing; a commit waits");
                    }
                    self.hold_still(REBALANCE_INTERVAL).await?;
                }
                Err(LogError::NotAssigned(_)) => {
                    tracing::warn!(
                        partition,
                        "a commit was refused: the partition is taken over anew, or another's"
                    );
                    self.let_go(partition);
                    self.arrivals.insert(partition);
                }
                outcome => return Ok(outcome?),
            }
        }
        Ok(())
    }

    /// Leaves out batches of partitions that are another's by now: the next owner settles them.
    pub(crate) fn keep_ours(&self, batches: &mut Vec<SealedBatch>) {
        batches.retain(|batch| self.assigned.contains_key(&batch.partition));
    }
}
