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
    /// The system has no threads for it.
    #[error("threads of the status feed: {0}")]
    Threads(#[source] std::io::Error),
}
