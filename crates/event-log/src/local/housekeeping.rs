//! Retires old segments and compacts keyed topics, in a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::committer::now_ms;
use super::partition::PartitionLog;
use super::{LocalOptions, Topic, compaction};
use crate::error::LogError;
use crate::topic::Cleanup;

/// How far the thread lets others go first, in steps of `nice`.
const STANDS_BACK: u8 = 10;

type Topics = HashMap<String, Arc<Topic>>;

pub(super) struct Housekeeping {
    stopping: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeping {
    pub(super) fn start(topics: Arc<Topics>, options: &LocalOptions) -> Result<Self, LogError> {
        let (interval, compaction_keys) = (options.housekeeping_interval, options.compaction_keys);
        let stopping = Arc::new((Mutex::new(false), Condvar::new()));
        let thread_stopping = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("log-housekeeping".into())
            .spawn(move || {
                if let Err(error) = scheduling::stand_back(STANDS_BACK) {
                    tracing::warn!(%error, "housekeeping does not stand back behind other work");
                }
                let (flag, wake) = &*thread_stopping;
                let mut stop = flag.lock();
                while !*stop {
                    wake.wait_for(&mut stop, interval);
                    if *stop {
                        return;
                    }
                    parking_lot::MutexGuard::unlocked(&mut stop, || {
                        if let Err(error) = run_once(&topics, compaction_keys) {
                            tracing::error!(%error, "housekeeping failed; it is tried again");
                        }
                    });
                }
            })
            .map_err(LogError::io("start the housekeeping thread"))?;
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }

    pub(super) fn stop(&mut self) {
        *self.stopping.0.lock() = true;
        self.stopping.1.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One round over all partitions; answers how many segments were replaced or removed.
pub(super) fn run_once(topics: &Topics, compaction_keys: u64) -> Result<usize, LogError> {
    let mut changed = 0;
    for topic in topics.values() {
        for partition in &topic.partitions {
            let mut last_look = partition.housekeeping.lock();
            partition.sync_mark()?;
            changed += match &topic.config.cleanup {
                Cleanup::Delete {
                    retention,
                    retention_bytes,
                } => retire(partition, *retention, *retention_bytes)?,
                Cleanup::Compact { delete_retention } => compaction::compact(
                    partition,
                    *delete_retention,
                    compaction_keys,
                    &mut last_look,
                )?,
            };
        }
    }
    Ok(changed)
}

/// Removes closed segments from the oldest on, while all of one is too old or the partition is too large.
fn retire(
    partition: &PartitionLog,
    retention: Option<Duration>,
    retention_bytes: Option<u64>,
) -> Result<usize, LogError> {
    let closed = partition.closed_segments();
    let mut total =
        closed.iter().map(|segment| segment.size()).sum::<u64>() + partition.active().size();
    let oldest_kept_ms = retention.map(|age| now_ms() - age.as_millis() as i64);
    let mut count = 0;
    for segment in &closed {
        let is_old = oldest_kept_ms.is_some_and(|oldest| segment.newest_ms() < oldest);
        let is_excess = retention_bytes.is_some_and(|bound| total > bound);
        if !is_old && !is_excess {
            break;
        }
        total -= segment.size();
        count += 1;
    }
    partition.remove_oldest(count)?;
    Ok(count)
}
