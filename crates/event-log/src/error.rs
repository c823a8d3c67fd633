//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;

use crate::record::{Offset, Partition};

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Retry after a while: a bound was reached and nothing was queued (INV-6).
    #[error("the log's queue is full; retry after a while")]
    Full,
    /// Give up on this record: it is larger than a batch may be.
    #[error("a record of {bytes} bytes is larger than {limit} bytes")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Fix the call: no such topic.
    #[error("topic {0} is not declared")]
    UnknownTopic(String),
    /// Fix the call: no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: Partition,
    },
    /// Decide: the offset is outside what the partition holds. Never answered by "latest".
    #[error("offset {offset} is outside {start}..={end} of {topic}/{partition}")]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The offset asked for.
        offset: Offset,
        /// The oldest offset kept.
        start: Offset,
        /// The next offset to be written.
        end: Offset,
    },
    /// Restore from a replica or backup: bytes that were durable are damaged or missing.
    #[error("{}: damaged at byte {position}, offset {offset}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The byte position in it.
        position: u64,
        /// The offset expected there.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// Stop the other process: the log's folder is in use.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Fix the configuration: the folder was made with other settings.
    #[error(
        "topic {topic} has {found} partitions on disk, {wanted} in the configuration; the number changes only by replay"
    )]
    PartitionCount {
        /// The topic.
        topic: String,
        /// Partitions on disk.
        found: u32,
        /// Partitions configured.
        wanted: u32,
    },
    /// Commit metadata must be short printable ASCII.
    #[error("commit metadata must be at most 4096 bytes of printable ASCII")]
    Metadata,
    /// The partition is assigned to another member.
    #[error("partition {0} is not assigned to this member")]
    NotAssigned(Partition),
    /// Poll, then try again: the group is sharing out its partitions anew, and this one may stay with this member.
    #[error("the group is rebalancing; partition {0} may stay with this member")]
    Rebalancing(Partition),
    /// The log has been closed, or a write failed and closed it; restart to recover.
    #[error("the log is closed: {0}")]
    Closed(String),
    /// The disk refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Retry after a while: the log is away. What was sent may have been taken all the same; its own id settles it.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// Fix the access rules: the cluster refuses this user.
    #[error("the cluster refuses: {0}")]
    Forbidden(String),
    /// Fix the certificates or the TLS options: no protected connection comes about.
    #[error("no protected connection to the cluster: {0}")]
    Tls(String),
    /// Stop the group's members first: a position is theirs while they are there.
    #[error("group {0} has members; its positions are set only while it has none")]
    GroupInUse(String),
    /// Fix the configuration: an option is not one.
    #[error("log options: {0}")]
    Options(String),
    /// The store of small state refused.
    #[error("position store: {0}")]
    Positions(String),
}

impl LogError {
    /// Whether the same call may succeed later without anyone's help.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Unavailable(_))
    }

    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }
}
