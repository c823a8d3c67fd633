//! Takes records while the log is away: fsynced to this machine's disk, and passed on in order once the log is back.
//!
//! An append goes straight to the log. Where the log refuses, or has not answered within a patience, the records go to the
//! spool and are answered as [`Taken::Spooled`]; what comes next for the same partition goes to the spool at once, without
//! waiting ([`lane`]). A task a partition passes the spool's records on, in order ([`drain`]); with the first that the log
//! takes, new records go straight again, so that a backlog does not hold them up.
//!
//! **Contract.**
//! - `Ok` means durable: in the log as the log promises it, or on this machine's disk (INV-7). A record may stand in the log more
//!   than once, because an append without an answer may have been taken, and because a stop may come between passing a record
//!   on and noting it; the reader tells copies by the record's own id.
//! - Records of one partition that were spooled reach the log in the order in which they were taken. Records that went straight may
//!   overtake spooled ones.
//! - The spool is bounded in bytes (INV-6); beyond the bound, and where the disk refuses, the append is an error and nothing
//!   was taken.
//!
//! The spool is a [`LocalLog`] with the topics and partitions of the log, so its damage is found and named as the local log's is.

mod drain;
mod lane;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use self::lane::Lane;
use crate::error::LogError;
use crate::local::{LocalLog, LocalOptions};
use crate::record::{Partition, Record};
use crate::topic::{Cleanup, TopicConfig};
use crate::{Appended, OpenReport, SharedLog};

/// The group under which it is noted how far the spool has been passed on.
const GROUP: &str = "spool";
/// The spool's segments are small, because only whole ones give their space back.
const SEGMENT_BYTES: u64 = 4 << 20;
/// How often metrics are refreshed.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// How the spool behaves.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// The folder on this machine's disk; it must outlive the process.
    pub folder: PathBuf,
    /// Topics whose records are taken while the log is away.
    pub topics: Vec<String>,
    /// Bytes of records that may wait, at most.
    pub bytes: u64,
    /// How long the log may take to answer before the records are spooled.
    pub patience: Duration,
}

/// Where records came to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// In the log.
    Appended(Appended),
    /// On this machine's disk, on its way to the log.
    Spooled,
}

/// How the spool stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// Records that wait.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest of them was taken, in Unix milliseconds.
    pub oldest_ms: Option<i64>,
    /// Partitions whose new records are spooled.
    pub spooling: usize,
}

/// A log with a spool in front of it.
pub struct Spool {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What the spool and its tasks share.
struct Shared {
    log: SharedLog,
    local: LocalLog,
    lanes: HashMap<String, Vec<Lane>>,
    options: SpoolOptions,
    /// Closed until the log is known to be fit for records; until then everything is spooled and nothing passed on.
    is_open: AtomicBool,
}

impl Spool {
    /// Opens the spool's folder and starts to pass on what it holds. While it is not [opened](Self::open_gate) everything is
    /// spooled.
    ///
    /// # Errors
    /// As [`LocalLog::open`]; [`LogError::UnknownTopic`] where a topic is not the log's.
    pub fn start(log: SharedLog, options: SpoolOptions) -> Result<(Self, OpenReport), LogError> {
        let mut topics = Vec::with_capacity(options.topics.len());
        for name in &options.topics {
            let partitions = log.partitions(name)?;
            let mut topic = TopicConfig::new(name, partitions, Cleanup::KEEP);
            topic.segment_bytes = SEGMENT_BYTES;
            topics.push(topic);
        }
        let (local, report) = LocalLog::open(&options.folder, topics, &LocalOptions::default())?;
        let mut lanes = HashMap::new();
        for topic in &options.topics {
            let partitions = log.partitions(topic)?;
            let of_topic = (0..partitions).map(|partition| Lane::open(&local, topic, partition));
            lanes.insert(topic.clone(), of_topic.collect::<Result<_, _>>()?);
        }
        let shared = Arc::new(Shared {
            log,
            local,
            lanes,
            options,
            is_open: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for (topic, lanes) in &shared.lanes {
            for partition in 0..lanes.len() as Partition {
                tasks.spawn(drain::run(Arc::clone(&shared), topic.clone(), partition));
            }
        }
        tasks.spawn(measure(Arc::clone(&shared)));
        let spool = Self {
            shared,
            _tasks: tasks,
        };
        Ok((spool, report))
    }

    /// The log is fit for records: from now on they go straight, and what was spooled is passed on.
    pub fn open_gate(&self) {
        self.shared.is_open.store(true, Ordering::Release);
        for lane in self.shared.lanes.values().flatten() {
            lane.wake();
        }
    }

    /// Makes records of one partition durable, in the log or on this machine's disk.
    ///
    /// # Errors
    /// [`LogError::Full`] where neither the log nor the spool has room; [`LogError::TooLarge`], [`LogError::UnknownPartition`] for
    /// what no retry mends; the disk's refusal otherwise. Nothing was spooled then, but the log may have taken the records.
    pub async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Taken, LogError> {
        let shared = &*self.shared;
        let lane = shared.lane(topic, partition)?;
        if shared.is_open.load(Ordering::Acquire) && lane.is_straight() {
            let appending = shared.log.append(topic, partition, records.clone());
            match tokio::time::timeout(shared.options.patience, appending).await {
                Ok(Ok(appended)) => return Ok(Taken::Appended(appended)),
                Ok(Err(
                    error @ (LogError::TooLarge { .. }
                    | LogError::UnknownTopic(_)
                    | LogError::UnknownPartition { .. }),
                )) => return Err(error),
                // The log takes records, only not so many at once.
                Ok(Err(LogError::Full)) => {}
                Ok(Err(error)) => lane.divert(&error.to_string()),
                Err(_) => lane.divert("no answer in time"),
            }
        }
        shared.spool(lane, records).await?;
        Ok(Taken::Spooled)
    }

    /// How the spool stands.
    pub fn state(&self) -> SpoolState {
        self.shared.state()
    }

    /// Waits until nothing is spooled, or the time is over; answers whether it is empty.
    pub async fn wait_empty(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        while self.state().records > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

impl Shared {
    fn lane(&self, topic: &str, partition: Partition) -> Result<&Lane, LogError> {
        let lanes = self
            .lanes
            .get(topic)
            .ok_or_else(|| LogError::UnknownTopic(topic.to_owned()))?;
        lanes
            .get(partition as usize)
            .ok_or_else(|| LogError::UnknownPartition {
                topic: topic.to_owned(),
                partition,
            })
    }

    async fn spool(&self, lane: &Lane, records: Vec<Record>) -> Result<(), LogError> {
        use crate::EventLog;
        let bytes: u64 = records.iter().map(|r| r.encoded_size() as u64).sum();
        let count = records.len() as u64;
        // Reserved first, so that appends at the same time do not pass the bound together.
        lane.reserve(count, bytes);
        let waiting: u64 = self.lanes.values().flatten().map(Lane::bytes).sum();
        let outcome = if waiting > self.options.bytes {
            Err(LogError::Full)
        } else {
            self.local
                .append(&lane.topic, lane.partition, records)
                .await
        };
        if let Err(error) = outcome {
            lane.release(count, bytes);
            return Err(error);
        }
        lane.count_spooled(count);
        Ok(())
    }

    fn state(&self) -> SpoolState {
        let mut state = SpoolState::default();
        for lane in self.lanes.values().flatten() {
            state.records += lane.records();
            state.bytes += lane.bytes();
            state.spooling += usize::from(!lane.is_straight());
            let oldest = lane.oldest_ms();
            state.oldest_ms = match (state.oldest_ms, oldest) {
                (Some(known), Some(oldest)) => Some(known.min(oldest)),
                (known, oldest) => known.or(oldest),
            };
        }
        state
    }
}

async fn measure(shared: Arc<Shared>) {
    let records = metrics::gauge!("spool_records");
    let bytes = metrics::gauge!("spool_bytes");
    let age = metrics::gauge!("spool_age_seconds");
    let spooling = metrics::gauge!("spool_partitions_spooling");
    metrics::gauge!("spool_limit_bytes").set(shared.options.bytes as f64);
    loop {
        let state = shared.state();
        records.set(state.records as f64);
        bytes.set(state.bytes as f64);
        spooling.set(state.spooling as f64);
        let oldest = state.oldest_ms.map_or(0, |oldest| lane::now_ms() - oldest);
        age.set(oldest.max(0) as f64 / 1000.0);
        tokio::time::sleep(MEASURE_INTERVAL).await;
    }
}
