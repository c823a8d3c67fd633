//! Group commit: one thread writes and syncs whatever is queued, then answers all of it.

use std::collections::HashMap;
use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use scheduling::Breather;
use tokio::sync::oneshot;

use super::LocalOptions;
use super::batch::{BatchBuilder, BatchHeader, HEADER_LENGTH, MAX_BODY};
use super::partition::{NewestBatch, PartitionLog};
use super::segment::Segment;
use super::writeback;
use crate::Appended;
use crate::error::LogError;
use crate::record::Record;

/// Bytes encoded, or sent on their way to the disk, between two places where others may go first: some 50 microseconds.
const BREATH: u32 = 64 << 10;

type Answer = oneshot::Sender<Result<Appended, LogError>>;

/// One append, waiting for the disk.
struct Waiting {
    partition: Arc<PartitionLog>,
    records: Vec<Record>,
    bytes: usize,
    answer: Answer,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// Why nothing more is taken.
    closed: Option<String>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    queue_bytes: usize,
    append_bytes: usize,
    queued_gauge: metrics::Gauge,
}

/// Owns the committing thread.
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(options: &LocalOptions) -> Result<Self, LogError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            queue_bytes: options.queue_bytes.min(MAX_BODY),
            append_bytes: options.append_bytes,
            queued_gauge: metrics::gauge!("event_log_queued_bytes"),
        });
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-committer".into())
            .spawn(move || run(&thread_shared))
            .map_err(LogError::io("start the committer thread"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(super) async fn append(
        &self,
        partition: Arc<PartitionLog>,
        records: Vec<Record>,
    ) -> Result<Appended, LogError> {
        let bytes: usize = records.iter().map(Record::encoded_size).sum();
        let limit = self.shared.append_bytes.min(self.shared.queue_bytes);
        if bytes > limit {
            return Err(LogError::TooLarge { bytes, limit });
        }
        let (answer, outcome) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if let Some(reason) = &queue.closed {
                return Err(LogError::Closed(reason.clone()));
            }
            if queue.bytes + bytes > self.shared.queue_bytes {
                return Err(LogError::Full);
            }
            queue.bytes += bytes;
            queue.waiting.push(Waiting {
                partition,
                records,
                bytes,
                answer,
            });
        }
        self.shared.wake.notify_one();
        outcome
            .await
            .unwrap_or_else(|_| Err(LogError::Closed("the committer has ended".into())))
    }

    /// Answers what is queued, then ends the thread.
    pub(super) fn stop(&mut self) {
        self.shared
            .queue
            .lock()
            .closed
            .get_or_insert_with(|| "the log was closed".into());
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let groups = metrics::counter!("event_log_groups_total");
    let appended_records = metrics::counter!("event_log_appended_records_total");
    let seconds = metrics::histogram!("event_log_group_seconds");
    loop {
        let group = {
            let mut queue = shared.queue.lock();
            while queue.waiting.is_empty() {
                if queue.closed.is_some() {
                    return;
                }
                shared.wake.wait(&mut queue);
            }
            mem::take(&mut queue.waiting)
        };
        let started = std::time::Instant::now();
        let bytes: usize = group.iter().map(|waiting| waiting.bytes).sum();
        let records: usize = group.iter().map(|waiting| waiting.records.len()).sum();
        let failure = commit_group(group);
        groups.increment(1);
        appended_records.increment(records as u64);
        seconds.record(started.elapsed().as_secs_f64());
        let mut queue = shared.queue.lock();
        queue.bytes -= bytes;
        shared.queued_gauge.set(queue.bytes as f64);
        if let Some(reason) = failure {
            tracing::error!(
                reason,
                "the log is closed: a sync failed and what is on disk is unknown"
            );
            queue.closed = Some(reason.clone());
            for waiting in mem::take(&mut queue.waiting) {
                let _ = waiting.answer.send(Err(LogError::Closed(reason.clone())));
            }
            queue.bytes = 0;
        }
    }
}

/// What a group has written to one partition and not yet synced.
struct Written {
    partition: Arc<PartitionLog>,
    segment: Arc<Segment>,
    header: BatchHeader,
    body: Bytes,
    answers: Vec<(Answer, Appended)>,
}

/// Writes, syncs and answers one group; a failed sync closes the log and is answered as the reason.
fn commit_group(group: Vec<Waiting>) -> Option<String> {
    let mut by_partition: HashMap<*const PartitionLog, Vec<Waiting>> = HashMap::new();
    for waiting in group {
        by_partition
            .entry(Arc::as_ptr(&waiting.partition))
            .or_default()
            .push(waiting);
    }
    let mut written = Vec::new();
    let mut breather = Breather::every(BREATH);
    for waiting in by_partition.into_values() {
        match write_partition(waiting, &mut breather) {
            Ok(batches) => written.push(batches),
            Err(Some(reason)) => return Some(reason),
            Err(None) => {}
        }
    }
    // One file alone is on its way as soon as its sync begins.
    if written.len() > 1 {
        for Written {
            segment, header, ..
        } in &written
        {
            let length = header.total_length() as u64;
            // A refusal costs time alone: the sync below does all of it.
            let _ = writeback::start(&segment.file, segment.size(), length);
            breather.items(u32::try_from(length).unwrap_or(u32::MAX));
        }
    }
    let mut failure = None;
    for batch in written {
        if failure.is_none()
            && let Err(error) =
                sync_and_publish(&batch.partition, batch.segment, batch.header, batch.body)
        {
            failure = Some(error.to_string());
        }
        for (answer, appended) in batch.answers {
            let outcome = match &failure {
                None => Ok(appended),
                Some(reason) => Err(LogError::Closed(reason.clone())),
            };
            let _ = answer.send(outcome);
        }
    }
    failure
}

fn sync_and_publish(
    partition: &PartitionLog,
    segment: Arc<Segment>,
    header: BatchHeader,
    body: Bytes,
) -> Result<(), LogError> {
    let sync = |source| LogError::Io {
        context: format!("sync {}", segment.path.display()),
        source,
    };
    segment.file.sync_data().map_err(sync)?;
    let (position, length) = (segment.size(), header.total_length() as u64);
    segment.extend(header.base, header.next, length, header.append_time_ms);
    partition.publish(NewestBatch {
        header,
        body,
        segment,
        position,
    })
}

/// Writes one partition's share of a group as one batch. A failed write is undone and answered; `Err(Some)` means that
/// it could not be undone.
fn write_partition(
    waiting: Vec<Waiting>,
    breather: &mut Breather,
) -> Result<Written, Option<String>> {
    let partition = Arc::clone(&waiting[0].partition);
    let refuse = |waiting: Vec<Waiting>, error: &LogError| {
        tracing::error!(topic = partition.topic, partition = partition.partition, %error, "append refused");
        for Waiting { answer, .. } in waiting {
            let source = std::io::Error::other(error.to_string());
            let _ = answer.send(Err(LogError::Io {
                context: "append".into(),
                source,
            }));
        }
    };
    let segment = match partition.writable_segment() {
        Ok(segment) => segment,
        Err(error) => {
            refuse(waiting, &error);
            return Err(None);
        }
    };
    let base = partition.end();
    let append_time_ms = partition.next_append_time(now_ms());
    let capacity = waiting.iter().map(|waiting| waiting.bytes).sum();
    let mut builder = BatchBuilder::new(base, capacity);
    let mut next = base;
    let mut ranges = Vec::with_capacity(waiting.len());
    for waiting in &waiting {
        let first = next;
        for record in &waiting.records {
            builder.push(next, record);
            breather.items(u32::try_from(record.encoded_size()).unwrap_or(u32::MAX));
            next += 1;
        }
        ranges.push((first, next.saturating_sub(1).max(first)));
    }
    let (header, bytes) = builder.finish(next, append_time_ms, base);
    let before = segment.size();
    if let Err(source) = (&segment.file).write_all(&bytes) {
        let error = LogError::Io {
            context: format!("write {}", segment.path.display()),
            source,
        };
        refuse(waiting, &error);
        let undone = segment.file.set_len(before);
        return Err(undone
            .err()
            .map(|undo| format!("{error}; cutting it off: {undo}")));
    }
    let answers = waiting
        .into_iter()
        .zip(ranges)
        .map(|(waiting, (first, last))| {
            let appended = Appended {
                partition: partition.partition,
                first,
                last,
                append_time_ms,
            };
            (waiting.answer, appended)
        })
        .collect();
    Ok(Written {
        partition,
        segment,
        header,
        body: Bytes::from(bytes).slice(HEADER_LENGTH..),
        answers,
    })
}

pub(super) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}
