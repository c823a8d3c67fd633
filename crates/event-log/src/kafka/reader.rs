//! Readers of single partitions, many to one client.
//!
//! A client costs a connection to every broker and a thread for each; a node follows dozens of partitions. Readers therefore
//! share clients: each partition's messages are split off into a queue of their own. Two readers of one partition are on different
//! clients, because a client fetches a partition once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::asking::Asking;
use super::context::LogContext;
use super::{ASK_TIMEOUT, KafkaOptions, ask, refusal};
use crate::error::LogError;
use crate::record::{Offset, Partition, Record, StoredRecord};
use crate::{Bounds, PartitionReader};

/// The newest records of a partition may be gone by compaction, so that reading ends short of its end for good. A leader that
/// was only just elected may also report an end that is short for a moment, which is over after this long.
const TAIL_SETTLES: Duration = Duration::from_secs(5);
/// How often a reader asks where the end is, at most.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

type Client = StreamConsumer<LogContext>;
type Place = (String, Partition);

/// A client and the partitions that are read on it.
struct Shared {
    client: Arc<Client>,
    taken: Mutex<HashSet<Place>>,
    /// Serves what does not belong to a partition: errors, statistics.
    serving: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The clients of a log.
pub(super) struct Readers {
    options: KafkaOptions,
    clients: Mutex<Vec<Arc<Shared>>>,
    /// Answers bounds.
    asking: Arc<Asking>,
}

impl Readers {
    pub(super) fn new(options: &KafkaOptions) -> Result<Self, LogError> {
        Ok(Self {
            options: options.clone(),
            clients: Mutex::default(),
            asking: Arc::new(Asking::new(options.reader(), "bounds")?),
        })
    }

    /// The first and next offset of a partition; the next is the high watermark: what every in-sync replica has.
    pub(super) async fn bounds(
        &self,
        topic: &str,
        partition: Partition,
    ) -> Result<Bounds, LogError> {
        let (asking, topic) = (Arc::clone(&self.asking), topic.to_owned());
        ask(move || {
            let client = &asking.client;
            let watermarks = || client.fetch_watermarks(&topic, partition as i32, ASK_TIMEOUT);
            let mut answer = watermarks();
            // A broker that has only just started may leave partitions out of what it tells of a topic, and the client believes
            // that for minutes.
            if let Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition)) = answer {
                answer = client
                    .fetch_metadata(Some(&topic), ASK_TIMEOUT)
                    .and_then(|_| watermarks());
            }
            let (start, end) = asking.settle("ask for a partition's bounds", answer)?;
            Ok(Bounds {
                start: start.max(0) as Offset,
                end: end.max(0) as Offset,
            })
        })
        .await
    }

    /// A reader from an offset that the partition has, or is about to have.
    pub(super) async fn read(
        self: &Arc<Self>,
        topic: &str,
        partition: Partition,
        from: Offset,
    ) -> Result<KafkaReader, LogError> {
        let bounds = self.bounds(topic, partition).await?;
        if from < bounds.start || from > bounds.end {
            return Err(out_of_range(topic, partition, from, bounds));
        }
        let place = (topic.to_owned(), partition);
        let shared = self.shared(&place)?;
        // Split off before it is assigned: nothing of it ever reaches the client's own queue.
        let queue = shared
            .client
            .split_partition_queue(topic, partition as i32)
            .ok_or_else(|| LogError::UnknownPartition {
                topic: topic.to_owned(),
                partition,
            })?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition as i32, KafkaOffset::Offset(from as i64))
            .and_then(|()| shared.client.incremental_assign(&assignment))
            .map_err(|error| refusal("begin to read a partition", &error))?;
        Ok(KafkaReader {
            queue: Arc::new(queue),
            place,
            next: from,
            end_at_start: bounds.end,
            at_end_since: None,
            asked_at: None,
            failure: None,
            readers: Arc::clone(self),
            shared,
        })
    }

    /// A client on which a partition is not read yet.
    fn shared(&self, place: &Place) -> Result<Arc<Shared>, LogError> {
        let mut clients = self.clients.lock();
        for shared in clients.iter() {
            if shared.taken.lock().insert(place.clone()) {
                return Ok(Arc::clone(shared));
            }
        }
        let client = Arc::new(client(&self.options)?);
        let serving = tokio::spawn({
            let client = Arc::clone(&client);
            async move {
                loop {
                    // Messages never come here; what does has been told to the context.
                    if let Err(error) = client.recv().await {
                        tracing::debug!(%error, "kafka client");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        let shared = Arc::new(Shared {
            client,
            taken: Mutex::new(HashSet::from([place.clone()])),
            serving,
        });
        clients.push(Arc::clone(&shared));
        Ok(shared)
    }
}

fn client(options: &KafkaOptions) -> Result<Client, LogError> {
    options
        .reader()
        .create_with_context(LogContext::new("reader"))
        .map_err(|error| LogError::Options(error.to_string()))
}

pub(super) fn out_of_range(
    topic: &str,
    partition: Partition,
    offset: Offset,
    bounds: Bounds,
) -> LogError {
    LogError::OutOfRange {
        topic: topic.to_owned(),
        partition,
        offset,
        start: bounds.start,
        end: bounds.end,
    }
}

/// Whether an error says that an offset is not there any more.
pub(super) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset)
    )
}

/// Reads one partition.
pub(super) struct KafkaReader {
    queue: Arc<StreamPartitionQueue<LogContext>>,
    place: Place,
    /// The next offset to hand out.
    next: Offset,
    /// The partition's end when reading began.
    end_at_start: Offset,
    /// Since when the end has been reached without anything new.
    at_end_since: Option<Instant>,
    /// When the brokers were last asked where the end is.
    asked_at: Option<Instant>,
    /// What went wrong behind records that were read; reported after them.
    failure: Option<LogError>,
    readers: Arc<Readers>,
    shared: Arc<Shared>,
}

impl KafkaReader {
    fn take(
        &mut self,
        received: Result<BorrowedMessage<'_>, KafkaError>,
        records: &mut Vec<StoredRecord>,
    ) -> Result<usize, LogError> {
        match received {
            Ok(message) => {
                let record = to_record(&message);
                // A fetch that was under way may repeat what was handed out.
                if record.offset < self.next {
                    return Ok(0);
                }
                self.next = record.offset + 1;
                self.at_end_since = None;
                let bytes = message.payload_len();
                records.push(record);
                Ok(bytes)
            }
            Err(KafkaError::PartitionEOF(_)) => {
                self.at_end_since.get_or_insert_with(Instant::now);
                Ok(0)
            }
            Err(error) if is_out_of_range(&error) => {
                let (topic, partition) = &self.place;
                let bounds = Bounds {
                    start: self.next,
                    end: self.next,
                };
                Err(out_of_range(topic, *partition, self.next, bounds))
            }
            // The client goes on by itself.
            Err(error) => {
                tracing::debug!(%error, "kafka reader");
                Ok(0)
            }
        }
    }
}

#[async_trait]
impl PartitionReader for KafkaReader {
    async fn next(
        &mut self,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<StoredRecord>, LogError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let deadline = Instant::now() + wait;
        let mut records = Vec::new();
        let mut bytes = 0;
        let queue = Arc::clone(&self.queue);
        loop {
            let received = if records.is_empty() {
                match tokio::time::timeout_at(deadline, queue.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Ok(records),
                }
            } else {
                match queue.recv().now_or_never() {
                    Some(received) => received,
                    None => return Ok(records),
                }
            };
            match self.take(received, &mut records) {
                Ok(taken) => bytes += taken,
                Err(failure) if records.is_empty() => return Err(failure),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Ok(records);
                }
            }
            if bytes >= max_bytes {
                return Ok(records);
            }
        }
    }

    fn position(&self) -> Offset {
        let has_settled = |since: Instant| since.elapsed() >= TAIL_SETTLES;
        if self.at_end_since.is_some_and(has_settled) {
            self.next.max(self.end_at_start)
        } else {
            self.next
        }
    }

    async fn is_at_end(&mut self) -> bool {
        let is_recent = |asked: Instant| asked.elapsed() < ASK_INTERVAL;
        if self.asked_at.is_some_and(is_recent) {
            return false;
        }
        self.asked_at = Some(Instant::now());
        let (topic, partition) = &self.place;
        let bounds = self.readers.bounds(topic, *partition).await;
        bounds.is_ok_and(|bounds| self.position() >= bounds.end)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        let (topic, partition) = &self.place;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition(topic, *partition as i32);
        if let Err(error) = self.shared.client.incremental_unassign(&assignment) {
            tracing::debug!(%error, "kafka reader");
        }
        self.shared.taken.lock().remove(&self.place);
    }
}

/// A message as a record.
fn to_record(message: &BorrowedMessage<'_>) -> StoredRecord {
    StoredRecord {
        offset: message.offset() as Offset,
        append_time_ms: message.timestamp().to_millis().unwrap_or_default(),
        record: Record {
            key: message.key().map(|key| key.to_vec().into()),
            value: message.payload().map(|value| value.to_vec().into()),
            headers: headers_of(message),
        },
    }
}

/// A message's headers.
pub(super) fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(String, Bytes)> {
    message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| {
                let value = header.value.unwrap_or_default();
                (header.key.to_owned(), value.to_vec().into())
            })
            .collect()
    })
}
