//! The turn: gather, seal, record, insert, prove, commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use event_log::{
    Committed, Consumer, ConsumerEvent, LogError, Offset, Partition, SharedLog, StoredRecord,
};
use scan_model::codec::{self, CodecError};
use scan_model::{Scan, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use warehouse::scan_rows::INSERT_STATEMENT;
use warehouse::slices::Slice;
use warehouse::{Store, StoreError};

use crate::pending::{Pending, PendingError, settled};
use crate::recovery::{self, BootMark};
use crate::sealed::{BatchSealer, SealedBatch};
use crate::window::{Seen, Window};
use crate::{GROUP, SCANS, dead_letters};

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
    /// Whether rollup slices are proven and rebuilt after an unclean stop. Off only to show that it is needed.
    pub repair: bool,
}

impl Default for AggregatorConfig {
    fn default() -> Self {
        Self {
            writer: "aggregator".into(),
            batch_records: 20_000,
            linger: Duration::from_millis(200),
            window: Duration::from_secs(600),
            window_capacity: 500_000,
            insert_deadline: Duration::from_secs(2),
            parallel_inserts: 2,
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
struct Assigned {
    window: Window,
    /// Where the next batch begins.
    next: Offset,
    /// Records gathered and not yet sealed.
    gathered: Vec<StoredRecord>,
    /// A record of a newer version was met: nothing more is read (INV-10).
    paused: bool,
}

/// The aggregator.
pub struct Aggregator {
    log: SharedLog,
    store: Store,
    config: AggregatorConfig,
    consumer: Box<dyn Consumer>,
    assigned: BTreeMap<Partition, Assigned>,
    mark: BootMark,
    rows_total: metrics::Counter,
    duplicates_total: metrics::Counter,
    conflicts_total: metrics::Counter,
    turn_seconds: metrics::Histogram,
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
        let stored = retry("read the newest offset", || {
            recovery::newest_offset_in_raw(&self.store, partition)
        })
        .await?;
        if let Some(stored) = stored.filter(|stored| *stored >= open_end) {
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
            paused: false,
        };
        self.assigned.insert(partition, assigned);
        if let Some(pending) = pending.filter(|pending| pending.next > pending.first) {
            self.settle_inherited(partition, pending).await?;
        }
        let next = self
            .assigned
            .get(&partition)
            .map_or(position, |assigned| assigned.next);
        self.consumer.seek(partition, next).await?;
        Ok(())
    }

    /// Reads a pending range again, sends what raw lacks of it, proves its slices, commits.
    async fn settle_inherited(
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
        let batches = [batch];
        self.settle_unclear(&batches).await?;
        self.commit(&batches).await
    }

    /// Waits until no insert into raw is running in the store.
    async fn wait_for_running_inserts(&self) -> Result<(), AggregatorError> {
        #[derive(serde::Deserialize)]
        struct Count {
            running: u64,
        }
        // A statement whose connection was lost a moment ago may not have begun yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
        loop {
            let count: Count = retry("look for running inserts", || {
                self.store.row(
                    "SELECT count() AS running FROM system.processes WHERE query_kind = 'Insert' AND query ILIKE 'INSERT INTO scans%'",
                    &[],
                )
            })
            .await?;
            if count.running == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
                self.bisect(&batches, &reason).await?;
                self.mark.holds(&self.store).await.unwrap_or(false)
            }
            Err(error) => {
                tracing::warn!(%error, "an insert's outcome is unknown");
                false
            }
        };
        if !is_clear {
            self.settle_unclear(&batches).await?;
        }
        self.commit(&batches).await
    }

    /// Decodes, drops what was seen before, encodes. Dead letters are durable before the batch is sealed.
    async fn seal(
        &mut self,
        partition: Partition,
        records: Vec<StoredRecord>,
        range_end: Option<Offset>,
    ) -> Result<SealedBatch, AggregatorError> {
        let first = self
            .assigned
            .get(&partition)
            .map_or(0, |assigned| assigned.next);
        let mut next = range_end.unwrap_or_else(|| records.last().map_or(first, |r| r.offset + 1));
        let mut scans = Vec::with_capacity(records.len());
        for record in records {
            let value = record.record.value.unwrap_or_default();
            match codec::decode::<Scan>(&value) {
                Ok(scan) => scans.push((record.offset, Timestamp(record.append_time_ms), scan)),
                Err(error @ CodecError::NewerVersion { .. }) => {
                    tracing::error!(partition, record.offset, %error, "partition paused (INV-10)");
                    metrics::gauge!("aggregator_paused_partitions").increment(1.0);
                    self.consumer.set_paused(partition, true);
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        assigned.paused = true;
                    }
                    next = record.offset;
                    break;
                }
                Err(error) => {
                    let reason = error.to_string();
                    dead_letters::write(&self.log, partition, record.offset, &reason, &value)
                        .await?;
                }
            }
        }
        let Some(assigned) = self.assigned.get_mut(&partition) else {
            return Ok(BatchSealer::new(partition, first).seal(first));
        };
        let window = &mut assigned.window;
        // All are asked before any is remembered, because remembering makes the window forget others.
        let asked: Vec<(u64, Seen)> = scans
            .iter()
            .map(|(_, _, scan)| {
                let digest = digest(scan);
                (digest, window.ask(scan, digest))
            })
            .collect();
        let old_ids: Vec<_> = scans
            .iter()
            .zip(&asked)
            .filter(|(_, (_, seen))| *seen == Seen::PerhapsInRaw)
            .map(|((_, _, scan), _)| (scan.person, scan.scan_id))
            .collect();
        let in_raw = if old_ids.is_empty() {
            HashSet::new()
        } else {
            retry("look for old scan ids", || {
                recovery::seen_in_raw(&self.store, partition, first, &old_ids)
            })
            .await?
        };
        let mut in_batch = HashMap::with_capacity(scans.len());
        let mut sealer = BatchSealer::new(partition, first);
        for ((offset, appended_at, scan), (digest, seen)) in scans.iter().zip(asked) {
            sealer.note_time(*appended_at);
            let key = (scan.person, scan.scan_id);
            let seen = match (in_batch.get(&key), seen) {
                (Some(known), _) if *known == digest => Seen::Duplicate,
                (Some(_), _) => Seen::Conflict,
                (None, Seen::PerhapsInRaw) if in_raw.contains(&key) => Seen::Duplicate,
                (None, seen) => seen,
            };
            if seen == Seen::Conflict {
                self.conflicts_total.increment(1);
                tracing::warn!(partition, offset, scan = %scan.scan_id, "a scan id came again with other contents; the first counts");
            }
            if matches!(seen, Seen::Duplicate | Seen::Conflict) {
                self.duplicates_total.increment(1);
                continue;
            }
            in_batch.insert(key, digest);
            window.remember(scan.person, scan.scan_id, digest, *appended_at);
            sealer.push(*offset, *appended_at, scan);
        }
        assigned.next = next;
        Ok(sealer.seal(next))
    }

    /// Sends every batch, a few at a time.
    async fn insert(&self, batches: &[SealedBatch]) -> Result<(), StoreError> {
        let full: Vec<&SealedBatch> = batches.iter().filter(|batch| !batch.is_empty()).collect();
        for few in full.chunks(self.config.parallel_inserts.max(1)) {
            let mut inserts = Vec::with_capacity(few.len());
            for batch in few {
                inserts.push(self.store.insert(INSERT_STATEMENT, batch.rows()));
            }
            // All of them end before an error counts, so that none is still under way.
            for outcome in futures::future::join_all(inserts).await {
                outcome?;
            }
        }
        Ok(())
    }

    /// Brings batches whose fate is unknown to exactly one copy in raw and in every rollup, however long it takes.
    async fn settle_unclear(&mut self, batches: &[SealedBatch]) -> Result<(), AggregatorError> {
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
        batches: &[SealedBatch],
        slices: &BTreeSet<Slice>,
    ) -> Result<(), AggregatorError> {
        self.wait_for_running_inserts().await?;
        let mark = BootMark::set(&self.store, &self.config.writer).await?;
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            match recovery::complete(&self.store, batch).await {
                Ok(_) => {}
                Err(StoreError::DataRefused(reason)) => {
                    self.bisect(std::slice::from_ref(batch), &reason).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.config.repair {
            recovery::prove(&self.store, slices).await?;
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

    /// Finds the records that the store refuses for what they are, and makes them dead letters.
    async fn bisect(&self, batches: &[SealedBatch], reason: &str) -> Result<(), AggregatorError> {
        self.wait_for_running_inserts().await?;
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let present =
                recovery::offsets_in_raw(&self.store, batch.partition, batch.first, batch.next)
                    .await?;
            let mut ranges = vec![(0, batch.len())];
            while let Some((from, to)) = ranges.pop() {
                if (from..to).all(|row| present.contains(&batch.offset_of(row))) {
                    continue;
                }
                match self
                    .store
                    .insert(INSERT_STATEMENT, batch.rows_between(from, to))
                    .await
                {
                    Ok(()) => {}
                    Err(StoreError::DataRefused(_)) if to - from > 1 => {
                        let middle = from.midpoint(to);
                        ranges.push((middle, to));
                        ranges.push((from, middle));
                    }
                    Err(StoreError::DataRefused(_)) => {
                        let offset = batch.offset_of(from);
                        let value = self.value_at(batch.partition, offset).await?;
                        dead_letters::write(&self.log, batch.partition, offset, reason, &value)
                            .await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn value_at(&self, partition: Partition, offset: Offset) -> Result<Vec<u8>, LogError> {
        let mut reader = self.log.read(SCANS, partition, offset).await?;
        let records = reader.next(1, Duration::from_secs(1)).await?;
        let value = records
            .into_iter()
            .next()
            .and_then(|record| record.record.value);
        Ok(value.unwrap_or_default().to_vec())
    }

    async fn commit(&mut self, batches: &[SealedBatch]) -> Result<(), AggregatorError> {
        for batch in batches {
            let committed: Committed = settled(batch.next);
            self.consumer.commit(batch.partition, committed).await?;
            self.rows_total.increment(batch.len() as u64);
        }
        Ok(())
    }
}

/// Repeats a read until the store answers.
async fn retry<T, F>(what: &'static str, mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut delay = Duration::from_millis(50);
    loop {
        match call().await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, what, "the store is away; trying again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(2));
            }
            outcome => return outcome,
        }
    }
}

/// What of a scan its client decided: two copies of one scan agree on it, whatever the server added.
fn digest(scan: &Scan) -> u64 {
    let mut hasher = DefaultHasher::new();
    scan.kind.hash(&mut hasher);
    scan.site.hash(&mut hasher);
    (scan.checkpoint, scan.direction, scan.band, scan.decidegrees).hash(&mut hasher);
    (scan.corrects, scan.party, scan.operator).hash(&mut hasher);
    // A client that states no time gets the time of arrival, which differs between copies.
    if scan.event_time != scan.received_at {
        scan.event_time.0.hash(&mut hasher);
    }
    hasher.finish().max(1)
}

/// Where the statistics stand: everything appended up to the instant is counted.
pub async fn complete_up_to(log: &SharedLog) -> Result<Timestamp, LogError> {
    let mut complete = Timestamp::now();
    for partition in 0..log.partitions(SCANS)? {
        let bounds = log.bounds(SCANS, partition).await?;
        let committed = log.committed(GROUP, SCANS, partition).await?;
        let position = committed.map_or(bounds.start, |committed| committed.offset);
        if position >= bounds.end {
            continue;
        }
        let mut reader = log
            .read(SCANS, partition, position.max(bounds.start))
            .await?;
        if let Some(first) = reader.next(1, Duration::ZERO).await?.first() {
            complete = complete.min(Timestamp(first.append_time_ms - 1));
        }
    }
    Ok(complete)
}
