//! The log on this machine's disk.
//!
//! ```text
//! <folder>/LOCK                                   held exclusively while open
//! <folder>/positions/                             group positions (sled), see `positions`
//! <folder>/<topic>/<partition>/<offset>.log       segments, named by their first offset, see `batch`
//! <folder>/<topic>/<partition>/durable            the durable offset, see `durable_mark`
//! ```
//!
//! One committer thread takes whatever has been queued, writes one batch a partition, syncs each touched file, then
//! answers; what arrives meanwhile forms the next group. A housekeeping thread compacts and retires segments.

pub mod backup;
mod batch;
mod buckets;
mod committer;
mod compaction;
mod consumer;
mod durable_mark;
mod housekeeping;
mod key_sample;
mod partition;
mod positions;
mod reader;
mod recovery;
mod segment;
mod summary;
mod superseded;
mod writeback;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

pub use recovery::{Cut, OpenReport};

use self::committer::Committer;
use self::consumer::{Groups, LocalConsumer};
use self::housekeeping::Housekeeping;
use self::partition::PartitionLog;
use self::positions::Positions;
use self::reader::LocalReader;
use crate::error::LogError;
use crate::record::{Offset, Partition, Record};
use crate::topic::TopicConfig;
use crate::{Appended, Bounds, Committed, Consumer, EventLog, PartitionReader};

/// Bounds of the local log (INV-6).
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Bytes that may wait for the disk before an append answers [`LogError::Full`].
    pub queue_bytes: usize,
    /// Largest single append, in bytes.
    pub append_bytes: usize,
    /// How often housekeeping looks for segments to compact or retire.
    pub housekeeping_interval: Duration,
    /// Keys that compaction holds in memory at once, of some 100 bytes each; the others wait on the disk, of 24 bytes each.
    pub compaction_keys: u64,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            queue_bytes: 64 << 20,
            append_bytes: 16 << 20,
            housekeeping_interval: Duration::from_secs(10),
            compaction_keys: 2_000_000,
        }
    }
}

/// One topic's partitions.
struct Topic {
    config: TopicConfig,
    partitions: Vec<Arc<PartitionLog>>,
    /// Rises whenever any partition of the topic gets durable records or a group's members change.
    changed: watch::Sender<u64>,
}

impl Topic {
    /// Makes members of groups look again at what is theirs.
    fn wake_members(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The log on this machine's disk. Dropping it answers what is queued, syncs, and releases the folder.
pub struct LocalLog {
    topics: Arc<HashMap<String, Arc<Topic>>>,
    positions: Arc<Positions>,
    groups: Arc<Groups>,
    committer: Committer,
    housekeeping: Housekeeping,
    compaction_keys: u64,
    /// Holds the exclusive lock.
    _lock: File,
}

impl LocalLog {
    /// Opens or creates the log in a folder, verifying every batch of what no summary describes.
    ///
    /// # Errors
    /// [`LogError::Locked`] where another process has it, [`LogError::Damaged`] where durable bytes are not what was
    /// written, [`LogError::PartitionCount`] where the folder was made with other counts.
    pub fn open(
        folder: &Path,
        topics: Vec<TopicConfig>,
        options: &LocalOptions,
    ) -> Result<(Self, OpenReport), LogError> {
        fs::create_dir_all(folder).map_err(LogError::io(format!("create {}", folder.display())))?;
        let lock = lock_folder(folder)?;
        let mut report = OpenReport::default();
        let mut opened = HashMap::new();
        for config in topics {
            let topic = open_topic(folder, config, &mut report)?;
            opened.insert(topic.config.name.clone(), Arc::new(topic));
        }
        let topics = Arc::new(opened);
        let positions = Arc::new(Positions::open(&folder.join("positions"))?);
        let committer = Committer::start(options)?;
        let housekeeping = Housekeeping::start(Arc::clone(&topics), options)?;
        let groups = Arc::new(Groups::default());
        Ok((
            Self {
                topics,
                positions,
                groups,
                committer,
                housekeeping,
                compaction_keys: options.compaction_keys,
                _lock: lock,
            },
            report,
        ))
    }

    /// Compacts and retires what can be, now; answers how many segments were replaced or removed.
    pub fn run_housekeeping(&self) -> Result<usize, LogError> {
        let limits = compaction::Limits {
            keys_at_once: self.compaction_keys,
            is_closing: &AtomicBool::new(false),
        };
        housekeeping::run_once(&self.topics, &limits)
    }

    /// The first and next offset of a partition; [`EventLog::bounds`] without waiting.
    pub fn bounds_of(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        Ok(self.partition(topic, partition)?.bounds())
    }

    /// Bytes that a partition's segments take on the disk.
    pub fn bytes_of(&self, topic: &str, partition: Partition) -> Result<u64, LogError> {
        Ok(self.partition(topic, partition)?.bytes())
    }

    /// Removes the closed segments of a partition whose records are all below an offset.
    pub fn remove_below(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), LogError> {
        self.partition(topic, partition)?.remove_below(offset)
    }

    /// A group's position in a partition, if it has one.
    pub fn position(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError> {
        self.partition(topic, partition)?;
        self.positions.get(group, topic, partition)
    }

    fn topic(&self, name: &str) -> Result<&Arc<Topic>, LogError> {
        self.topics
            .get(name)
            .ok_or_else(|| LogError::UnknownTopic(name.to_owned()))
    }

    fn partition(&self, topic: &str, partition: Partition) -> Result<&Arc<PartitionLog>, LogError> {
        let unknown = || LogError::UnknownPartition {
            topic: topic.to_owned(),
            partition,
        };
        self.topic(topic)?
            .partitions
            .get(partition as usize)
            .ok_or_else(unknown)
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.committer.stop();
        self.housekeeping.stop();
        for topic in self.topics.values() {
            for partition in &topic.partitions {
                partition.close();
            }
        }
    }
}

#[async_trait]
impl EventLog for LocalLog {
    fn topics(&self) -> Vec<TopicConfig> {
        let mut topics: Vec<_> = self
            .topics
            .values()
            .map(|topic| topic.config.clone())
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.topic(topic)?.config.partitions)
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Appended, LogError> {
        let target = Arc::clone(self.partition(topic, partition)?);
        self.committer.append(target, records).await
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        Ok(self.partition(topic, partition)?.bounds())
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
    ) -> Result<Box<dyn PartitionReader>, LogError> {
        let log = Arc::clone(self.partition(topic, partition)?);
        Ok(Box::new(LocalReader::new(log, from)?))
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>, LogError> {
        let topic = Arc::clone(self.topic(topic)?);
        let positions = Arc::clone(&self.positions);
        Ok(Box::new(LocalConsumer::join(
            Arc::clone(&self.groups),
            group,
            topic,
            positions,
        )))
    }

    async fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError> {
        self.position(group, topic, partition)
    }

    async fn set_committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        committed: Committed,
    ) -> Result<(), LogError> {
        self.partition(topic, partition)?;
        if self.groups.has_members(group, topic) {
            return Err(LogError::GroupInUse(group.to_owned()));
        }
        let positions = Arc::clone(&self.positions);
        let (group, topic) = (group.to_owned(), topic.to_owned());
        tokio::task::spawn_blocking(move || positions.set(&group, &topic, partition, &committed))
            .await
            .map_err(|error| LogError::Closed(error.to_string()))?
    }
}

fn lock_folder(folder: &Path) -> Result<File, LogError> {
    let path = folder.join("LOCK");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(LogError::io(format!("open {}", path.display())))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(LogError::Io {
            context: format!("lock {}", path.display()),
            source,
        }),
    }
}

fn open_topic(
    folder: &Path,
    config: TopicConfig,
    report: &mut OpenReport,
) -> Result<Topic, LogError> {
    let topic_folder = folder.join(&config.name);
    let found = count_partitions(&topic_folder)?;
    if found != 0 && found != config.partitions {
        let (topic, wanted) = (config.name, config.partitions);
        return Err(LogError::PartitionCount {
            topic,
            found,
            wanted,
        });
    }
    if found == 0 {
        create_topic(folder, &config)?;
    }
    let (changed, _) = watch::channel(0);
    let partitions = (0..config.partitions)
        .map(|partition| {
            let log =
                PartitionLog::open(&topic_folder, &config, partition, changed.clone(), report)?;
            Ok(Arc::new(log))
        })
        .collect::<Result<_, LogError>>()?;
    Ok(Topic {
        config,
        partitions,
        changed,
    })
}

/// Makes the folders of a topic's partitions: after a crash all of them are there or none.
fn create_topic(folder: &Path, config: &TopicConfig) -> Result<(), LogError> {
    let unfinished = folder.join(format!("{}.unfinished", config.name));
    let context = || format!("create {}", unfinished.display());
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(LogError::io(context()))?;
    }
    for partition in 0..config.partitions {
        fs::create_dir_all(partition_folder(&unfinished, partition))
            .map_err(LogError::io(context()))?;
    }
    sync_folder(&unfinished)?;
    fs::rename(&unfinished, folder.join(&config.name)).map_err(LogError::io(context()))?;
    sync_folder(folder)
}

/// How many partition folders a topic has on disk.
fn count_partitions(topic_folder: &Path) -> Result<u32, LogError> {
    if !topic_folder.exists() {
        return Ok(0);
    }
    let entries = fs::read_dir(topic_folder)
        .map_err(LogError::io(format!("list {}", topic_folder.display())))?;
    Ok(entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .count() as u32)
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), LogError> {
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .map_err(LogError::io(format!("sync {}", folder.display())))
}

/// The folder of a partition.
fn partition_folder(topic_folder: &Path, partition: Partition) -> PathBuf {
    topic_folder.join(format!("{partition:05}"))
}
