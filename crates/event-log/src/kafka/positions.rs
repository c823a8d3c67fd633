//! Positions of groups that this process need not be a member of.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset as KafkaOffset;

use super::asking::Asking;
use super::{ASK_TIMEOUT, KafkaOptions, ask, refusal};
use crate::Committed;
use crate::error::LogError;
use crate::record::{Offset, Partition};

/// One idle client for each group that was asked about.
pub(super) struct Positions {
    options: KafkaOptions,
    by_group: Mutex<HashMap<String, Arc<Asking>>>,
}

impl Positions {
    pub(super) fn new(options: &KafkaOptions) -> Self {
        Self {
            options: options.clone(),
            by_group: Mutex::default(),
        }
    }

    fn client(&self, group: &str) -> Result<Arc<Asking>, LogError> {
        let mut by_group = self.by_group.lock();
        if let Some(client) = by_group.get(group) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Asking::new(self.options.member(group), "positions")?);
        by_group.insert(group.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    pub(super) async fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError> {
        let client = self.client(group)?;
        let topic = topic.to_owned();
        ask(move || {
            let mut asked = TopicPartitionList::new();
            asked.add_partition(&topic, partition as i32);
            let answer = client.client.committed_offsets(asked, ASK_TIMEOUT);
            let answer = client.settle("ask for a group's position", answer)?;
            let found = answer
                .find_partition(&topic, partition as i32)
                .ok_or_else(|| LogError::Unavailable("no answer for the partition".into()))?;
            found
                .error()
                .map_err(|error| refusal("ask for a group's position", &error))?;
            Ok(match found.offset() {
                KafkaOffset::Offset(offset) => Some(Committed {
                    offset: offset as Offset,
                    metadata: found.metadata().to_owned(),
                }),
                _ => None,
            })
        })
        .await
    }

    /// Sets a position from outside of the group, which the coordinator takes while the group has no members.
    pub(super) async fn set(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        committed: Committed,
    ) -> Result<(), LogError> {
        committed.check_metadata()?;
        let client = self.client(group)?;
        let (group, topic) = (group.to_owned(), topic.to_owned());
        ask(move || {
            let mut place = TopicPartitionList::new();
            let mut element = place.add_partition(&topic, partition as i32);
            element
                .set_offset(KafkaOffset::Offset(committed.offset as i64))
                .map_err(|error| refusal("set a group's position", &error))?;
            element.set_metadata(&committed.metadata);
            let outcome = client.client.commit(&place, CommitMode::Sync);
            let code = outcome
                .as_ref()
                .err()
                .and_then(KafkaError::rdkafka_error_code);
            if let Some(
                RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress,
            ) = code
            {
                return Err(LogError::GroupInUse(group));
            }
            client.settle("set a group's position", outcome)
        })
        .await
    }
}
