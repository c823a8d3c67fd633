//! Brings ranges whose fate an unclean stop left unknown to exactly one copy in raw and in every rollup.

use std::collections::BTreeSet;
use std::time::Duration;

use event_log::Partition;
use scan_model::{Scan, codec};
use warehouse::scan_rows::running_inserts;
use warehouse::slices::{self, Slice};
use warehouse::{StoreError, ownership};

use crate::patience::Delays;
use crate::pending::Pending;
use crate::pipeline::{Aggregator, AggregatorError};
use crate::recovery::{self, BootMark};
use crate::sealed::SealedBatch;
use crate::{SCANS, dead_letters};

impl Aggregator {
    /// Reads a pending range again, sends what raw lacks of it, proves its slices, commits.
    pub(crate) async fn settle_inherited(
        &mut self,
        partition: Partition,
        pending: Pending,
    ) -> Result<(), AggregatorError> {
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
        let mut batches = vec![batch];
        self.settle_unclear(&mut batches).await?;
        self.commit(&batches).await
    }

    /// Proves what was written to a partition lately, unless it was proven since the engine started: a power cut may have
    /// taken rollup parts.
    pub(crate) async fn prove_after_restart(
        &mut self,
        partition: Partition,
    ) -> Result<(), AggregatorError> {
        if BootMark::is_proven(&self.store, partition).await? {
            return Ok(());
        }
        self.settle_unclear(&mut Vec::new()).await
    }

    /// Waits until no insert into raw is running in the store for this aggregator's partitions. Others' go on.
    pub(crate) async fn wait_for_running_inserts(&self) -> Result<(), AggregatorError> {
        let ours = self.assigned.keys().copied().collect();
        // A statement whose connection was lost a moment ago may not have begun yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
        loop {
            if running_inserts(&self.store, &ours).await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Brings batches whose fate is unknown to exactly one copy in raw and in every rollup, however long it takes.
    pub(crate) async fn settle_unclear(
        &mut self,
        batches: &mut Vec<SealedBatch>,
    ) -> Result<(), AggregatorError> {
        let mut delays = Delays::new();
        loop {
            match self.try_settle(batches).await {
                Ok(()) => return Ok(()),
                Err(AggregatorError::Store(error)) if error.leaves_outcome_open() => {
                    tracing::warn!(%error, "pending ranges wait for the store");
                    self.hold_still(delays.next()).await?;
                    self.keep_ours(batches);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_settle(&mut self, batches: &mut Vec<SealedBatch>) -> Result<(), AggregatorError> {
        // In this order: what was sent under older claims has ended or is refused, and whoever has lost the partition is told so
        // before anything is sent.
        self.claim_again(batches).await?;
        self.wait_for_running_inserts().await?;
        self.record_pending(batches).await?;
        let mark = BootMark::set(&self.store, &self.config.writer).await?;
        for batch in batches.iter_mut().filter(|batch| !batch.is_empty()) {
            let epoch = self.epoch(batch.partition);
            match recovery::complete(&self.store, batch, epoch).await {
                Ok(_) => {}
                Err(StoreError::DataRefused(reason)) => {
                    self.bisect(std::slice::from_mut(batch), &reason).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut slices: BTreeSet<Slice> = batches
            .iter()
            .flat_map(|batch| batch.slices.iter().copied())
            .collect();
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

    /// Claims the batches' partitions.
    async fn claim_again(&mut self, batches: &[SealedBatch]) -> Result<(), StoreError> {
        for batch in batches {
            if let Some(assigned) = self.assigned.get_mut(&batch.partition) {
                assigned.epoch = ownership::claim(&self.store, batch.partition).await?;
            }
        }
        Ok(())
    }

    /// Finds the records that the store refuses for what they are, makes them dead letters, and leaves them out of their
    /// batches and of what was seen. What the batches' slices come to is to be proven after.
    pub(crate) async fn bisect(
        &mut self,
        batches: &mut [SealedBatch],
        reason: &str,
    ) -> Result<(), AggregatorError> {
        self.wait_for_running_inserts().await?;
        for batch in batches.iter_mut().filter(|batch| !batch.is_empty()) {
            let refused =
                recovery::insert_bisected(&self.store, batch, self.epoch(batch.partition)).await?;
            for offset in &refused {
                let value = dead_letters::value_at(&self.log, batch.partition, *offset).await?;
                dead_letters::write(&self.log, batch.partition, *offset, reason, &value).await?;
                if let Ok(scan) = codec::decode::<Scan>(&value)
                    && let Some(assigned) = self.assigned.get_mut(&batch.partition)
                {
                    assigned.window.forget(scan.person, scan.scan_id);
                }
            }
            batch.leave_out(&refused);
        }
        Ok(())
    }
}
