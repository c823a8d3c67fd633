//! Passes one partition's spooled records on to the log, in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::Lane;
use super::{GROUP, Shared};
use crate::error::LogError;
use crate::record::{Offset, Partition, Record, StoredRecord};
use crate::{Committed, EventLog, PartitionReader};

/// Bytes passed on at a time: little enough that new records find room beside them.
const BATCH_BYTES: usize = 256 << 10;
/// How long to wait after the log has refused.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// A lane that diverts with nothing spooled, because the disk refused, tries the log again after this.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is noted how far records have been passed on.
const NOTE_INTERVAL: Duration = Duration::from_millis(200);

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, topic: String, partition: Partition) {
    let Ok(lane) = shared.lane(&topic, partition) else {
        return;
    };
    let mut drain = Drain {
        shared: &shared,
        lane,
        next: lane.from,
        noted: lane.from,
        noted_at: Instant::now(),
    };
    while !shared.is_open.load(Ordering::Acquire) {
        lane.changed().await;
    }
    loop {
        if let Err(error) = drain.drain().await {
            tracing::error!(topic, partition, %error, "spooled records are not passed on; trying again");
            tokio::time::sleep(PROBE_INTERVAL).await;
            continue;
        }
        if lane.is_straight() {
            lane.changed().await;
            continue;
        }
        let has_changed = tokio::time::timeout(PROBE_INTERVAL, lane.changed()).await;
        if has_changed.is_err() && lane.records() == 0 {
            lane.go_straight();
        }
    }
}

struct Drain<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    /// The next offset of the spool to pass on.
    next: Offset,
    /// How far it has been noted.
    noted: Offset,
    noted_at: Instant,
}

impl Drain<'_> {
    /// Passes on what is spooled, until nothing is.
    async fn drain(&mut self) -> Result<(), LogError> {
        let Lane {
            topic, partition, ..
        } = self.lane;
        if self.next >= self.shared.local.bounds_of(topic, *partition)?.end {
            return Ok(());
        }
        let local = &self.shared.local;
        let mut reader = local.read(topic, *partition, self.next).await?;
        loop {
            let batch = reader.next(BATCH_BYTES, Duration::ZERO).await?;
            let Some(last) = batch.last() else {
                self.note().await?;
                return Ok(());
            };
            let behind = last.offset + 1;
            self.pass_on(&batch).await;
            self.next = behind;
            self.count(&batch, reader.as_mut()).await;
            if self.noted_at.elapsed() >= NOTE_INTERVAL {
                self.note().await?;
            }
        }
    }

    /// Tries until the log has taken the batch. A try without an answer may have been taken too: its copies are told by their ids.
    async fn pass_on(&self, batch: &[StoredRecord]) {
        let Lane {
            topic, partition, ..
        } = self.lane;
        loop {
            let records: Vec<Record> = batch.iter().map(|stored| stored.record.clone()).collect();
            match self.shared.log.append(topic, *partition, records).await {
                Ok(_) => return self.lane.go_straight(),
                Err(error) => {
                    if !error.is_retryable() {
                        tracing::error!(topic, partition, %error, "the log refuses spooled records; they wait");
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    async fn count(&self, batch: &[StoredRecord], reader: &mut dyn PartitionReader) {
        let bytes = batch.iter().map(|stored| stored.record.encoded_size());
        let bytes: u64 = bytes.map(|size| size as u64).sum();
        // What follows was taken no earlier than the last that was passed on.
        let newest_ms = batch.last().map(|stored| stored.append_time_ms);
        let next_ms = if reader.is_at_end().await {
            None
        } else {
            newest_ms
        };
        self.lane
            .count_passed_on(batch.len() as u64, bytes, next_ms);
    }

    /// Notes how far the spool has been passed on, and gives its space back. A note that fails leads to copies after a restart.
    async fn note(&mut self) -> Result<(), LogError> {
        if self.noted == self.next {
            return Ok(());
        }
        let Lane {
            topic, partition, ..
        } = self.lane;
        let committed = Committed {
            offset: self.next,
            metadata: String::new(),
        };
        let local = &self.shared.local;
        let noted = local.set_committed(GROUP, topic, *partition, committed);
        if let Err(error) = noted.await {
            tracing::warn!(topic, partition, %error, "what was passed on is not noted");
        }
        self.noted = self.next;
        self.noted_at = Instant::now();
        local.remove_below(topic, *partition, self.next)
    }
}
