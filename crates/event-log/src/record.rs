//! What goes into the log and what comes out.

use bytes::Bytes;

/// A position in a partition.
pub type Offset = u64;
/// A partition's number within its topic, from 0.
pub type Partition = u32;

/// A record to append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The key by which compaction replaces; `None` in topics without keys.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone, which deletes its key.
    pub value: Option<Bytes>,
    /// Named bytes beside the value; at most 255 of them.
    pub headers: Vec<(String, Bytes)>,
}

impl Record {
    /// A record with a key and a value.
    pub fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// A record with a value alone.
    pub fn unkeyed(value: impl Into<Bytes>) -> Self {
        Self {
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// An upper bound of the bytes that the record takes in a batch.
    pub fn encoded_size(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum();
        32 + self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers
    }
}

/// A record as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: Offset,
    /// When the log took it, in Unix milliseconds; never less than its predecessor's.
    pub append_time_ms: i64,
    /// The record.
    pub record: Record,
}
