//! The turn: gather, seal, record, insert, prove, commit.

use std::collections::BTreeMap;
use std::time::Duration;

use event_log::{
    Committed, Consumer, ConsumerEvent, LogError, Offset, Partition, SharedLog, StoredRecord,
};
use scan_model::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use warehouse::scan_rows::insert_statement;
use warehouse::{Store, StoreError};

use crate::pending::{Pending, PendingError, settled};
use crate::recovery::{self, BootMark};
use crate::retry::retry;
use crate::sealed::SealedBatch;
use crate::window::Window;
use crate::{GROUP, SCANS};

/// How the aggregator runs.
#[derive(Debug, Clone)]
pub struct AggregatorConfig {
    /// Tells this writer from others.
    pub writer: String,
    /// Records gathered before a batch is sealed, at most.
    pub batch_records: usize,
    /// How long records are gathered, at most.
    pub linger: Duration,
    /// How long scan ids are remembered, by log-append time.
    pub window: Duration,
    /// Scan ids remembered for one partition, at most.
    pub window_capacity: usize,
    /// An insert is sent this soon after its pending range is recorded, or not at all.
    pub insert_deadline: Duration,
    /// Inserts under way at once.
    pub parallel_inserts: usize,
    /// How often it is written to the store up to when the statistics are complete; never, where readers ask the log.
    pub publish_completeness: Option<Duration>,
    /// Whether rollup slices are proven and rebuilt after an unclean stop. Off only to show that it is needed.
    pub repair: bool,
}

impl Default for AggregatorConfig {
    fn default() -> Self {
        Self {
            writer: "aggregator".into(),
            batch_records: 20_000,
            linger: Duration::from_millis(300),
            window: Duration::from_secs(600),
            window_capacity: 500_000,
            insert_deadline: Duration::from_secs(2),
            parallel_inserts: 2,
            publish_completeness: None,
            repair: true,
        }
    }
}

/// Why the aggregator stopped.
#[derive(Debug, thiserror::Error)]
pub enum AggregatorError {
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store refuses a statement: fix the schema.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The group's position was written by another program.
    #[error(transparent)]
    Pending(#[from] PendingError),
    /// The store holds scans beyond the group's position: the position was lost or reset.
    #[error(
        "partition {partition}: the store holds offset {stored}, beyond the group's position {position}; the position was lost or reset, so counting on from it would count twice. Restore the positions, or rebuild the tables with `tongxing replay`"
    )]
    PositionBehindStore {
        /// The log partition.
        partition: Partition,
        /// The newest offset in the store.
        stored: Offset,
        /// The group's position.
        position: Offset,
    },
}

/// One assigned partition.
pub(crate) struct Assigned {
    pub(crate) window: Window,
    /// Where the next batch begins.
    pub(crate) next: Offset,
    /// Records gathered and not yet sealed.
    pub(crate) gathered: Vec<StoredRecord>,
    /// Everything appended up to here is counted.
    pub(crate) complete_up_to: Timestamp,
    /// A record of a newer version was met: nothing more is read (INV-10).
    pub(crate) paused: bool,
}

/// The aggregator.
pub struct Aggregator {
    pub(crate) log: SharedLog,
    pub(crate) store: Store,
    pub(crate) config: AggregatorConfig,
    pub(crate) consumer: Box<dyn Consumer>,
    pub(crate) assigned: BTreeMap<Partition, Assigned>,
    pub(crate) mark: BootMark,
    pub(crate) published_at: Option<Instant>,
    pub(crate) rows_total: metrics::Counter,
    pub(crate) duplicates_total: metrics::Counter,
    pub(crate) conflicts_total: metrics::Counter,
    pub(crate) turn_seconds: metrics::Histogram,
}

impl Aggregator {
    /// Joins the group. The schema must be there.
    pub async fn join(
        log: SharedLog,
        store: Store,
        config: AggregatorConfig,
    ) -> Result<Self, AggregatorError> {
        let consumer = log.subscribe(GROUP, SCANS).await?;
        let mark = retry("set the boot mark", || {
            BootMark::set(&store, &config.writer)
        })
        .await?;
        Ok(Self {
            log,
            store,
            config,
            consumer,
            assigned: BTreeMap::new(),
            mark,
            published_at: None,
            rows_total: metrics::counter!("aggregator_rows_total"),
            duplicates_total: metrics::counter!("aggregator_duplicates_total"),
            conflicts_total: metrics::counter!("aggregator_conflicts_total"),
            turn_seconds: metrics::histogram!("aggregator_turn_seconds"),
        })
    }

    /// Works until `stop` says so; what has been gathered by then is left to the next start.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), AggregatorError> {
        loop {
            if *stop.borrow_and_update() {
                return Ok(());
            }
            let gathered = tokio::select! {
                gathered = self.gather() => gathered?,
                changed = stop.changed() => {
                    if changed.is_err() { return Ok(()) }
                    continue;
                }
            };
            if gathered {
                let started = Instant::now();
                self.settle_gathered().await?;
                self.turn_seconds.record(started.elapsed().as_secs_f64());
            }
            self.publish_completeness().await;
        }
    }

    /// Gathers records until the batch is full or its time is over; answers whether there are any.
    async fn gather(&mut self) -> Result<bool, AggregatorError> {
        let mut count: usize = self.assigned.values().map(|a| a.gathered.len()).sum();
        let mut deadline = (count > 0).then(|| Instant::now() + self.config.linger);
        while count < self.config.batch_records {
            let wait = deadline.map_or(Duration::from_millis(500), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            match self.consumer.poll(wait).await? {
                ConsumerEvent::Assigned(partitions) => {
                    for partition in partitions {
                        self.take_over(partition).await?;
                    }
                }
                ConsumerEvent::Revoked(partitions) => {
                    for partition in partitions {
                        self.assigned.remove(&partition);
                    }
                }
                ConsumerEvent::Records(partition, records) => {
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        count += records.len();
                        assigned.gathered.extend(records);
                        deadline.get_or_insert_with(|| Instant::now() + self.config.linger);
                    }
                }
                ConsumerEvent::Idle => break,
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
        }
        Ok(count > 0)
    }

    /// Settles what an earlier owner left pending, rebuilds the window, and seeks.
    async fn take_over(&mut self, partition: Partition) -> Result<(), AggregatorError> {
        let committed = self.log.committed(GROUP, SCANS, partition).await?;
        let start = self.log.bounds(SCANS, partition).await?.start;
        let committed = committed.unwrap_or_else(|| settled(start));
        let pending = Pending::from_commit(&committed)?;
        let position = committed.offset;
        let open_end = pending.map_or(position, |pending| pending.next);
        retry("bring replicas level", || {
            warehouse::replicas::catch_up(&self.store)
        })
        .await?;
        let stored = retry("look for offsets beyond the position", || {
            recovery::newest_offset_in_raw(&self.store, partition, open_end)
        })
        .await?;
        if let Some(stored) = stored {
            return Err(AggregatorError::PositionBehindStore {
                partition,
                stored,
                position,
            });
        }
        let (length_ms, capacity) = (
            self.config.window.as_millis() as i64,
            self.config.window_capacity,
        );
        let window = retry("rebuild the window", || {
            recovery::rebuild_window(&self.store, partition, position, length_ms, capacity)
        })
        .await?;
        let assigned = Assigned {
            window,
            next: position,
            gathered: Vec::new(),
            complete_up_to: Timestamp(0),
            paused: false,
        };
        self.assigned.insert(partition, assigned);
        if let Some(pending) = pending.filter(|pending| pending.next > pending.first) {
            self.settle_inherited(partition, pending).await?;
        } else {
            self.prove_after_restart(partition).await?;
        }
        let next = self
            .assigned
            .get(&partition)
            .map_or(position, |assigned| assigned.next);
        self.consumer.seek(partition, next).await?;
        Ok(())
    }

    /// Seals, inserts and commits everything gathered.
    async fn settle_gathered(&mut self) -> Result<(), AggregatorError> {
        let partitions: Vec<Partition> = self.assigned.keys().copied().collect();
        let mut batches = Vec::new();
        for partition in partitions {
            let Some(assigned) = self.assigned.get_mut(&partition) else {
                continue;
            };
            let records = std::mem::take(&mut assigned.gathered);
            if !records.is_empty() && !assigned.paused {
                batches.push(self.seal(partition, records, None).await?);
            }
        }
        batches.retain(|batch| batch.next > batch.first);
        let recorded = Instant::now();
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let pending = Pending {
                first: batch.first,
                next: batch.next,
                recorded_at: Timestamp::now(),
            };
            self.consumer
                .commit(batch.partition, pending.to_commit())
                .await?;
        }
        let outcome = if recorded.elapsed() < self.config.insert_deadline {
            self.insert(&batches).await
        } else {
            Err(StoreError::Unavailable(
                "the pending range was recorded too long ago".into(),
            ))
        };
        let is_clear = match outcome {
            Ok(()) => self.mark.holds(&self.store).await.unwrap_or(false),
            Err(StoreError::DataRefused(reason)) => {
                self.bisect(&mut batches, &reason).await?;
                false
            }
            Err(error) => {
                tracing::warn!(%error, "an insert's outcome is unknown");
                false
            }
        };
        if !is_clear {
            self.settle_unclear(&mut batches).await?;
        }
        self.commit(&batches).await
    }

    /// Sends every batch, a few at a time.
    async fn insert(&self, batches: &[SealedBatch]) -> Result<(), StoreError> {
        let full: Vec<&SealedBatch> = batches.iter().filter(|batch| !batch.is_empty()).collect();
        for few in full.chunks(self.config.parallel_inserts.max(1)) {
            let mut inserts = Vec::with_capacity(few.len());
            for batch in few {
                inserts.push(async {
                    let statement = insert_statement(batch.partition);
                    self.store.insert(&statement, batch.rows()).await
                });
            }
            // All of them end before an error counts, so that none is still under way.
            for outcome in futures::future::join_all(inserts).await {
                outcome?;
            }
        }
        Ok(())
    }

    pub(crate) async fn commit(&mut self, batches: &[SealedBatch]) -> Result<(), AggregatorError> {
        for batch in batches {
            let committed: Committed = settled(batch.next);
            self.consumer.commit(batch.partition, committed).await?;
            self.rows_total.increment(batch.len() as u64);
            if let Some(assigned) = self.assigned.get_mut(&batch.partition) {
                // More may carry the newest record's own millisecond.
                let newest = Timestamp(batch.newest.0 - 1);
                assigned.complete_up_to = assigned.complete_up_to.max(newest);
            }
        }
        Ok(())
    }
}
