//! Brings ranges whose fate an unclean stop left unknown to exactly one copy in raw and in every rollup.

use std::collections::BTreeSet;
use std::time::Duration;

use event_log::Partition;
use scan_model::Timestamp;
use warehouse::StoreError;
use warehouse::scan_rows::running_inserts;
use warehouse::slices::{self, Slice};

use crate::pending::Pending;
use crate::pipeline::{Aggregator, AggregatorError};
use crate::recovery::{self, BootMark};
use crate::retry::retry;
use crate::sealed::SealedBatch;
use crate::{SCANS, dead_letters};

impl Aggregator {
    /// Reads a pending range again, sends what raw lacks of it, proves its slices, commits.
    pub(crate) async fn settle_inherited(
        &mut self,
        partition: Partition,
        pending: Pending,
    ) -> Result<(), AggregatorError> {
        // Until then its former owner may still send it.
        let deadline_ms = self.config.insert_deadline.as_millis() as i64;
        let wait_ms =
            (pending.recorded_at.0 + deadline_ms - Timestamp::now().0).clamp(0, deadline_ms);
        tokio::time::sleep(Duration::from_millis(wait_ms as u64)).await;
        self.wait_for_running_inserts().await?;
        let mut reader = self.log.read(SCANS, partition, pending.first).await?;
        let mut records = Vec::new();
        while reader.position() < pending.next {
            records.extend(reader.next(4 << 20, Duration::from_secs(1)).await?);
        }
        records.retain(|record| record.offset < pending.next);
        let batch = self.seal(partition, records, Some(pending.next)).await?;
        tracing::warn!(
            partition,
            pending.first,
            pending.next,
            "settling a range that an unclean stop left pending"
        );
        let mut batches = [batch];
        self.settle_unclear(&mut batches).await?;
        self.commit(&batches).await
    }

    /// Proves what was written to a partition lately, unless it was proven since the engine started: a power cut may have
    /// taken rollup parts.
    pub(crate) async fn prove_after_restart(
        &mut self,
        partition: Partition,
    ) -> Result<(), AggregatorError> {
        let is_proven = retry("look for the proof of a partition", || {
            BootMark::is_proven(&self.store, partition)
        })
        .await?;
        if is_proven {
            return Ok(());
        }
        self.settle_unclear(&mut []).await
    }

    /// Waits until no insert into raw is running in the store for this aggregator's partitions. Others' go on.
    pub(crate) async fn wait_for_running_inserts(&self) -> Result<(), AggregatorError> {
        let ours = self.assigned.keys().copied().collect();
        // A statement whose connection was lost a moment ago may not have begun yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
        loop {
            let running = retry("look for running inserts", || {
                running_inserts(&self.store, &ours)
            });
            if running.await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Brings batches whose fate is unknown to exactly one copy in raw and in every rollup, however long it takes.
    pub(crate) async fn settle_unclear(
        &mut self,
        batches: &mut [SealedBatch],
    ) -> Result<(), AggregatorError> {
        let slices: BTreeSet<Slice> = batches
            .iter()
            .flat_map(|b| b.slices.iter().copied())
            .collect();
        let mut delay = Duration::from_millis(50);
        loop {
            match self.try_settle(batches, &slices).await {
                Ok(()) => return Ok(()),
                Err(AggregatorError::Store(error)) if error.is_retryable() => {
                    tracing::warn!(%error, "the store is away; pending ranges wait");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_settle(
        &mut self,
        batches: &mut [SealedBatch],
        slices: &BTreeSet<Slice>,
    ) -> Result<(), AggregatorError> {
        self.wait_for_running_inserts().await?;
        let mark = BootMark::set(&self.store, &self.config.writer).await?;
        for batch in batches.iter_mut().filter(|batch| !batch.is_empty()) {
            match recovery::complete(&self.store, batch).await {
                Ok(_) => {}
                Err(StoreError::DataRefused(reason)) => {
                    self.bisect(std::slice::from_mut(batch), &reason).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut slices = slices.clone();
        let mut unproven = Vec::new();
        for partition in self.assigned.keys().copied() {
            if !BootMark::is_proven(&self.store, partition).await? {
                slices.extend(slices::touched_lately(&self.store, partition).await?);
                unproven.push(partition);
            }
        }
        if self.config.repair {
            recovery::prove(&self.store, &slices).await?;
        }
        for partition in unproven {
            mark.note_proven(&self.store, partition).await?;
        }
        // Restarted once more while it was being proven: again.
        if !mark.holds(&self.store).await? {
            return Err(
                StoreError::Unavailable("the engine was restarted meanwhile".into()).into(),
            );
        }
        self.mark = mark;
        Ok(())
    }

    /// Finds the records that the store refuses for what they are, makes them dead letters, and leaves them out of their
    /// batches. What the batches' slices come to is to be proven after.
    pub(crate) async fn bisect(
        &self,
        batches: &mut [SealedBatch],
        reason: &str,
    ) -> Result<(), AggregatorError> {
        self.wait_for_running_inserts().await?;
        for batch in batches.iter_mut().filter(|batch| !batch.is_empty()) {
            let refused = recovery::insert_bisected(&self.store, batch).await?;
            for offset in &refused {
                let value = dead_letters::value_at(&self.log, batch.partition, *offset).await?;
                dead_letters::write(&self.log, batch.partition, *offset, reason, &value).await?;
            }
            batch.leave_out(&refused);
        }
        Ok(())
    }
}
