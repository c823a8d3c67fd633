//! One partition's share of the spool: whether new records go straight, and what waits.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::GROUP;
use crate::error::LogError;
use crate::local::LocalLog;
use crate::record::{Offset, Partition};

/// No record waits.
const NOTHING: i64 = i64::MAX;

pub(super) struct Lane {
    pub topic: String,
    pub partition: Partition,
    /// The first offset of the spool that has not been passed on, as of the start.
    pub from: Offset,
    is_straight: AtomicBool,
    records: AtomicU64,
    bytes: AtomicU64,
    oldest_ms: AtomicI64,
    changed: Notify,
    diverted_total: metrics::Counter,
    spooled_total: metrics::Counter,
    passed_on_total: metrics::Counter,
}

impl Lane {
    pub(super) fn open(
        local: &LocalLog,
        topic: &str,
        partition: Partition,
    ) -> Result<Self, LogError> {
        let bounds = local.bounds_of(topic, partition)?;
        let noted = local.position(GROUP, topic, partition)?;
        // A note that was lost leads to copies, which are told by their ids; what is gone from the disk was passed on.
        let from = noted.map_or(bounds.start, |noted| noted.offset);
        let from = from.clamp(bounds.start, bounds.end);
        let records = bounds.end - from;
        let bytes = if records == 0 {
            0
        } else {
            local.bytes_of(topic, partition)?
        };
        Ok(Self {
            topic: topic.to_owned(),
            partition,
            from,
            is_straight: AtomicBool::new(true),
            records: AtomicU64::new(records),
            bytes: AtomicU64::new(bytes),
            oldest_ms: AtomicI64::new(if records == 0 { NOTHING } else { now_ms() }),
            changed: Notify::new(),
            diverted_total: metrics::counter!("spool_diversions_total"),
            spooled_total: metrics::counter!("spool_records_total"),
            passed_on_total: metrics::counter!("spool_passed_on_total"),
        })
    }

    /// Whether new records go straight to the log.
    pub(super) fn is_straight(&self) -> bool {
        self.is_straight.load(Ordering::Acquire)
    }

    /// From now on new records are spooled.
    pub(super) fn divert(&self, reason: &str) {
        if self.is_straight.swap(false, Ordering::AcqRel) {
            self.diverted_total.increment(1);
            let (topic, partition) = (&self.topic, self.partition);
            tracing::warn!(
                topic,
                partition,
                reason,
                "the log is away; records are spooled"
            );
            self.wake();
        }
    }

    /// From now on new records go straight.
    pub(super) fn go_straight(&self) {
        if !self.is_straight.swap(true, Ordering::AcqRel) {
            let (topic, partition) = (&self.topic, self.partition);
            let waiting = self.records();
            tracing::warn!(
                topic,
                partition,
                waiting,
                "the log is back; records go straight"
            );
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the oldest waiting record was taken, in Unix milliseconds.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let oldest = self.oldest_ms.load(Ordering::Relaxed);
        (oldest != NOTHING && self.records() > 0).then_some(oldest)
    }

    /// Counts records that are about to be spooled.
    pub(super) fn reserve(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.oldest_ms.fetch_min(now_ms(), Ordering::Relaxed);
    }

    /// Takes back what was counted for records that were not spooled after all.
    pub(super) fn release(&self, records: u64, bytes: u64) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                Some(waiting.saturating_sub(bytes))
            });
    }

    pub(super) fn count_spooled(&self, records: u64) {
        self.spooled_total.increment(records);
        self.wake();
    }

    /// Notes that records were passed on, and since when the next one waits; none waits where that is `None`.
    pub(super) fn count_passed_on(&self, records: u64, bytes: u64, next_ms: Option<i64>) {
        self.release(records, bytes);
        self.passed_on_total.increment(records);
        if self.records() == 0 {
            self.bytes.store(0, Ordering::Relaxed);
        }
        self.oldest_ms
            .store(next_ms.unwrap_or(NOTHING), Ordering::Relaxed);
    }

    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits until something changes.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

pub(super) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}
