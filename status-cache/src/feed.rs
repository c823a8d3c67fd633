//! Keeps a cache at the end of the log: one task a partition of `persons`, `facts`, `declarations` and `code-revocations`.

mod change;
mod error;
mod instruments;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use event_log::{LogError, Offset, Partition, PartitionReader, SharedLog, StoredRecord};
use scan_model::Timestamp;
use scan_model::codec::CodecError;
use scheduling::StandingBack;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::change::Change;
pub use self::error::FeedError;
use self::instruments::Instruments;
use crate::cache::{Applied, StatusCache};
use crate::positions::{LogPosition, Positions, StatusTopic};
use crate::snapshot;

/// The topic of enrolments.
pub const PERSONS: &str = StatusTopic::Persons.name();
/// The topic of facts.
pub const FACTS: &str = StatusTopic::Facts.name();
/// The topic of revocations.
pub const CODE_REVOCATIONS: &str = StatusTopic::CodeRevocations.name();

/// The topic of declarations.
pub const DECLARATIONS: &str = StatusTopic::Declarations.name();

/// How far its threads stand back, in steps of `nice`: as far as a database beside it. A lookup that wakes goes before what is applied, and
/// what is applied is owed little for it.
const STANDS_BACK: u8 = 5;
/// Records applied in one turn, so that no other writer waits for long.
const TURN: usize = 32;
/// Bytes applied at a time.
const READ_BYTES: usize = 1 << 17;
/// How often an idle partition states that it is still at the end.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);

/// How often the age of all knowledge is put together.
const GLANCE: Duration = Duration::from_millis(10);

/// How long to wait before asking a log again that was away.
const AWAY_INTERVAL: Duration = Duration::from_secs(1);

/// What of the log a cache knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The next offset of each partition.
    pub positions: Positions,
    /// Everything appended up to here has been applied.
    pub known_until: Timestamp,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            positions: Positions::new(),
            known_until: Timestamp(0),
        }
    }
}

/// One partition's progress.
struct Progress {
    position: watch::Sender<Offset>,
    /// Everything appended up to this Unix millisecond has been applied.
    known_until_ms: AtomicI64,
}

/// Follows the log until dropped.
pub struct Feed {
    progress: Arc<HashMap<(String, Partition), Arc<Progress>>>,
    /// The lowest of all partitions', as of at most [`GLANCE`] ago: what lookups read, so that none has to ask every partition.
    known_until_ms: Arc<AtomicI64>,
    failure: watch::Receiver<Option<String>>,
    is_of_another_log: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    /// Where the tasks run.
    _threads: StandingBack,
}

impl Feed {
    /// Starts following behind what the cache knows already; partitions without a position are read from their start. The log
    /// may be away: following begins when it is back.
    pub fn start(
        log: SharedLog,
        cache: Arc<StatusCache>,
        from: &Coverage,
    ) -> Result<Self, FeedError> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = StandingBack::start("status-feed", count, STANDS_BACK);
        let threads = threads.map_err(FeedError::Threads)?;
        let runtime = threads.handle();
        let mut progress = HashMap::new();
        let mut tasks = JoinSet::new();
        let (failed, failure) = watch::channel(None);
        let is_of_another_log = Arc::new(AtomicBool::new(false));
        let covered = cache.highest_positions();
        for topic in StatusTopic::ALL {
            for partition in 0..log.partitions(topic.name())? {
                let key = (topic.name().to_owned(), partition);
                let start = from.positions.get(&key).copied().unwrap_or(0);
                // Known from here on, so that a snapshot that begins before the first record of a partition states where it stands.
                cache.turn().advance(LogPosition {
                    topic,
                    partition,
                    offset: start,
                });
                let covered = covered.get(&(topic, partition)).copied().unwrap_or(start);
                let here = Arc::new(Progress {
                    position: watch::channel(start).0,
                    known_until_ms: AtomicI64::new(from.known_until.0),
                });
                progress.insert(key, Arc::clone(&here));
                let (log, cache, failed) = (Arc::clone(&log), Arc::clone(&cache), failed.clone());
                let is_of_another_log = Arc::clone(&is_of_another_log);
                let following = async move {
                    let from = start..covered;
                    if let Err(error) = follow(&log, &cache, topic, partition, from, &here).await {
                        let topic = topic.name();
                        let is_ahead = matches!(error, FeedError::AheadOfLog { .. });
                        is_of_another_log.fetch_or(is_ahead, Ordering::Relaxed);
                        tracing::error!(%error, topic, partition, "status feed stopped");
                        failed.send_replace(Some(error.to_string()));
                    }
                };
                tasks.spawn_on(following, runtime);
            }
        }
        let progress = Arc::new(progress);
        let known_until_ms = Arc::new(AtomicI64::new(known_until_ms(&progress)));
        let (glanced, glance_at) = (Arc::clone(&known_until_ms), Arc::clone(&progress));
        let glancing = async move {
            let mut glances = tokio::time::interval(GLANCE);
            glances.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                glances.tick().await;
                glanced.store(self::known_until_ms(&glance_at), Ordering::Relaxed);
            }
        };
        tasks.spawn_on(glancing, runtime);
        let sweeper = Arc::clone(&cache);
        let sweeping = async move {
            let mut hourly = tokio::time::interval(Duration::from_secs(3600));
            loop {
                hourly.tick().await;
                sweeper.sweep_due(Timestamp::now());
            }
        };
        tasks.spawn_on(sweeping, runtime);
        Ok(Self {
            progress,
            known_until_ms,
            failure,
            is_of_another_log,
            tasks,
            _threads: threads,
        })
    }

    /// Waits until a record has been applied here; `false` where the time ran out first.
    pub async fn wait_applied(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
        wait: Duration,
    ) -> bool {
        let Some(progress) = self.progress.get(&(topic.to_owned(), partition)) else {
            return false;
        };
        let mut position = progress.position.subscribe();
        let applied = position.wait_for(|position| *position > offset);
        tokio::time::timeout(wait, applied)
            .await
            .is_ok_and(|outcome| outcome.is_ok())
    }

    /// Waits until everything that the log holds now has been applied.
    pub async fn wait_caught_up(&self, log: &SharedLog) -> Result<(), FeedError> {
        for ((topic, partition), progress) in self.progress.iter() {
            let end = log.bounds(topic, *partition).await?.end;
            let mut position = progress.position.subscribe();
            let mut failure = self.failure.clone();
            tokio::select! {
                _ = position.wait_for(|position| *position >= end) => {}
                failed = failure.wait_for(Option::is_some) => {
                    let reason = failed.ok().and_then(|reason| reason.clone()).unwrap_or_default();
                    return Err(FeedError::Log(LogError::Closed(reason)));
                }
            }
        }
        Ok(())
    }

    /// How old this node's knowledge is: now less the append time up to which all of it has been applied (S6). Never younger than it
    /// is, and older by at most [`GLANCE`].
    pub fn knowledge_age_ms(&self, now: Timestamp) -> i64 {
        (now.0 - self.known_until_ms.load(Ordering::Relaxed)).max(0)
    }

    /// Why following stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Whether it turned out that what the cache began with is of another log: nothing of it is to be kept.
    pub fn is_of_another_log(&self) -> bool {
        self.is_of_another_log.load(Ordering::Relaxed)
    }

    /// Everything appended up to here has been applied.
    pub fn known_until(&self) -> Timestamp {
        Timestamp(known_until_ms(&self.progress))
    }

    /// Stops following.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The lowest of all partitions'.
fn known_until_ms(progress: &HashMap<(String, Partition), Arc<Progress>>) -> i64 {
    let each = progress.values();
    each.map(|here| here.known_until_ms.load(Ordering::Relaxed))
        .min()
        .unwrap_or(0)
}

async fn follow(
    log: &SharedLog,
    cache: &StatusCache,
    topic: StatusTopic,
    partition: Partition,
    from: Range<Offset>,
    progress: &Progress,
) -> Result<(), FeedError> {
    let instruments = Instruments::of(topic);
    let mut reader = open_reader(log, topic, partition, from).await?;
    progress.position.send_replace(reader.position());
    let mut has_caught_up = false;
    loop {
        let asked_at = Timestamp::now();
        let records = reader.next(READ_BYTES, IDLE_INTERVAL).await?;
        let newest_ms = records.last().map(|record| record.append_time_ms);
        for records in records.chunks(TURN) {
            apply_all(cache, topic, partition, records, &instruments)?;
            // A full turn of persons is an import's; the effect of facts is waited for (X2).
            let is_import = topic == StatusTopic::Persons && records.len() == TURN;
            if !is_import {
                scheduling::breathe();
            } else if let Some(pause) = scheduling::front_line::pause() {
                tokio::time::sleep(pause).await;
            }
            if has_caught_up {
                let now = Timestamp::now();
                // What was appended together has one age.
                for same in records.chunk_by(|a, b| a.append_time_ms == b.append_time_ms) {
                    let age_ms = (now.0 - same[0].append_time_ms).max(0);
                    let age = age_ms as f64 / 1000.0;
                    // Persons come by the million, and one says as much as all that came with it.
                    let is_one_enough = topic == StatusTopic::Persons;
                    let count = if is_one_enough { 1 } else { same.len() };
                    instruments.propagation.record_many(age, count);
                }
            }
        }
        cache.turn().advance(LogPosition {
            topic,
            partition,
            offset: reader.position(),
        });
        progress.position.send_replace(reader.position());
        let known_until_ms = match newest_ms {
            Some(newest_ms) => newest_ms,
            // With nothing left after `asked_at`, all that had been appended by then is applied.
            None if reader.is_at_end().await => {
                has_caught_up = true;
                asked_at.0
            }
            None => continue,
        };
        progress
            .known_until_ms
            .store(known_until_ms, Ordering::Relaxed);
    }
}

/// A reader from where a part of the cache begins to know nothing, or from the partition's start where that is later; waits while the log
/// is away. The range ends where all of the cache knows nothing.
async fn open_reader(
    log: &SharedLog,
    topic: StatusTopic,
    partition: Partition,
    from: Range<Offset>,
) -> Result<Box<dyn PartitionReader>, FeedError> {
    let topic_name = topic.name();
    loop {
        let opened = async {
            let end = snapshot::end_beyond(log, topic, partition, from.end).await?;
            if from.end > end {
                return Err(FeedError::AheadOfLog {
                    topic: topic_name,
                    partition,
                    covered: from.end,
                    end,
                });
            }
            let bounds = log.bounds(topic_name, partition).await?;
            let start = from.start.max(bounds.start);
            Ok(log.read(topic_name, partition, start).await?)
        };
        match opened.await {
            Err(FeedError::Log(error)) if error.is_retryable() => {
                tracing::debug!(%error, topic_name, partition, "the status feed waits for the log");
                tokio::time::sleep(AWAY_INTERVAL).await;
            }
            outcome => return outcome,
        }
    }
}

/// Applies records in one turn. They are decoded before it.
fn apply_all(
    cache: &StatusCache,
    topic: StatusTopic,
    partition: Partition,
    records: &[StoredRecord],
    instruments: &Instruments,
) -> Result<(), FeedError> {
    let mut changes = Vec::with_capacity(records.len());
    for record in records {
        let offset = record.offset;
        match Change::decode(topic, record) {
            Ok(change) => changes.push((offset, change)),
            Err(source @ CodecError::NewerVersion { .. }) => {
                return Err(FeedError::NewerVersion {
                    topic: topic.name().to_owned(),
                    partition,
                    offset,
                    source,
                });
            }
            Err(error) => {
                instruments.malformed.increment(1);
                let topic = topic.name();
                tracing::error!(topic, partition, offset, %error, "record skipped");
                changes.push((offset, None));
            }
        }
    }
    let mut turn = cache.turn();
    turn.expect(
        changes
            .iter()
            .flat_map(|(_, change)| change)
            .map(Change::person),
    );
    let mut applied = 0;
    for (offset, change) in changes {
        let mut at = LogPosition {
            topic,
            partition,
            offset,
        };
        if let Some(change) = change
            && !turn.is_applied(&at, change.segment_person(&turn))
        {
            match change.apply(&mut turn) {
                // One who does not fit stops nothing for all the others.
                Err(full) => {
                    instruments.without_place.increment(1);
                    if cache.count_without_place() == 0 {
                        tracing::error!(error = %full, "enrolled persons are not known here");
                    }
                }
                Ok(Applied::Collision) => {
                    instruments.collisions.increment(1);
                    let topic = topic.name();
                    tracing::error!(
                        topic,
                        partition,
                        offset,
                        "two documents share one person id"
                    );
                }
                Ok(Applied::Changed | Applied::Known) => applied += 1,
            }
        }
        at.offset += 1;
        turn.advance(at);
    }
    instruments.applied.increment(applied);
    Ok(())
}

#[cfg(test)]
mod tests;
