//! Appends through one idempotent producer, answered from delivery reports.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Semaphore;

use super::KafkaOptions;
use super::context::LogContext;
use crate::Appended;
use crate::error::LogError;
use crate::record::{Offset, Partition, Record};

/// The producer and its bound.
pub(super) struct Producer {
    inner: FutureProducer<LogContext>,
    context: LogContext,
    /// Bytes that may still be put under way.
    room: Semaphore,
    append_bytes: usize,
}

impl Producer {
    pub(super) fn new(options: &KafkaOptions) -> Result<Self, LogError> {
        let context = LogContext::new("producer");
        let inner = options
            .producer()
            .create_with_context(context.clone())
            .map_err(|error| LogError::Options(error.to_string()))?;
        Ok(Self {
            inner,
            context,
            room: Semaphore::new(options.queue_bytes.min(Semaphore::MAX_PERMITS)),
            append_bytes: options.append_bytes.min(options.queue_bytes),
        })
    }

    /// Puts all records under way, then waits for all delivery reports.
    pub(super) async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: &[Record],
    ) -> Result<Appended, LogError> {
        let bytes: usize = records.iter().map(Record::encoded_size).sum();
        if bytes > self.append_bytes {
            return Err(LogError::TooLarge {
                bytes,
                limit: self.append_bytes,
            });
        }
        let Ok(_room) = self.room.try_acquire_many(bytes as u32) else {
            return Err(LogError::Full);
        };
        let mut deliveries = Vec::with_capacity(records.len());
        let mut failure = None;
        for record in records {
            match self.inner.send_result(to_kafka(topic, partition, record)) {
                Ok(delivery) => deliveries.push(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if deliveries.is_empty() =>
                {
                    return Err(LogError::Full);
                }
                Err((error, _)) => {
                    failure = self.context.settle("produce", Err::<(), _>(error)).err();
                    break;
                }
            }
        }
        let (mut first, mut last, mut append_time_ms) = (None, 0, 0);
        for delivery in deliveries {
            match delivery.await {
                Ok(outcome) => {
                    let outcome = outcome.map_err(|(error, _)| error);
                    match self.context.settle("produce", outcome) {
                        Ok(delivered) => {
                            let offset = delivered.offset as Offset;
                            first.get_or_insert(offset);
                            last = offset;
                            append_time_ms = delivered.timestamp.to_millis().unwrap_or_default();
                        }
                        Err(error) => {
                            failure.get_or_insert(error);
                        }
                    }
                }
                Err(_) => {
                    failure
                        .get_or_insert_with(|| LogError::Closed("the producer has ended".into()));
                }
            }
        }
        match (failure, first) {
            (Some(failure), _) => Err(failure),
            (None, first) => Ok(Appended {
                partition,
                first: first.unwrap_or_default(),
                last,
                append_time_ms,
            }),
        }
    }
}

fn to_kafka<'a>(
    topic: &'a str,
    partition: Partition,
    record: &'a Record,
) -> FutureRecord<'a, [u8], [u8]> {
    let mut message = FutureRecord::to(topic).partition(partition as i32);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let headers = record
            .headers
            .iter()
            .fold(headers, |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value.as_ref()),
                })
            });
        message.headers = Some(headers);
    }
    message
}
