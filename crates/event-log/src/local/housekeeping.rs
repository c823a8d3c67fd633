//! Retires old segments and compacts keyed topics, in a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::committer::now_ms;
use super::compaction::Limits;
use super::partition::PartitionLog;
use super::{LocalOptions, Topic, compaction};
use crate::error::LogError;
use crate::topic::Cleanup;

/// How far the thread lets others go first, in steps of `nice`.
const STANDS_BACK: u8 = 10;

type Topics = HashMap<String, Arc<Topic>>;

pub(super) struct Housekeeping {
    stopping: Arc<(Mutex<bool>, Condvar)>,
    /// Gives up a round that is under way.
    is_closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeping {
    pub(super) fn start(topics: Arc<Topics>, options: &LocalOptions) -> Result<Self, LogError> {
        let (interval, keys_at_once) = (options.housekeeping_interval, options.compaction_keys);
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&is_closing);
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
                        let limits = Limits {
                            keys_at_once,
                            is_closing: &closing,
                        };
                        match run_once(&topics, &limits) {
                            Err(error) if !closing.load(Ordering::Relaxed) => {
                                tracing::error!(%error, "housekeeping failed; it is tried again");
                            }
                            _ => {}
                        }
                    });
                }
            })
            .map_err(LogError::io("start the housekeeping thread"))?;
        Ok(Self {
            stopping,
            is_closing,
            thread: Some(thread),
        })
    }

    pub(super) fn stop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        *self.stopping.0.lock() = true;
        self.stopping.1.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One round over all partitions; answers how many segments were replaced or removed.
pub(super) fn run_once(topics: &Topics, limits: &Limits<'_>) -> Result<usize, LogError> {
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
                Cleanup::Compact { delete_retention } => {
                    compaction::compact(partition, *delete_retention, limits, &mut last_look)?
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventLog, LocalLog, Record, TopicConfig};

    #[tokio::test]
    async fn a_round_is_given_up_when_the_log_closes_and_can_be_made_later() {
        let folder = tempfile::tempdir().unwrap();
        let topic = TopicConfig {
            segment_bytes: 1500,
            ..TopicConfig::new(
                "keyed",
                1,
                Cleanup::Compact {
                    delete_retention: Duration::from_secs(60),
                },
            )
        };
        let options = LocalOptions {
            housekeeping_interval: Duration::from_hours(1),
            ..LocalOptions::default()
        };
        let (log, _) = LocalLog::open(folder.path(), vec![topic], &options).unwrap();
        for number in 0..100 {
            let record = Record::keyed("same", format!("{number:090}"));
            log.append("keyed", 0, vec![record]).await.unwrap();
        }
        let is_closing = AtomicBool::new(true);
        let limits = Limits {
            keys_at_once: 1000,
            is_closing: &is_closing,
        };
        let given_up = run_once(&log.topics, &limits).unwrap_err();
        assert!(matches!(given_up, LogError::Closed(_)), "{given_up}");
        is_closing.store(false, Ordering::Relaxed);
        assert!(run_once(&log.topics, &limits).unwrap() > 3);
    }
}
