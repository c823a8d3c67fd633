//! Groups within one process: members share a topic's partitions and hand them over one by one.
//!
//! A partition changes hands in two steps, as in Kafka's cooperative rebalancing: the old owner is told to give it up
//! at its next poll, and only then is the new owner told that it has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Topic;
use super::positions::Positions;
use super::reader::LocalReader;
use crate::error::LogError;
use crate::record::{Offset, Partition};
use crate::{Committed, Consumer, ConsumerEvent, PartitionReader};

/// Bytes of values handed out with one event.
const POLL_BYTES: usize = 4 << 20;

type MemberId = u64;

/// The groups of a log.
#[derive(Default)]
pub(super) struct Groups {
    by_name: Mutex<HashMap<(String, String), Group>>,
}

impl Groups {
    /// Whether any member of a group shares a topic's partitions.
    pub(super) fn has_members(&self, group: &str, topic: &str) -> bool {
        let by_name = self.by_name.lock();
        let found = by_name.get(&(group.to_owned(), topic.to_owned()));
        found.is_some_and(|group| !group.members.is_empty())
    }
}

#[derive(Default)]
struct Group {
    next_member: MemberId,
    members: Vec<MemberId>,
    owners: HashMap<Partition, MemberId>,
}

impl Group {
    /// Whose partition it shall be.
    fn target(&self, partition: Partition) -> Option<MemberId> {
        let count = self.members.len();
        (count > 0).then(|| self.members[partition as usize % count])
    }
}

/// A member of a group.
pub(super) struct LocalConsumer {
    groups: Arc<Groups>,
    name: (String, String),
    member: MemberId,
    topic: Arc<Topic>,
    positions: Arc<Positions>,
    changed: watch::Receiver<u64>,
    assigned: Vec<Assigned>,
    /// Which assigned partition is asked first at the next poll.
    turn: usize,
}

struct Assigned {
    partition: Partition,
    reader: Option<LocalReader>,
    paused: bool,
}

impl LocalConsumer {
    pub(super) fn join(
        groups: Arc<Groups>,
        group: &str,
        topic: Arc<Topic>,
        positions: Arc<Positions>,
    ) -> Self {
        let name = (group.to_owned(), topic.config.name.clone());
        let member = {
            let mut by_name = groups.by_name.lock();
            let group = by_name.entry(name.clone()).or_default();
            group.next_member += 1;
            group.members.push(group.next_member);
            group.next_member
        };
        topic.wake_members();
        let changed = topic.changed.subscribe();
        Self {
            groups,
            name,
            member,
            topic,
            positions,
            changed,
            assigned: Vec::new(),
            turn: 0,
        }
    }

    /// Gives up what is to be another's, then takes what is free and to be this member's.
    fn rebalance(&mut self) -> Option<ConsumerEvent> {
        let mut by_name = self.groups.by_name.lock();
        let group = by_name.entry(self.name.clone()).or_default();
        let is_lost = |partition: Partition| group.target(partition) != Some(self.member);
        let lost: Vec<_> = self
            .assigned
            .iter()
            .map(|a| a.partition)
            .filter(|p| is_lost(*p))
            .collect();
        if !lost.is_empty() {
            self.assigned
                .retain(|assigned| !lost.contains(&assigned.partition));
            for partition in &lost {
                group.owners.remove(partition);
            }
            self.topic.wake_members();
            return Some(ConsumerEvent::Revoked(lost));
        }
        let gained: Vec<_> = (0..self.topic.config.partitions)
            .filter(|p| group.target(*p) == Some(self.member) && !group.owners.contains_key(p))
            .collect();
        if gained.is_empty() {
            return None;
        }
        for partition in &gained {
            group.owners.insert(*partition, self.member);
            self.assigned.push(Assigned {
                partition: *partition,
                reader: None,
                paused: false,
            });
        }
        Some(ConsumerEvent::Assigned(gained))
    }

    fn assigned_mut(&mut self, partition: Partition) -> Result<&mut Assigned, LogError> {
        self.assigned
            .iter_mut()
            .find(|assigned| assigned.partition == partition)
            .ok_or(LogError::NotAssigned(partition))
    }

    async fn read_any(&mut self) -> Result<Option<ConsumerEvent>, LogError> {
        let count = self.assigned.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let Assigned {
                partition,
                reader: Some(reader),
                paused: false,
            } = &mut self.assigned[index]
            else {
                continue;
            };
            if !reader.has_more() {
                continue;
            }
            let partition = *partition;
            let records = reader.next(POLL_BYTES, Duration::ZERO).await?;
            if !records.is_empty() {
                self.turn = index + 1;
                return Ok(Some(ConsumerEvent::Records(partition, records)));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Consumer for LocalConsumer {
    async fn poll(&mut self, wait: Duration) -> Result<ConsumerEvent, LogError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            self.changed.mark_unchanged();
            if let Some(event) = self.rebalance() {
                return Ok(event);
            }
            if let Some(event) = self.read_any().await? {
                return Ok(event);
            }
            match tokio::time::timeout_at(deadline, self.changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(LogError::Closed("the log was closed".into())),
                Err(_) => return Ok(ConsumerEvent::Idle),
            }
        }
    }

    async fn seek(&mut self, partition: Partition, offset: Offset) -> Result<(), LogError> {
        self.assigned_mut(partition)?;
        let log = Arc::clone(&self.topic.partitions[partition as usize]);
        self.assigned_mut(partition)?.reader = Some(LocalReader::new(log, offset)?);
        Ok(())
    }

    fn set_paused(&mut self, partition: Partition, paused: bool) {
        if let Ok(assigned) = self.assigned_mut(partition) {
            assigned.paused = paused;
        }
    }

    async fn commit(&mut self, partition: Partition, committed: Committed) -> Result<(), LogError> {
        self.assigned_mut(partition)?;
        let positions = Arc::clone(&self.positions);
        let (group, topic) = self.name.clone();
        tokio::task::spawn_blocking(move || positions.set(&group, &topic, partition, &committed))
            .await
            .map_err(|error| LogError::Closed(error.to_string()))?
    }
}

impl Drop for LocalConsumer {
    fn drop(&mut self) {
        let mut by_name = self.groups.by_name.lock();
        if let Some(group) = by_name.get_mut(&self.name) {
            group.members.retain(|member| *member != self.member);
            group.owners.retain(|_, owner| *owner != self.member);
        }
        self.topic.wake_members();
    }
}
