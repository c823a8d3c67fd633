//! Why a feed ends.

use event_log::{LogError, Offset, Partition};
use scan_model::codec::CodecError;

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
    /// The cache was restored from a snapshot of another log: restart the node, and it rebuilds everyone's status from this one.
    #[error(
        "{topic}/{partition}: the status snapshot covers offsets up to {covered}, and the log ends at {end}: it is of another log, or the log was made anew; restart this node, which then rebuilds from the log"
    )]
    AheadOfLog {
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: Partition,
        /// What the snapshot covers.
        covered: Offset,
        /// What the log holds.
        end: Offset,
    },
    /// The system has no threads for it.
    #[error("threads of the status feed: {0}")]
    Threads(#[source] std::io::Error),
}
