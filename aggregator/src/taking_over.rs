//! Partitions that come: what an earlier owner left pending is settled, the window is rebuilt, reading begins.

use event_log::{LogError, Offset, Partition};
use warehouse::{ownership, replicas};

use crate::pending::{Pending, settled};
use crate::pipeline::{Aggregator, AggregatorError, Assigned};
use crate::recovery;
use crate::watermark::Watermark;
use crate::{GROUP, SCANS, dead_letters};

impl Aggregator {
    /// Takes over what has come, each partition at most once. What cannot be taken over now, because the store or the log is away or
    /// the group is changing, waits for the next call, and the member polls in between; answers whether anything does.
    pub(crate) async fn take_over_arrivals(&mut self) -> Result<bool, AggregatorError> {
        for partition in self.arrivals.clone() {
            // It may have gone while another was being taken over.
            if !self.arrivals.remove(&partition) {
                continue;
            }
            match self.take_over(partition).await {
                Ok(()) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(partition, %error, "a partition waits to be taken over");
                    self.assigned.remove(&partition);
                    self.arrivals.insert(partition);
                    break;
                }
                // It went meanwhile; where it has come again since, it is among the arrivals again.
                Err(AggregatorError::Log(LogError::NotAssigned(_))) => {
                    self.assigned.remove(&partition);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(!self.arrivals.is_empty())
    }

    /// Forgets a partition that is another's now.
    pub(crate) fn let_go(&mut self, partition: Partition) {
        self.arrivals.remove(&partition);
        if self.assigned.remove(&partition).is_some() {
            tracing::info!(partition, "a partition went to another aggregator");
        }
    }

    /// Settles what an earlier owner left pending, rebuilds the window, and seeks.
    async fn take_over(&mut self, partition: Partition) -> Result<(), AggregatorError> {
        self.check_store(partition).await?;
        // Before anything is read: a former owner that is only held up sends nothing from here on.
        let epoch = ownership::claim(&self.store, partition).await?;
        let committed = self.log.committed(GROUP, SCANS, partition).await?;
        let start = self.log.bounds(SCANS, partition).await?.start;
        let committed = committed.unwrap_or_else(|| settled(start));
        let pending = Pending::from_commit(&committed)?;
        let position = committed.offset;
        self.check_position(partition, pending, position).await?;
        let share = self.config.window_total / self.log.partitions(SCANS)?.max(1) as usize;
        let (length_ms, capacity) = (
            self.config.window.as_millis() as i64,
            self.config.window_capacity.min(share),
        );
        let window =
            recovery::rebuild_window(&self.store, partition, position, length_ms, capacity).await?;
        let buried = dead_letters::buried(&self.log, partition, position).await?;
        let assigned = Assigned {
            epoch,
            buried,
            window,
            next: position,
            gathered: Vec::new(),
            watermark: Watermark::of(partition),
            paused: false,
            erased_grids: 0,
        };
        self.assigned.insert(partition, assigned);
        if let Some(pending) = pending.filter(|pending| pending.next > pending.first) {
            if !ownership::is_kept(&self.store) {
                // The former owner sends within this time of recording the range, which it did before the partition came here.
                tokio::time::sleep(self.config.insert_deadline).await;
            }
            self.settle_inherited(partition, pending).await?;
        } else {
            self.prove_after_restart(partition).await?;
        }
        let Some(assigned) = self.assigned.get(&partition) else {
            return Err(LogError::NotAssigned(partition).into());
        };
        let next = assigned.next;
        self.consumer.seek(partition, next).await?;
        Ok(())
    }

    /// A store that nobody ever wrote to, under a group that has counted, is not the one that it counted into.
    async fn check_store(&self, partition: Partition) -> Result<(), AggregatorError> {
        if ownership::was_claimed(&self.store, partition).await? {
            return Ok(());
        }
        let Some(committed) = self.log.committed(GROUP, SCANS, partition).await? else {
            return Ok(());
        };
        let position = committed.offset;
        let start = self.log.bounds(SCANS, partition).await?.start;
        // A store from before claims were kept has rows.
        if position <= start
            || recovery::newest_offset_in_raw(&self.store, partition, 0)
                .await?
                .is_some()
        {
            return Ok(());
        }
        Err(AggregatorError::AnotherStore {
            partition,
            position,
        })
    }

    /// Scans beyond the position mean that it was lost or reset.
    async fn check_position(
        &self,
        partition: Partition,
        pending: Option<Pending>,
        position: Offset,
    ) -> Result<(), AggregatorError> {
        let open_end = pending.map_or(position, |pending| pending.next);
        replicas::catch_up(&self.store).await?;
        match recovery::newest_offset_in_raw(&self.store, partition, open_end).await? {
            None => Ok(()),
            Some(stored) => Err(AggregatorError::PositionBehindStore {
                partition,
                stored,
                position,
            }),
        }
    }
}
