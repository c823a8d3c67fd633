//! The turn: gather, seal, record, insert, prove, commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event_log::{Consumer, ConsumerEvent, LogError, Offset, Partition, SharedLog, StoredRecord};
use tokio::sync::watch;
use tokio::time::Instant;
use warehouse::ownership::Epoch;
use warehouse::scan_rows::insert_statement;
use warehouse::{Store, StoreError};

use crate::batch_size::BatchSize;
use crate::dissolved::Follower;
use crate::pending::PendingError;
use crate::recovery::BootMark;
use crate::retry::retry;
use crate::sealed::SealedBatch;
use crate::watermark::Watermark;
use crate::window::Window;
use crate::{GROUP, SCANS};

/// How the aggregator runs.
#[derive(Debug, Clone)]
pub struct AggregatorConfig {
    /// Tells this writer from others.
    pub writer: String,
    /// Records gathered before a batch is sealed, at most, while the log is followed closely.
    pub batch_records: usize,
    /// The same, while there is a backlog.
    pub backlog_records: usize,
    /// Bytes of values gathered before a batch is sealed; a poll may go beyond by what it brings.
    pub batch_bytes: usize,
    /// How long records are gathered, at most.
    pub linger: Duration,
    /// How long scan ids are remembered, by log-append time.
    pub window: Duration,
    /// Scan ids remembered for one partition, at most.
    pub window_capacity: usize,
    /// Scan ids that an aggregator of all partitions remembers, at most; each partition has an equal share.
    pub window_total: usize,
    /// An insert is sent this soon after its pending range is recorded, or only after what raw holds has been counted.
    pub insert_deadline: Duration,
    /// Inserts under way at once.
    pub parallel_inserts: usize,
    /// How long a stop may take to settle what has been gathered; the rest is left to the next owner.
    pub drain: Duration,
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
            backlog_records: 240_000,
            batch_bytes: 80 << 20,
            linger: Duration::from_millis(300),
            window: Duration::from_secs(600),
            window_capacity: 1 << 20,
            window_total: 1 << 22,
            insert_deadline: Duration::from_secs(2),
            parallel_inserts: 2,
            drain: Duration::from_secs(10),
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
    /// The store has never been written to, and the group has counted: it counted into another store.
    #[error(
        "partition {partition}: the group has counted up to offset {position}, and this store has never held anything of it: it is another store than the one that was filled, or a new one. Point to the store that was filled, or fill this one from the log with `tongxing replay`"
    )]
    AnotherStore {
        /// The log partition.
        partition: Partition,
        /// The group's position.
        position: Offset,
    },
    /// The store holds scans beyond the group's position: the position was lost or reset.
    #[error(
        "partition {partition}: the store holds offset {stored}, beyond the group's position {position}; the position was lost or reset, so counting on from it would count twice. Restore the positions with `tongxing positions restore`"
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

impl AggregatorError {
    /// Whether the same may succeed later without anyone's help.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Pending(_) | Self::AnotherStore { .. } | Self::PositionBehindStore { .. } => {
                false
            }
        }
    }
}

/// Bytes of a record's value.
fn value_bytes(record: &StoredRecord) -> usize {
    record.record.value.as_ref().map_or(0, bytes::Bytes::len)
}

/// One assigned partition.
pub(crate) struct Assigned {
    /// The claim under which inserts are sent.
    pub(crate) epoch: Epoch,
    pub(crate) window: Window,
    /// Where the next batch begins.
    pub(crate) next: Offset,
    /// Records gathered and not yet sealed.
    pub(crate) gathered: Vec<StoredRecord>,
    pub(crate) watermark: Watermark,
    /// Records at or behind the position taken over that are dead letters: they are stored by re-driving alone.
    pub(crate) buried: BTreeSet<Offset>,
    /// A record of a newer version was met: nothing more is read (INV-10).
    pub(crate) paused: bool,
    /// How many of the dissolved grids are known to have left no rows here.
    pub(crate) erased_grids: usize,
}

/// The aggregator.
pub struct Aggregator {
    pub(crate) log: SharedLog,
    pub(crate) store: Store,
    pub(crate) config: AggregatorConfig,
    pub(crate) consumer: Box<dyn Consumer>,
    pub(crate) assigned: BTreeMap<Partition, Assigned>,
    /// Partitions that have come and are not taken over yet.
    pub(crate) arrivals: BTreeSet<Partition>,
    batch_size: BatchSize,
    pub(crate) mark: BootMark,
    pub(crate) dissolved: Follower,
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
        let dissolved = Follower::start(&log).await?;
        let consumer = log.subscribe(GROUP, SCANS).await?;
        let mark = retry("set the boot mark", || {
            BootMark::set(&store, &config.writer)
        })
        .await?;
        let batch_size = BatchSize::new(
            config.batch_records,
            config.backlog_records,
            config.batch_bytes,
            config.linger,
        );
        Ok(Self {
            log,
            store,
            config,
            consumer,
            batch_size,
            assigned: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            mark,
            dissolved,
            published_at: None,
            rows_total: metrics::counter!("aggregator_rows_total"),
            duplicates_total: metrics::counter!("aggregator_duplicates_total"),
            conflicts_total: metrics::counter!("aggregator_conflicts_total"),
            turn_seconds: metrics::histogram!("aggregator_turn_seconds"),
        })
    }

    /// Works until `stop` says so, then settles what has been gathered, within [`AggregatorConfig::drain`].
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), AggregatorError> {
        let is_stopped = |stop: &watch::Receiver<bool>| *stop.borrow();
        while !is_stopped(&stop) {
            let gathered = tokio::select! {
                gathered = self.gather() => gathered?,
                _ = stop.changed() => break,
            };
            self.erase_dissolved().await?;
            if gathered {
                let started = Instant::now();
                self.settle_gathered().await?;
                self.turn_seconds.record(started.elapsed().as_secs_f64());
            }
            self.advance_watermarks().await;
        }
        match tokio::time::timeout(self.config.drain, self.settle_gathered()).await {
            Ok(settled) => settled,
            Err(_) => {
                tracing::warn!(
                    "stopped before everything gathered was settled; the next owner settles it"
                );
                Ok(())
            }
        }
    }

    /// Gathers records until the batch is full or its time is over; answers whether there are any. Nothing is lost where it is
    /// dropped at a wait.
    async fn gather(&mut self) -> Result<bool, AggregatorError> {
        let has_waiting = self.take_over_arrivals().await?;
        let longest = if has_waiting {
            Duration::from_millis(200)
        } else {
            Duration::from_millis(500)
        };
        let gathered = || self.assigned.values().flat_map(|a| &a.gathered);
        let mut count = gathered().count();
        let mut bytes: usize = gathered().map(value_bytes).sum();
        let mut since = (count > 0).then(Instant::now);
        while !self.batch_size.is_full(count, bytes) {
            let wait = match since {
                None => longest,
                Some(since) => match self.batch_size.wait(since) {
                    Some(wait) => wait,
                    None => break,
                },
            };
            let event = self.consumer.poll(wait).await?;
            match &event {
                ConsumerEvent::Idle => break,
                ConsumerEvent::Records(_, records) => {
                    count += records.len();
                    bytes += records.iter().map(value_bytes).sum::<usize>();
                    since.get_or_insert_with(Instant::now);
                }
                ConsumerEvent::Assigned(_) | ConsumerEvent::Revoked(_) => {}
            }
            self.note(event);
            if !self.arrivals.is_empty() && !has_waiting {
                self.take_over_arrivals().await?;
            }
        }
        self.batch_size.learn(count, bytes);
        Ok(self.assigned.values().any(|a| !a.gathered.is_empty()))
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
        if batches.is_empty() {
            return Ok(());
        }
        let mut recorded = Instant::now();
        self.record_pending(&mut batches).await?;
        let mut outcome = Ok(());
        let mut sent = 0;
        while sent < batches.len() && outcome.is_ok() {
            // The inserts before these may have taken their time.
            if recorded.elapsed() > self.config.insert_deadline / 2 {
                recorded = Instant::now();
                let mut unsent = batches.split_off(sent);
                self.record_pending(&mut unsent).await?;
                batches.append(&mut unsent);
            }
            let few = sent..batches
                .len()
                .min(sent + self.config.parallel_inserts.max(1));
            sent = few.end;
            outcome = if recorded.elapsed() < self.config.insert_deadline {
                self.insert(&batches[few]).await
            } else {
                Err(StoreError::Unavailable(
                    "the pending range was recorded too long ago".into(),
                ))
            };
        }
        let is_clear = match outcome {
            Ok(()) => self.mark.holds(&self.store).await.unwrap_or(false),
            Err(StoreError::DataRefused(reason)) => {
                match self.bisect(&mut batches, &reason).await {
                    Err(AggregatorError::Store(error)) if error.leaves_outcome_open() => {
                        tracing::warn!(%error, "refused records are looked for again");
                    }
                    outcome => outcome?,
                }
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
        self.keep_ours(&mut batches);
        self.commit(&batches).await
    }

    /// Sends some batches at once.
    async fn insert(&self, batches: &[SealedBatch]) -> Result<(), StoreError> {
        let mut inserts = Vec::with_capacity(batches.len());
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            inserts.push(async {
                let statement = insert_statement(batch.partition, self.epoch(batch.partition));
                self.store.insert(&statement, batch.rows()).await
            });
        }
        // All of them end before an error counts, so that none is still under way.
        for outcome in futures::future::join_all(inserts).await {
            outcome?;
        }
        Ok(())
    }
}
