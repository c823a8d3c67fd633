//! Keeps every change of a fact in the store (S4, Y5): who said what of whom, when and why, whatever was said later.
//!
//! A row is a record at its place in the log, and one that is stored again replaces itself. So the group's position may stay behind what
//! is stored, two members may store the same records, and no range has to be settled.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use event_log::{
    Committed, Consumer, ConsumerEvent, LogError, Offset, Partition, SharedLog, StoredRecord,
};
use scan_model::Fact;
use scan_model::codec::{self, CodecError};
use tokio::time::Instant;
use warehouse::{Store, fact_rows};

use crate::patience::Delays;
use crate::pipeline::AggregatorError;

/// The topic.
pub const TOPIC: &str = "fact-history";
/// The group under which positions are kept.
pub const GROUP: &str = "aggregator-fact-history";

/// How long records are gathered for one insert: parts of the table are to be few.
const LINGER: Duration = Duration::from_secs(1);
/// Records of one insert, about.
const BATCH: usize = 50_000;
/// Bytes read at a time by [`rebuild`].
const READ_BYTES: usize = 4 << 20;

/// Rows of one insert, of any partitions.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    count: u64,
}

impl Rows {
    /// Takes a record's row in. One that cannot be read is told of and left out; it stays in the log.
    ///
    /// # Errors
    /// [`CodecError::NewerVersion`] (INV-10).
    fn take(&mut self, partition: Partition, record: &StoredRecord) -> Result<(), CodecError> {
        let Some(value) = record.record.value.as_deref() else {
            return Ok(());
        };
        let offset = record.offset;
        match codec::decode::<Fact>(value) {
            Ok(fact) => {
                fact_rows::encode(&mut self.bytes, partition, offset, &fact);
                self.count += 1;
                Ok(())
            }
            Err(error @ CodecError::NewerVersion { .. }) => Err(error),
            Err(error) => {
                metrics::counter!("aggregator_fact_history_malformed_total").increment(1);
                tracing::error!(partition, offset, %error, "a change of a fact was left out");
                Ok(())
            }
        }
    }

    async fn insert(self, store: &Store) -> Result<(), AggregatorError> {
        if self.count > 0 {
            store
                .insert(fact_rows::INSERT, Bytes::from(self.bytes))
                .await?;
        }
        Ok(())
    }
}

/// Follows the topic and stores its records; ends with an error only. The schema must be there.
pub async fn follow(log: SharedLog, store: Store) -> Result<(), AggregatorError> {
    let consumer = log.subscribe(GROUP, TOPIC).await?;
    let mut follower = Follower {
        log,
        store,
        consumer,
        assigned: BTreeMap::new(),
    };
    let rows_total = metrics::counter!("aggregator_fact_history_rows_total");
    loop {
        follower.gather().await?;
        rows_total.increment(follower.settle().await?);
    }
}

/// A partition of this member's.
#[derive(Default)]
struct Assigned {
    gathered: Vec<StoredRecord>,
    /// A record of a newer version was met (INV-10).
    is_paused: bool,
}

struct Follower {
    log: SharedLog,
    store: Store,
    consumer: Box<dyn Consumer>,
    assigned: BTreeMap<Partition, Assigned>,
}

impl Follower {
    fn count(&self) -> usize {
        self.assigned.values().map(|a| a.gathered.len()).sum()
    }

    /// Gathers records for a while from the first one on.
    async fn gather(&mut self) -> Result<(), AggregatorError> {
        let mut until = None;
        loop {
            let wait = until.map_or(LINGER, |until: Instant| {
                until.saturating_duration_since(Instant::now())
            });
            if wait.is_zero() || self.count() >= BATCH {
                return Ok(());
            }
            let event = self.consumer.poll(wait).await?;
            self.note(event).await?;
            if until.is_none() && self.count() > 0 {
                until = Some(Instant::now() + LINGER);
            }
        }
    }

    async fn note(&mut self, event: ConsumerEvent) -> Result<(), AggregatorError> {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                for partition in partitions {
                    let position = position(&self.log, partition).await?;
                    self.consumer.seek(partition, position).await?;
                    self.assigned.insert(partition, Assigned::default());
                }
            }
            ConsumerEvent::Revoked(partitions) => {
                for partition in partitions {
                    self.assigned.remove(&partition);
                }
            }
            ConsumerEvent::Records(partition, records) => {
                if let Some(assigned) = self.assigned.get_mut(&partition)
                    && !assigned.is_paused
                {
                    assigned.gathered.extend(records);
                }
            }
            ConsumerEvent::Idle => {}
        }
        Ok(())
    }

    /// Stores what was gathered and moves the positions behind it; answers how many rows that were.
    async fn settle(&mut self) -> Result<u64, AggregatorError> {
        let mut delays = Delays::new();
        loop {
            let (rows, reached) = self.rows();
            let count = rows.count;
            match rows.insert(&self.store).await {
                Ok(()) => {
                    self.commit(reached).await?;
                    return Ok(count);
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the history of facts waits for the store");
                    self.hold_still(delays.next()).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything gathered as rows, and the offset behind it in each partition.
    fn rows(&mut self) -> (Rows, BTreeMap<Partition, Offset>) {
        let (mut rows, mut reached) = (Rows::default(), BTreeMap::new());
        for (partition, assigned) in &mut self.assigned {
            for record in &assigned.gathered {
                if let Err(error) = rows.take(*partition, record) {
                    let offset = record.offset;
                    tracing::error!(partition, offset, %error, "the history of facts is paused (INV-10)");
                    metrics::gauge!("aggregator_paused_partitions").increment(1.0);
                    self.consumer.set_paused(*partition, true);
                    assigned.is_paused = true;
                    assigned.gathered.retain(|record| record.offset < offset);
                    reached.insert(*partition, offset);
                    break;
                }
                reached.insert(*partition, record.offset + 1);
            }
        }
        (rows, reached)
    }

    async fn commit(
        &mut self,
        reached: BTreeMap<Partition, Offset>,
    ) -> Result<(), AggregatorError> {
        for (partition, offset) in reached {
            let committed = Committed {
                offset,
                metadata: String::new(),
            };
            match self.consumer.commit(partition, committed).await {
                // Another member stores it again, which changes nothing.
                Ok(()) | Err(LogError::NotAssigned(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for assigned in self.assigned.values_mut() {
            assigned.gathered.clear();
        }
        Ok(())
    }

    /// Waits without new records, and without leaving the group.
    async fn hold_still(&mut self, delay: Duration) -> Result<(), AggregatorError> {
        let until = Instant::now() + delay;
        self.pause_all(true);
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            let event = self.consumer.poll(wait).await?;
            self.note(event).await?;
        }
        self.pause_all(false);
        Ok(())
    }

    fn pause_all(&mut self, is_paused: bool) {
        for (partition, assigned) in &self.assigned {
            if !assigned.is_paused {
                self.consumer.set_paused(*partition, is_paused);
            }
        }
    }
}

/// Where the group goes on in a partition.
async fn position(log: &SharedLog, partition: Partition) -> Result<Offset, LogError> {
    let bounds = log.bounds(TOPIC, partition).await?;
    let committed = log.committed(GROUP, TOPIC, partition).await?;
    let offset = committed.map_or(bounds.start, |committed| committed.offset);
    if offset > bounds.end {
        return Err(LogError::OutOfRange {
            topic: TOPIC.to_owned(),
            partition,
            offset,
            start: bounds.start,
            end: bounds.end,
        });
    }
    Ok(offset.max(bounds.start))
}

/// Why the history was not built.
pub enum RebuildError {
    /// Use a newer build (INV-10).
    NewerVersion(Partition, Offset, CodecError),
    /// The log or the store refused.
    Refused(AggregatorError),
}

impl<E: Into<AggregatorError>> From<E> for RebuildError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Stores everything that the log holds; answers how many rows.
pub async fn rebuild(log: &SharedLog, store: &Store) -> Result<u64, RebuildError> {
    let mut stored = 0;
    for partition in 0..log.partitions(TOPIC)? {
        let bounds = log.bounds(TOPIC, partition).await?;
        let mut reader = log.read(TOPIC, partition, bounds.start).await?;
        while reader.position() < bounds.end {
            let mut rows = Rows::default();
            for record in reader.next(READ_BYTES, Duration::from_secs(1)).await? {
                rows.take(partition, &record)
                    .map_err(|error| RebuildError::NewerVersion(partition, record.offset, error))?;
            }
            stored += rows.count;
            rows.insert(store).await?;
        }
    }
    Ok(stored)
}
