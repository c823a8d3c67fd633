//! The log on Kafka.
//!
//! Appends go through one idempotent producer with `acks=all` and are answered from their delivery reports ([`producer`]); what
//! is under way is bounded. Readers share clients, a partition queue each ([`reader`]); members of a group rebalance
//! cooperatively ([`consumer`]). [`topics`] creates topics and compares what exists with what was declared.
//!
//! Nothing here needs the cluster to be there at the start: a client connects when it can, and until then calls answer
//! [`LogError::Unavailable`] within a bounded time.
//!
//! Where Kafka differs from the local log:
//!
//! - Records of one append keep their order, but another producer's may stand between them, and after an error some of
//!   them may have been taken.
//! - Log-append times come from the brokers; a partition's never fall while its topic has `message.timestamp.type=LogAppendTime`.

mod arrivals;
mod asking;
mod consumer;
mod context;
mod options;
mod positions;
mod producer;
mod reader;
pub mod topics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use self::options::{KafkaOptions, Security};

use self::consumer::KafkaConsumer;
use self::positions::Positions;
use self::producer::Producer;
use self::reader::Readers;
use crate::error::LogError;
use crate::record::{Offset, Partition, Record};
use crate::topic::TopicConfig;
use crate::{Appended, Bounds, Committed, Consumer, EventLog, PartitionReader};

/// How long a question to the brokers may take.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// A log on a Kafka cluster.
pub struct KafkaLog {
    topics: HashMap<String, TopicConfig>,
    options: KafkaOptions,
    producer: Producer,
    readers: Arc<Readers>,
    positions: Arc<Positions>,
}

impl KafkaLog {
    /// A log over a cluster that need not be there yet.
    ///
    /// # Errors
    /// [`LogError::Options`] where librdkafka refuses an option.
    pub fn connect(options: KafkaOptions, topics: Vec<TopicConfig>) -> Result<Self, LogError> {
        Ok(Self {
            producer: Producer::new(&options)?,
            readers: Arc::new(Readers::new(&options)?),
            positions: Arc::new(Positions::new(&options)),
            topics: topics
                .into_iter()
                .map(|topic| (topic.name.clone(), topic))
                .collect(),
            options,
        })
    }

    fn check(&self, topic: &str, partition: Partition) -> Result<(), LogError> {
        if partition < self.partitions(topic)? {
            return Ok(());
        }
        Err(LogError::UnknownPartition {
            topic: topic.to_owned(),
            partition,
        })
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn topics(&self) -> Vec<TopicConfig> {
        self.topics.values().cloned().collect()
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        let config = self.topics.get(topic);
        config
            .map(|config| config.partitions)
            .ok_or_else(|| LogError::UnknownTopic(topic.to_owned()))
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Appended, LogError> {
        self.check(topic, partition)?;
        self.producer.append(topic, partition, &records).await
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        self.check(topic, partition)?;
        self.readers.bounds(topic, partition).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
    ) -> Result<Box<dyn PartitionReader>, LogError> {
        self.check(topic, partition)?;
        let reader = self.readers.read(topic, partition, from).await?;
        Ok(Box::new(reader))
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.partitions(topic)?;
        let consumer = KafkaConsumer::join(&self.options, Arc::clone(&self.readers), group, topic)?;
        Ok(Box::new(consumer))
    }

    async fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError> {
        self.check(topic, partition)?;
        self.positions.committed(group, topic, partition).await
    }

    async fn set_committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        committed: Committed,
    ) -> Result<(), LogError> {
        self.check(topic, partition)?;
        let positions = &self.positions;
        positions.set(group, topic, partition, committed).await
    }
}

/// What a Kafka error means for the caller.
pub(crate) fn refusal(context: &str, error: &KafkaError) -> LogError {
    let text = format!("{context}: {error}");
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced) => LogError::Closed(text),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed,
        ) => LogError::Forbidden(text),
        _ => LogError::Unavailable(text),
    }
}

/// Runs a blocking question to librdkafka off the runtime's threads.
pub(crate) async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(question)
        .await
        .unwrap_or_else(|error| Err(LogError::Closed(error.to_string())))
}
