//! Topics and their policies.

use std::time::Duration;

/// What happens to old records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleanup {
    /// Whole segments go once all their records are older than the age, or once the partition is larger than the size.
    Delete {
        /// Keep at least this long; `None` keeps for ever.
        retention: Option<Duration>,
        /// Keep at most this many bytes a partition; `None` has no bound.
        retention_bytes: Option<u64>,
    },
    /// The newest record of each key stays; a tombstone stays for `delete_retention`, then goes.
    Compact {
        /// How long a reader has to see a tombstone.
        delete_retention: Duration,
    },
}

impl Cleanup {
    /// Keep everything.
    pub const KEEP: Self = Self::Delete {
        retention: None,
        retention_bytes: None,
    };
}

/// A topic as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name: letters, digits, `-`.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// A segment is closed at this size.
    pub segment_bytes: u64,
}

impl TopicConfig {
    /// A topic with segments of 128 MiB.
    pub fn new(name: &str, partitions: u32, cleanup: Cleanup) -> Self {
        Self {
            name: name.to_owned(),
            partitions,
            cleanup,
            segment_bytes: 128 << 20,
        }
    }
}
