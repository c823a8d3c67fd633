//! A durable, ordered, partitioned log of bytes, shaped for Kafka's semantics and knowing no domain type.
//!
//! - [`EventLog`] appends and hands out readers and consumers; [`topic`] declares topics and their policies.
//! - [`record`] is what goes in and comes out; [`LogError`] says what a caller can do.
//! - [`local`] is the backend on this machine's disk: segments with CRC, group commit with fdatasync, compaction,
//!   retention, damage reported by file and offset.
//! - [`kafka`] is the backend on a Kafka cluster: idempotent appends, cooperative groups, topics as declared.
//! - [`spool`] takes records to this machine's disk while a log is away, and passes them on.
//! - [`partitioner`] maps keys to partitions, the same on every backend.
//!
//! **Contract.** An append is answered when durable (INV-7). Offsets of a partition rise by one for each record appended
//! and are never reused; compaction leaves gaps. A reader sees durable records only, in order, each once.

pub mod error;
pub mod kafka;
pub mod local;
pub mod partitioner;
pub mod record;
pub mod spool;
pub mod topic;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use error::LogError;
pub use kafka::KafkaLog;
pub use local::{LocalLog, OpenReport};
pub use partitioner::partition_for;
pub use record::{Offset, Partition, Record, StoredRecord};
pub use spool::{Spool, SpoolOptions, SpoolState, Taken};
pub use topic::{Cleanup, TopicConfig};

/// Where an append came to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub partition: Partition,
    /// The offset of the first record.
    pub first: Offset,
    /// The offset of the last record. On the local log the records between have the offsets between; on Kafka another
    /// producer's may stand among them.
    pub last: Offset,
    /// The log-append time that the records carry, in Unix milliseconds.
    pub append_time_ms: i64,
}

/// A group's position in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// What the committer keeps beside it: printable ASCII, at most [`MAX_COMMIT_METADATA`] bytes.
    pub metadata: String,
}

impl Committed {
    /// Refuses metadata that a backend may not keep as it is.
    pub(crate) fn check_metadata(&self) -> Result<(), LogError> {
        let mut bytes = self.metadata.bytes();
        let is_text = bytes.all(|byte| (b' '..=b'~').contains(&byte));
        if is_text && self.metadata.len() <= MAX_COMMIT_METADATA {
            return Ok(());
        }
        Err(LogError::Metadata)
    }
}

/// Longest commit metadata, in bytes: Kafka's default `offset.metadata.max.bytes`.
pub const MAX_COMMIT_METADATA: usize = 4096;

/// The first and next offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset that retention has kept.
    pub start: Offset,
    /// The offset that the next record gets.
    pub end: Offset,
}

/// A log. Cheap to share; every method may be called from any task.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// The declared topics.
    fn topics(&self) -> Vec<TopicConfig>;

    /// How many partitions a topic has.
    fn partitions(&self, topic: &str) -> Result<u32, LogError>;

    /// Appends records to one partition, in order and together, and answers when they are durable.
    ///
    /// # Errors
    /// [`LogError::Full`] before anything is queued; after [`LogError::Io`] the outcome is unknown and the caller
    /// settles it by the record's own id.
    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Appended, LogError>;

    /// The first and next offset of a partition; `end` counts durable records only.
    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError>;

    /// A reader of one partition that starts at `from`.
    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
    ) -> Result<Box<dyn PartitionReader>, LogError>;

    /// Joins a group that shares a topic's partitions among its members.
    async fn subscribe(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>, LogError>;

    /// A group's position in a partition, if it has one.
    async fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError>;

    /// Sets a group's position from outside of the group, durably: for tools that put right a position that was lost.
    ///
    /// # Errors
    /// [`LogError::GroupInUse`] while the group has members: they hold positions of their own, and would go on from those.
    async fn set_committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        committed: Committed,
    ) -> Result<(), LogError>;
}

/// Reads one partition in order.
#[async_trait]
pub trait PartitionReader: Send {
    /// The next records, up to `max_bytes` of values but at least one record; waits up to `wait` for the first.
    /// An empty answer means that the time ran out.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] where retention has overtaken the reader, [`LogError::Damaged`] where the bytes on
    /// disk are not what was written.
    async fn next(
        &mut self,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<StoredRecord>, LogError>;

    /// The offset that the next record read will have, or follow.
    fn position(&self) -> Offset;

    /// Whether everything that was durable before the call has been handed out. `false` also where it cannot be told now,
    /// because the log is away or was asked a moment ago: silence alone is no proof of being up to date.
    async fn is_at_end(&mut self) -> bool;
}

/// What a group's membership brings.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// These partitions are this member's from now on. The member seeks each before it reads.
    Assigned(Vec<Partition>),
    /// These partitions are this member's no longer; commits for them are refused.
    Revoked(Vec<Partition>),
    /// Records of one assigned partition, in order.
    Records(Partition, Vec<StoredRecord>),
    /// Nothing within the time.
    Idle,
}

/// A member of a group.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// The next event; waits up to `wait`.
    async fn poll(&mut self, wait: Duration) -> Result<ConsumerEvent, LogError>;

    /// Sets where an assigned partition is read next.
    async fn seek(&mut self, partition: Partition, offset: Offset) -> Result<(), LogError>;

    /// Stops (or resumes) delivery of an assigned partition's records.
    fn set_paused(&mut self, partition: Partition, paused: bool);

    /// Records the group's position durably, with metadata.
    async fn commit(&mut self, partition: Partition, committed: Committed) -> Result<(), LogError>;
}

/// A shared log of any backend.
pub type SharedLog = Arc<dyn EventLog>;
