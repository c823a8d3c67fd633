//! Members of groups, rebalanced cooperatively (KIP-429).
//!
//! A partition that comes in is held still until its new owner has said where to read it; one that goes out is given up at the
//! poll that reports it, between two turns of its owner. A commit by a member that was replaced meanwhile is refused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::context::LogContext;
use super::reader::{Readers, is_out_of_range, out_of_range};
use super::{ASK_TIMEOUT, KafkaOptions, ask, refusal};
use crate::error::LogError;
use crate::record::{Offset, Partition, StoredRecord};
use crate::{Committed, Consumer, ConsumerEvent};

/// Bytes of keys and values received at a time.
const POLL_BYTES: usize = 4 << 20;

enum Change {
    Gained(Vec<Partition>),
    Lost(Vec<Partition>),
}

/// Takes part in rebalances on the member's behalf, and tells it of them.
struct MemberContext {
    log: LogContext,
    changes: Mutex<VecDeque<Change>>,
    changed: Notify,
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.log.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers: Vec<Partition> = partitions
            .elements()
            .iter()
            .map(|element| element.partition() as Partition)
            .collect();
        let is_empty = numbers.is_empty();
        let (outcome, change) = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // The owner says where to read; until then it is held still at any place.
            let outcome = partitions
                .set_all_offsets(KafkaOffset::Beginning)
                .and_then(|()| consumer.incremental_assign(partitions))
                .and_then(|()| consumer.pause(partitions));
            (outcome, Change::Gained(numbers))
        } else {
            (
                consumer.incremental_unassign(partitions),
                Change::Lost(numbers),
            )
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "a rebalance was not taken part in");
        }
        // Rebalances that change nothing for this member are none of its business.
        if !is_empty {
            self.changes.lock().push_back(change);
            self.changed.notify_one();
        }
    }
}

/// One partition of this member.
#[derive(Default)]
struct Owned {
    /// The next offset to hand out; none until the owner has said.
    next: Option<Offset>,
    is_paused: bool,
}

/// A member of a group.
pub(super) struct KafkaConsumer {
    client: Arc<StreamConsumer<MemberContext>>,
    readers: Arc<Readers>,
    topic: String,
    owned: BTreeMap<Partition, Owned>,
    ready: VecDeque<(Partition, Vec<StoredRecord>)>,
    /// What went wrong behind messages that were received; reported after them.
    failure: Option<KafkaError>,
}

impl KafkaConsumer {
    pub(super) fn join(
        options: &KafkaOptions,
        readers: Arc<Readers>,
        group: &str,
        topic: &str,
    ) -> Result<Self, LogError> {
        let context = MemberContext {
            log: LogContext::new("member"),
            changes: Mutex::default(),
            changed: Notify::new(),
        };
        let client: StreamConsumer<MemberContext> = options
            .member(group)
            .create_with_context(context)
            .map_err(|error| LogError::Options(error.to_string()))?;
        client
            .subscribe(&[topic])
            .map_err(|error| refusal("join the group", &error))?;
        Ok(Self {
            client: Arc::new(client),
            readers,
            topic: topic.to_owned(),
            owned: BTreeMap::new(),
            ready: VecDeque::new(),
            failure: None,
        })
    }

    /// The oldest change of what is this member's.
    fn take_change(&mut self) -> Option<ConsumerEvent> {
        let change = self.client.context().changes.lock().pop_front()?;
        Some(match change {
            Change::Gained(partitions) => {
                for partition in &partitions {
                    self.owned.insert(*partition, Owned::default());
                }
                ConsumerEvent::Assigned(partitions)
            }
            Change::Lost(partitions) => {
                self.owned
                    .retain(|partition, _| !partitions.contains(partition));
                self.ready
                    .retain(|(partition, _)| !partitions.contains(partition));
                ConsumerEvent::Revoked(partitions)
            }
        })
    }

    fn is_paused(&self, partition: Partition) -> bool {
        self.owned
            .get(&partition)
            .is_some_and(|owned| owned.is_paused)
    }

    fn has_ready(&self) -> bool {
        let mut ready = self.ready.iter();
        ready.any(|(partition, _)| !self.is_paused(*partition))
    }

    /// The oldest records of a partition that is not paused; those of the others stay.
    fn take_ready(&mut self) -> Option<(Partition, Vec<StoredRecord>)> {
        let mut ready = self.ready.iter();
        let index = ready.position(|(partition, _)| !self.is_paused(*partition))?;
        self.ready.remove(index)
    }

    /// Sorts what arrived by partition; what was not asked for is left out.
    fn sort(&mut self, received: Vec<(Partition, StoredRecord)>) {
        let mut by_partition: BTreeMap<Partition, Vec<StoredRecord>> = BTreeMap::new();
        for (partition, record) in received {
            let Some(Owned {
                next: Some(next), ..
            }) = self.owned.get_mut(&partition)
            else {
                continue;
            };
            // A fetch that was under way during a seek may repeat.
            if record.offset < *next {
                continue;
            }
            *next = record.offset + 1;
            by_partition.entry(partition).or_default().push(record);
        }
        self.ready.extend(by_partition);
    }

    /// Receives at least one message by a deadline, and then what is there already. Nothing that was received is ever let go:
    /// the client would not give it again.
    async fn receive(
        &mut self,
        deadline: Instant,
    ) -> Result<Vec<(Partition, StoredRecord)>, KafkaError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let client = Arc::clone(&self.client);
        // One for all messages: each stream is registered with the client under a lock.
        let mut stream = client.stream();
        let mut received = Arrivals::default();
        let first = tokio::select! {
            Some(first) = stream.next() => first?,
            () = client.context().changed.notified() => return Ok(Vec::new()),
            () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
        };
        let mut next = Some(first);
        while let Some(message) = next {
            received.take(&message);
            if received.bytes() >= POLL_BYTES {
                break;
            }
            next = match stream.next().now_or_never().flatten() {
                Some(Ok(message)) => Some(message),
                Some(Err(failure)) => {
                    self.failure = Some(failure);
                    None
                }
                None => None,
            };
        }
        Ok(received.into_records())
    }

    /// The list of one partition, at an offset.
    fn list(&self, partition: Partition, offset: KafkaOffset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        if let Err(error) = list.add_partition_offset(&self.topic, partition as i32, offset) {
            tracing::error!(%error, "not an offset");
        }
        list
    }

    async fn out_of_range(&self) -> Option<LogError> {
        for (partition, owned) in &self.owned {
            let Some(next) = owned.next else { continue };
            let bounds = match self.readers.bounds(&self.topic, *partition).await {
                Ok(bounds) => bounds,
                Err(error) => return Some(error),
            };
            if next < bounds.start || next > bounds.end {
                return Some(out_of_range(&self.topic, *partition, next, bounds));
            }
        }
        None
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, wait: Duration) -> Result<ConsumerEvent, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(change) = self.take_change() {
                return Ok(change);
            }
            if let Some((partition, records)) = self.take_ready() {
                return Ok(ConsumerEvent::Records(partition, records));
            }
            match self.receive(deadline).await {
                Ok(received) => self.sort(received),
                Err(error) if is_out_of_range(&error) => {
                    // Where a partition is not read yet, any place may be out of range.
                    if let Some(error) = self.out_of_range().await {
                        return Err(error);
                    }
                }
                Err(error) => match refusal("poll", &error) {
                    LogError::Unavailable(reason) => tracing::debug!(reason, "kafka member"),
                    error => return Err(error),
                },
            }
            let is_over = Instant::now() >= deadline;
            if is_over && !self.has_ready() && self.client.context().changes.lock().is_empty() {
                return Ok(ConsumerEvent::Idle);
            }
        }
    }

    async fn seek(&mut self, partition: Partition, offset: Offset) -> Result<(), LogError> {
        if !self.owned.contains_key(&partition) {
            return Err(LogError::NotAssigned(partition));
        }
        let bounds = self.readers.bounds(&self.topic, partition).await?;
        if offset < bounds.start || offset > bounds.end {
            return Err(out_of_range(&self.topic, partition, offset, bounds));
        }
        self.ready.retain(|(of, _)| *of != partition);
        let client = Arc::clone(&self.client);
        let place = self.list(partition, KafkaOffset::Offset(offset as i64));
        ask(move || {
            let deadline = std::time::Instant::now() + ASK_TIMEOUT;
            // A partition that was only just assigned cannot be moved yet.
            while let Err(error) =
                client
                    .seek_partitions(place.clone(), ASK_TIMEOUT)
                    .and_then(|moved| {
                        let moved = moved.elements();
                        moved.iter().try_for_each(TopicPartitionListElem::error)
                    })
            {
                if std::time::Instant::now() > deadline {
                    return Err(refusal("seek", &error));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            client
                .resume(&place)
                .map_err(|error| refusal("resume", &error))
        })
        .await?;
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.next = Some(offset);
            owned.is_paused = false;
        }
        Ok(())
    }

    fn set_paused(&mut self, partition: Partition, paused: bool) {
        let place = self.list(partition, KafkaOffset::Invalid);
        let Some(owned) = self.owned.get_mut(&partition) else {
            return;
        };
        owned.is_paused = paused;
        // The client goes on behind what it has given; what was received and not handed out waits here.
        let outcome = if paused {
            self.client.pause(&place)
        } else {
            self.client.resume(&place)
        };
        if let Err(error) = outcome {
            tracing::error!(%error, partition, paused, "a partition was not paused or resumed");
        }
    }

    async fn commit(&mut self, partition: Partition, committed: Committed) -> Result<(), LogError> {
        if !self.owned.contains_key(&partition) {
            return Err(LogError::NotAssigned(partition));
        }
        let is_text = committed
            .metadata
            .bytes()
            .all(|b| (0x20..0x7f).contains(&b));
        if !is_text || committed.metadata.len() > crate::MAX_COMMIT_METADATA {
            return Err(LogError::Metadata);
        }
        let client = Arc::clone(&self.client);
        let topic = self.topic.clone();
        ask(move || {
            let mut place = TopicPartitionList::new();
            let mut element = place.add_partition(&topic, partition as i32);
            element
                .set_offset(KafkaOffset::Offset(committed.offset as i64))
                .map_err(|error| refusal("commit", &error))?;
            element.set_metadata(&committed.metadata);
            client.commit(&place, CommitMode::Sync).map_err(|error| {
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::RebalanceInProgress) => LogError::Rebalancing(partition),
                    Some(
                        RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::UnknownMemberId
                        | RDKafkaErrorCode::FencedInstanceId
                        | RDKafkaErrorCode::AssignmentLost,
                    ) => LogError::NotAssigned(partition),
                    _ => refusal("commit", &error),
                }
            })
        })
        .await
    }
}
