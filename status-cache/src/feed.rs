//! Keeps a cache at the end of the log: one task a partition of `persons`, `facts` and `code-revocations`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use event_log::{LogError, Offset, Partition, PartitionReader, SharedLog, StoredRecord};
use scan_model::codec::{self, CodecError};
use scan_model::{CodeRevocation, Enrolment, Fact, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cache::{Applied, StatusCache};
use crate::table::TableFull;

/// The topic of enrolments.
pub const PERSONS: &str = "persons";
/// The topic of facts.
pub const FACTS: &str = "facts";
/// The topic of revocations.
pub const CODE_REVOCATIONS: &str = "code-revocations";
/// The topics that a cache follows.
pub const TOPICS: [&str; 3] = [PERSONS, FACTS, CODE_REVOCATIONS];

/// Bytes applied at a time.
const READ_BYTES: usize = 1 << 20;
/// How often an idle partition states that it is still at the end.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait before asking a log again that was away.
const AWAY_INTERVAL: Duration = Duration::from_secs(1);

/// Where a cache stands in each partition.
pub type Positions = HashMap<(String, Partition), Offset>;

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

/// Why following the log had to stop.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record of a newer build: upgrade this node (INV-10).
    #[error("{topic}/{partition} offset {offset}: {source}")]
    NewerVersion {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The record's offset.
        offset: Offset,
        /// The versions.
        source: CodecError,
    },
    /// More persons than configured.
    #[error(transparent)]
    Full(#[from] TableFull),
}

/// One partition's progress.
struct Progress {
    position: watch::Sender<Offset>,
    /// Everything appended up to this Unix millisecond has been applied.
    known_until_ms: AtomicI64,
}

/// Follows the log until dropped.
pub struct Feed {
    progress: HashMap<(String, Partition), Arc<Progress>>,
    failure: watch::Receiver<Option<String>>,
    tasks: JoinSet<()>,
}

impl Feed {
    /// Starts following behind what the cache knows already; partitions without a position are read from their start. The log
    /// may be away: following begins when it is back.
    pub fn start(
        log: SharedLog,
        cache: Arc<StatusCache>,
        from: &Coverage,
    ) -> Result<Self, FeedError> {
        let mut progress = HashMap::new();
        let mut tasks = JoinSet::new();
        let (failed, failure) = watch::channel(None);
        for topic in TOPICS {
            for partition in 0..log.partitions(topic)? {
                let key = (topic.to_owned(), partition);
                let start = from.positions.get(&key).copied().unwrap_or(0);
                let here = Arc::new(Progress {
                    position: watch::channel(start).0,
                    known_until_ms: AtomicI64::new(from.known_until.0),
                });
                progress.insert(key, Arc::clone(&here));
                let (log, cache, failed) = (Arc::clone(&log), Arc::clone(&cache), failed.clone());
                tasks.spawn(async move {
                    if let Err(error) = follow(&log, &cache, topic, partition, start, &here).await {
                        tracing::error!(%error, topic, partition, "status feed stopped");
                        failed.send_replace(Some(error.to_string()));
                    }
                });
            }
        }
        let sweeper = Arc::clone(&cache);
        tasks.spawn(async move {
            let mut hourly = tokio::time::interval(Duration::from_secs(3600));
            loop {
                hourly.tick().await;
                sweeper.sweep_due(Timestamp::now());
            }
        });
        Ok(Self {
            progress,
            failure,
            tasks,
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
        for ((topic, partition), progress) in &self.progress {
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

    /// How old this node's knowledge is: now less the append time up to which all of it has been applied (S6).
    pub fn knowledge_age_ms(&self, now: Timestamp) -> i64 {
        (now.0 - self.known_until().unwrap_or(now).0).max(0)
    }

    fn known_until(&self) -> Option<Timestamp> {
        self.progress
            .values()
            .map(|progress| Timestamp(progress.known_until_ms.load(Ordering::Relaxed)))
            .min()
    }

    /// Why following stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// What of the log is known.
    pub fn coverage(&self) -> Coverage {
        // Read first: what is known by then has been applied below the positions.
        let known_until = self.known_until().unwrap_or(Timestamp(0));
        let positions = self
            .progress
            .iter()
            .map(|(key, here)| (key.clone(), *here.position.borrow()))
            .collect();
        Coverage {
            positions,
            known_until,
        }
    }

    /// Stops following.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn follow(
    log: &SharedLog,
    cache: &StatusCache,
    topic: &'static str,
    partition: Partition,
    start: Offset,
    progress: &Progress,
) -> Result<(), FeedError> {
    let collisions = metrics::counter!("status_collisions_total");
    let malformed = metrics::counter!("status_malformed_records_total", "topic" => topic);
    let applied = metrics::counter!("status_applied_records_total", "topic" => topic);
    let mut reader = open_reader(log, topic, partition, start).await?;
    progress.position.send_replace(reader.position());
    loop {
        let asked_at = Timestamp::now();
        let records = reader.next(READ_BYTES, IDLE_INTERVAL).await?;
        let newest_ms = records.last().map(|record| record.append_time_ms);
        for record in &records {
            match apply(cache, topic, record) {
                Ok(Applied::Collision) => {
                    collisions.increment(1);
                    tracing::error!(
                        topic,
                        partition,
                        record.offset,
                        "two documents share one person id"
                    );
                }
                Ok(_) => applied.increment(1),
                Err(ApplyError::Full(error)) => return Err(error.into()),
                Err(ApplyError::Codec(source @ CodecError::NewerVersion { .. })) => {
                    let (topic, offset) = (topic.to_owned(), record.offset);
                    return Err(FeedError::NewerVersion {
                        topic,
                        partition,
                        offset,
                        source,
                    });
                }
                Err(ApplyError::Codec(error)) => {
                    malformed.increment(1);
                    tracing::error!(topic, partition, record.offset, %error, "record skipped");
                }
            }
        }
        progress.position.send_replace(reader.position());
        let known_until_ms = match newest_ms {
            Some(newest_ms) => newest_ms,
            // With nothing left after `asked_at`, all that had been appended by then is applied.
            None if reader.is_at_end().await => asked_at.0,
            None => continue,
        };
        progress
            .known_until_ms
            .store(known_until_ms, Ordering::Relaxed);
    }
}

/// A reader from an offset, or from the partition's start where that is later; waits while the log is away.
async fn open_reader(
    log: &SharedLog,
    topic: &str,
    partition: Partition,
    from: Offset,
) -> Result<Box<dyn PartitionReader>, FeedError> {
    loop {
        let opened = async {
            let bounds = log.bounds(topic, partition).await?;
            log.read(topic, partition, from.max(bounds.start)).await
        };
        match opened.await {
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, topic, partition, "the status feed waits for the log");
                tokio::time::sleep(AWAY_INTERVAL).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

enum ApplyError {
    Codec(CodecError),
    Full(TableFull),
}

impl From<CodecError> for ApplyError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

fn apply(cache: &StatusCache, topic: &str, record: &StoredRecord) -> Result<Applied, ApplyError> {
    let Some(value) = &record.record.value else {
        return Ok(Applied::Known);
    };
    match topic {
        PERSONS => {
            let enrolment: Enrolment = codec::decode(value)?;
            cache.apply_enrolment(&enrolment).map_err(ApplyError::Full)
        }
        FACTS => Ok(cache.apply_fact(codec::decode::<Fact>(value)?)),
        _ => Ok(cache.apply_revocation(&codec::decode::<CodeRevocation>(value)?)),
    }
}
