//! Keeps every change of a fact in the store (S4, Y5): who said what of whom, when and why, whatever was said later.
//!
//! A row is a record at its place in the log, and one that is stored again replaces itself. So the group's position may stay behind what
//! is stored, two members may store the same records, and no range has to be settled. Where the store holds less than the position says,
//! because it is another store or one that was built anew, it is filled from where it ends.

mod following;
mod rows;

use std::time::Duration;

use event_log::{Committed, LogError, Offset, Partition, SharedLog};
use scan_model::codec::CodecError;
use warehouse::Store;

pub use self::following::follow;
use self::rows::Rows;
use crate::pipeline::AggregatorError;

/// The topic.
pub const TOPIC: &str = "fact-history";
/// The group under which positions are kept.
pub const GROUP: &str = "aggregator-fact-history";

/// Bytes read at a time by [`rebuild`].
const READ_BYTES: usize = 4 << 20;

/// Why the history was not built.
pub enum RebuildError {
    /// Use a newer build (INV-10).
    NewerVersion(Partition, Offset, CodecError),
    /// The log or the store refused.
    Refused(AggregatorError),
}

impl<E: Into<AggregatorError>> From<E> for RebuildError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// What a rebuild came to.
pub struct Rebuilt {
    /// Rows stored.
    pub rows: u64,
    /// Of each partition, the offset behind what was read.
    ends: Vec<(Partition, Offset)>,
}

/// Stores everything that the log holds.
pub async fn rebuild(log: &SharedLog, store: &Store) -> Result<Rebuilt, RebuildError> {
    let mut rebuilt = Rebuilt {
        rows: 0,
        ends: Vec::new(),
    };
    for partition in 0..log.partitions(TOPIC)? {
        let bounds = log.bounds(TOPIC, partition).await?;
        let mut reader = log.read(TOPIC, partition, bounds.start).await?;
        while reader.position() < bounds.end {
            let mut rows = Rows::default();
            for record in reader.next(READ_BYTES, Duration::from_secs(1)).await? {
                rows.take(partition, &record)
                    .map_err(|error| RebuildError::NewerVersion(partition, record.offset, error))?;
            }
            rebuilt.rows += rows.count();
            rows.insert(store).await?;
        }
        rebuilt.ends.push((partition, reader.position()));
    }
    Ok(rebuilt)
}

impl Rebuilt {
    /// Has the group go on behind what was read, once the built tables are live: what a member stored meanwhile went into others.
    ///
    /// # Errors
    /// [`LogError::GroupInUse`] where a member follows still.
    pub async fn set_positions(&self, log: &SharedLog) -> Result<(), LogError> {
        for (partition, offset) in &self.ends {
            let committed = Committed {
                offset: *offset,
                metadata: String::new(),
            };
            log.set_committed(GROUP, TOPIC, *partition, committed)
                .await?;
        }
        Ok(())
    }
}
