//! Positions of groups that this process need not be a member of.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset as KafkaOffset;

use super::context::LogContext;
use super::{ASK_TIMEOUT, KafkaOptions, ask, refusal};
use crate::Committed;
use crate::error::LogError;
use crate::record::{Offset, Partition};

type Client = BaseConsumer<LogContext>;

/// One idle client for each group that was asked about.
pub(super) struct Positions {
    options: KafkaOptions,
    by_group: Mutex<HashMap<String, Arc<Client>>>,
}

impl Positions {
    pub(super) fn new(options: &KafkaOptions) -> Self {
        Self {
            options: options.clone(),
            by_group: Mutex::default(),
        }
    }

    fn client(&self, group: &str) -> Result<Arc<Client>, LogError> {
        let mut by_group = self.by_group.lock();
        if let Some(client) = by_group.get(group) {
            return Ok(Arc::clone(client));
        }
        let client: Client = self
            .options
            .member(group)
            .create_with_context(LogContext::new("positions"))
            .map_err(|error| LogError::Options(error.to_string()))?;
        let client = Arc::new(client);
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
            let answer = client
                .committed_offsets(asked, ASK_TIMEOUT)
                .map_err(|error| refusal("ask for a group's position", &error))?;
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
}
