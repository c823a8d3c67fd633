//! Messages received together, copied into one piece of memory instead of two for each.

use std::ops::Range;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message};

use super::reader::headers_of;
use crate::record::{Offset, Partition, Record, StoredRecord};

struct Arrival {
    partition: Partition,
    record: StoredRecord,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

/// What arrived so far.
#[derive(Default)]
pub(super) struct Arrivals {
    arrivals: Vec<Arrival>,
    bytes: Vec<u8>,
}

impl Arrivals {
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>) {
        let record = StoredRecord {
            offset: message.offset() as Offset,
            append_time_ms: message.timestamp().to_millis().unwrap_or_default(),
            record: Record {
                headers: headers_of(message),
                ..Record::default()
            },
        };
        let (key, value) = (self.copy(message.key()), self.copy(message.payload()));
        self.arrivals.push(Arrival {
            partition: message.partition() as Partition,
            record,
            key,
            value,
        });
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Range<usize>> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes?);
        Some(start..self.bytes.len())
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records. Their keys and values share memory that is given back with the last of them.
    pub(super) fn into_records(mut self) -> Vec<(Partition, StoredRecord)> {
        self.bytes.shrink_to_fit();
        let bytes = Bytes::from(self.bytes);
        let arrivals = self.arrivals.into_iter().map(|arrival| {
            let mut stored = arrival.record;
            stored.record.key = arrival.key.map(|range| bytes.slice(range));
            stored.record.value = arrival.value.map(|range| bytes.slice(range));
            (arrival.partition, stored)
        });
        arrivals.collect()
    }
}
