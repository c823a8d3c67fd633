//! A snapshot spares a restart the reading of the whole log.
//!
//! ```text
//! file     = header, 128 sections, index, trailer
//! header   = magic "TXSNAP03" 8, fingerprint of the person key 8, known until (Unix ms) 8,
//!            partitions: count u32, then each topic (u8 length, text) and partition u32
//! section  = slots u64, persons u64, holders u64, revocations u64, bytes of facts u64, bytes of revocations u64, aliases u64,
//!            early declarations u64,
//!            the next offset of each partition of the header u64,
//!            slots × 32 bytes: the segment as it lies in memory, free slots as zeros,
//!            facts: person u64, length u32, packed facts; revocations: length u32, wire form;
//!            aliases: id u64, residue u16, the person's id u64 and check u128;
//!            declarations of persons not enrolled: person u64, Unix milliseconds u64
//!            BLAKE3 of all before it in the section 32
//! index    = where each section begins u64
//! trailer  = persons u64, where the index begins u64, BLAKE3 of header, index and these two 32
//! ```
//!
//! Numbers are little-endian. A segment is written as it lies in memory, so that a start reads at the disk's speed on every
//! core. It is written beside the old file, past the page cache, synced, and put in its place by one rename. One that is
//! damaged, made under another key, of another version, too old or ahead of the log is refused by name; the cache is then rebuilt from
//! the log.

mod against_log;
mod read;
mod write;

use std::io;
use std::path::PathBuf;

use event_log::{Offset, Partition};

use crate::positions::StatusTopic;

pub use self::against_log::check_against_log;
pub(crate) use self::against_log::end_beyond;
pub use self::read::read;
pub use self::write::{Pace, write};

const MAGIC: &[u8; 8] = b"TXSNAP03";
const HASH_LENGTH: usize = 32;
/// Bytes of a section's head before the offsets.
const HEAD_LENGTH: usize = 64;
const TRAILER_LENGTH: usize = 16 + HASH_LENGTH;

/// A partition, as the header lists it.
type PartitionKey = (StatusTopic, Partition);

/// Why a snapshot was refused. The cache is to be rebuilt from the log.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Not what was written.
    #[error("{}: damaged: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Of another version of this format, or no snapshot at all.
    #[error("{}: not a snapshot of the version that this build reads", .0.display())]
    OtherVersion(PathBuf),
    /// Made under another person key.
    #[error("{}: made under another person key", .0.display())]
    Foreign(PathBuf),
    /// Too old: compaction may have dropped tombstones that it has not seen.
    #[error("{}: knows the log up to {age_hours} hours ago, more than {limit_hours} are not allowed", file.display())]
    TooOld {
        /// The file.
        file: PathBuf,
        /// Its age.
        age_hours: i64,
        /// The bound: half of the topics' delete retention.
        limit_hours: i64,
    },
    /// Of another log: it covers more than this one holds.
    #[error("{}: covers {topic}/{partition} up to offset {covered}, and the log ends at {end}: it is of another log, or the log was made anew", file.display())]
    AheadOfLog {
        /// The file.
        file: PathBuf,
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: Partition,
        /// What the snapshot covers.
        covered: Offset,
        /// What the log holds.
        end: Offset,
    },
    /// Persons of the log are not in the table, and a restart from the snapshot would not read them again: raise persons.capacity.
    #[error("{persons} enrolments found the status table full; raise persons.capacity and restart")]
    WithoutPlace {
        /// How many.
        persons: u64,
    },
    /// More persons than configured.
    #[error(transparent)]
    Full(#[from] crate::TableFull),
}

#[cfg(test)]
mod tests;
