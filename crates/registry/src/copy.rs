//! This machine's copy of the registry's topic, from which a node starts while the log is away.
//!
//! A copy is the topic's records as they came, each with its offset, in a log of its own; applying them gives the state of then.
//! It is never more than behind: what it lacks is read from the log.

use std::time::Duration;

use event_log::{LogError, Offset, Record, SharedLog, StoredRecord};

use crate::TOPIC;

/// Names the header that holds a record's offset in the log.
const OFFSET: &str = "offset";
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The copy.
pub(crate) struct RegistryCopy {
    local: SharedLog,
    /// The log's offset behind the newest record of the copy.
    next: Offset,
}

impl RegistryCopy {
    /// Opens a copy in a log that has the registry's topic, and hands out every record of it as the log had it.
    pub(crate) async fn open(
        local: SharedLog,
        mut apply: impl FnMut(&StoredRecord),
    ) -> Result<Self, LogError> {
        let bounds = local.bounds(TOPIC, 0).await?;
        let mut reader = local.read(TOPIC, 0, bounds.start).await?;
        let mut next = 0;
        while reader.position() < bounds.end {
            for mut stored in reader.next(READ_BYTES, Duration::from_secs(1)).await? {
                let header = stored.record.headers.pop();
                let offset = header
                    .filter(|(name, _)| name == OFFSET)
                    .and_then(|(_, value)| value.as_ref().try_into().ok())
                    .map(Offset::from_le_bytes)
                    .ok_or_else(|| LogError::Closed("the registry's copy is not one".into()))?;
                // A stop between two appends may leave a record in the copy twice.
                if offset < next {
                    continue;
                }
                stored.offset = offset;
                next = offset + 1;
                apply(&stored);
            }
        }
        Ok(Self { local, next })
    }

    /// The log's offset behind the newest record of the copy.
    pub(crate) const fn next(&self) -> Offset {
        self.next
    }

    /// Adds records that came from the log; durable on return.
    pub(crate) async fn add(&mut self, records: &[StoredRecord]) -> Result<(), LogError> {
        let Some(last) = records.last() else {
            return Ok(());
        };
        let copies: Vec<Record> = records
            .iter()
            .map(|stored| {
                let mut record = stored.record.clone();
                let offset = stored.offset.to_le_bytes().to_vec();
                record.headers.push((OFFSET.to_owned(), offset.into()));
                record
            })
            .collect();
        self.local.append(TOPIC, 0, copies).await?;
        self.next = last.offset + 1;
        Ok(())
    }
}
