//! Records as rows of one insert.

use bytes::Bytes;
use event_log::{Partition, StoredRecord};
use scan_model::Fact;
use scan_model::codec::{self, CodecError};
use warehouse::{Store, StoreError, fact_rows};

/// Rows of one insert, of any partitions.
#[derive(Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    count: u64,
    malformed: u64,
}

impl Rows {
    /// Takes a record's row in. One that cannot be read is told of and left out; it stays in the log.
    ///
    /// # Errors
    /// [`CodecError::NewerVersion`] (INV-10).
    pub(super) fn take(
        &mut self,
        partition: Partition,
        record: &StoredRecord,
    ) -> Result<(), CodecError> {
        let Some(value) = record.record.value.as_deref() else {
            return Ok(());
        };
        let offset = record.offset;
        match codec::decode::<Fact>(value) {
            Ok(fact) => {
                fact_rows::encode(&mut self.bytes, partition, offset, &fact);
                self.count += 1;
            }
            Err(error @ CodecError::NewerVersion { .. }) => return Err(error),
            Err(error) => {
                self.malformed += 1;
                tracing::error!(partition, offset, %error, "a change of a fact was left out");
            }
        }
        Ok(())
    }

    /// How many there are.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// How many records could not be read.
    pub(super) const fn malformed(&self) -> u64 {
        self.malformed
    }

    pub(super) async fn insert(self, store: &Store) -> Result<(), StoreError> {
        if self.count > 0 {
            store
                .insert(fact_rows::INSERT, Bytes::from(self.bytes))
                .await?;
        }
        Ok(())
    }
}
