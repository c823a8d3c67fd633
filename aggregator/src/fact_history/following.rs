//! Follows the topic as a member of a group: gather, insert, commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event_log::{
    Committed, Consumer, ConsumerEvent, LogError, Offset, Partition, SharedLog, StoredRecord,
};
use metrics::{Counter, Gauge};
use tokio::time::Instant;
use warehouse::{Store, fact_rows};

use super::rows::Rows;
use super::{GROUP, TOPIC};
use crate::patience::Delays;
use crate::pipeline::AggregatorError;

/// How long records are gathered for one insert: parts of the table are to be few.
const LINGER: Duration = Duration::from_secs(1);
/// Records of one insert, about.
const BATCH: usize = 50_000;
/// How long a commit waits for a group that rebalances, from try to try.
const REBALANCE_INTERVAL: Duration = Duration::from_millis(100);

/// Follows the topic and stores its records; ends with an error only. The schema must be there.
pub async fn follow(log: SharedLog, store: Store) -> Result<(), AggregatorError> {
    let consumer = log.subscribe(GROUP, TOPIC).await?;
    let mut follower = Follower {
        log,
        store,
        consumer,
        assigned: BTreeMap::new(),
        arrivals: BTreeSet::new(),
        instruments: Instruments::default(),
    };
    let outcome = follower.run().await;
    follower.instruments.is_followed.set(0.0);
    outcome
}

/// Metrics of the follower (INV-9).
struct Instruments {
    /// 1 while the topic is followed; 0 after an error, until it is again.
    is_followed: Gauge,
    rows: Counter,
    malformed: Counter,
    /// Records that the log had let go before they were stored.
    lost: Counter,
    paused: Gauge,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            is_followed: metrics::gauge!("aggregator_fact_history_followed"),
            rows: metrics::counter!("aggregator_fact_history_rows_total"),
            malformed: metrics::counter!("aggregator_fact_history_malformed_total"),
            lost: metrics::counter!("aggregator_fact_history_lost_total"),
            paused: metrics::gauge!("aggregator_paused_partitions"),
        }
    }
}

/// A partition of this member's.
#[derive(Default)]
struct Assigned {
    gathered: Vec<StoredRecord>,
    /// A record of a newer version was met (INV-10).
    is_paused: bool,
}

struct Follower {
    log: SharedLog,
    store: Store,
    consumer: Box<dyn Consumer>,
    assigned: BTreeMap<Partition, Assigned>,
    /// Partitions that have come and are not read yet.
    arrivals: BTreeSet<Partition>,
    instruments: Instruments,
}

impl Follower {
    async fn run(&mut self) -> Result<(), AggregatorError> {
        loop {
            self.take_over_arrivals().await?;
            self.gather().await?;
            self.settle().await?;
            self.instruments.is_followed.set(1.0);
        }
    }

    /// Begins to read what has come; what cannot be now, because the log or the store is away, waits for the next call.
    async fn take_over_arrivals(&mut self) -> Result<(), AggregatorError> {
        for partition in self.arrivals.clone() {
            match self.take_over(partition).await {
                Ok(()) => {
                    self.arrivals.remove(&partition);
                    self.assigned.insert(partition, Assigned::default());
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(partition, %error, "the history of facts waits to be taken over");
                    return self.hold_still(REBALANCE_INTERVAL).await;
                }
                // It went meanwhile.
                Err(AggregatorError::Log(LogError::NotAssigned(_))) => {
                    self.arrivals.remove(&partition);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn take_over(&mut self, partition: Partition) -> Result<(), AggregatorError> {
        let bounds = self.log.bounds(TOPIC, partition).await?;
        let committed = self.log.committed(GROUP, TOPIC, partition).await?;
        let committed = committed.map_or(bounds.start, |committed| committed.offset);
        let stored = fact_rows::end(&self.store, partition).await?;
        let position = position(committed, stored);
        if position > bounds.end {
            return Err(LogError::OutOfRange {
                topic: TOPIC.to_owned(),
                partition,
                offset: position,
                start: bounds.start,
                end: bounds.end,
            }
            .into());
        }
        // What a store lacks that is new to the group is no loss of the log's.
        if stored.is_some() && position < bounds.start {
            let lost = bounds.start - position;
            tracing::error!(
                partition,
                lost,
                "the log has let changes of facts go that were not stored"
            );
            self.instruments.lost.increment(lost);
        }
        let start = position.max(bounds.start);
        Ok(self.consumer.seek(partition, start).await?)
    }

    fn count(&self) -> usize {
        self.assigned.values().map(|a| a.gathered.len()).sum()
    }

    /// Gathers records for a while from the first one on, or until partitions come.
    async fn gather(&mut self) -> Result<(), AggregatorError> {
        let mut until: Option<Instant> = None;
        while self.count() < BATCH && self.arrivals.is_empty() {
            let wait = until.map_or(LINGER, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if wait.is_zero() {
                break;
            }
            let event = self.consumer.poll(wait).await?;
            self.note(event);
            if self.count() == 0 {
                break;
            }
            until.get_or_insert_with(|| Instant::now() + LINGER);
        }
        Ok(())
    }

    fn note(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => self.arrivals.extend(partitions),
            ConsumerEvent::Revoked(partitions) => {
                for partition in partitions {
                    self.arrivals.remove(&partition);
                    self.let_go(partition);
                }
            }
            ConsumerEvent::Records(partition, records) => {
                if let Some(assigned) = self.assigned.get_mut(&partition)
                    && !assigned.is_paused
                {
                    assigned.gathered.extend(records);
                }
            }
            ConsumerEvent::Idle => {}
        }
    }

    fn let_go(&mut self, partition: Partition) {
        if self
            .assigned
            .remove(&partition)
            .is_some_and(|a| a.is_paused)
        {
            self.instruments.paused.decrement(1.0);
        }
    }

    /// Stores what was gathered and moves the positions behind it.
    async fn settle(&mut self) -> Result<(), AggregatorError> {
        let mut delays = Delays::new();
        loop {
            let (rows, reached) = self.rows();
            let (count, malformed) = (rows.count(), rows.malformed());
            match rows.insert(&self.store).await {
                Ok(()) => {
                    self.instruments.rows.increment(count);
                    self.instruments.malformed.increment(malformed);
                    return self.commit(reached).await;
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the history of facts waits for the store");
                    self.hold_still(delays.next()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Everything gathered as rows, and the offset behind it in each partition.
    fn rows(&mut self) -> (Rows, BTreeMap<Partition, Offset>) {
        let (mut rows, mut reached) = (Rows::default(), BTreeMap::new());
        for (partition, assigned) in &mut self.assigned {
            for record in &assigned.gathered {
                let offset = record.offset;
                if let Err(error) = rows.take(*partition, record) {
                    tracing::error!(partition, offset, %error, "the history of facts is paused (INV-10)");
                    self.instruments.paused.increment(1.0);
                    self.consumer.set_paused(*partition, true);
                    assigned.is_paused = true;
                    assigned.gathered.retain(|record| record.offset < offset);
                    reached.insert(*partition, offset);
                    break;
                }
                reached.insert(*partition, offset + 1);
            }
        }
        (rows, reached)
    }

    /// Moves the positions of what is this member's still. Another member stores the rest again, which changes nothing.
    async fn commit(
        &mut self,
        reached: BTreeMap<Partition, Offset>,
    ) -> Result<(), AggregatorError> {
        for assigned in self.assigned.values_mut() {
            assigned.gathered.clear();
        }
        for (partition, offset) in reached {
            let committed = Committed {
                offset,
                metadata: String::new(),
            };
            while self.assigned.contains_key(&partition) {
                match self.consumer.commit(partition, committed.clone()).await {
                    Err(LogError::Rebalancing(_)) => self.hold_still(REBALANCE_INTERVAL).await?,
                    // Taken over anew, or another's.
                    Err(LogError::NotAssigned(_)) => {
                        self.let_go(partition);
                        self.arrivals.insert(partition);
                    }
                    outcome => {
                        outcome?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits without new records, and without leaving the group.
    async fn hold_still(&mut self, delay: Duration) -> Result<(), AggregatorError> {
        let until = Instant::now() + delay;
        self.pause_all(true);
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            let event = self.consumer.poll(wait).await?;
            self.note(event);
        }
        self.pause_all(false);
        Ok(())
    }

    fn pause_all(&mut self, is_paused: bool) {
        for (partition, assigned) in &self.assigned {
            if !assigned.is_paused {
                self.consumer.set_paused(*partition, is_paused);
            }
        }
    }
}

/// Where a partition is read from: where the group goes on, or where the store ends that holds less; a store that holds nothing of it is
/// filled from the first record.
fn position(committed: Offset, stored: Option<Offset>) -> Offset {
    committed.min(stored.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_holds_less_than_the_position_says_is_filled_from_where_it_ends() {
        assert_eq!(position(10, Some(10)), 10);
        assert_eq!(position(10, Some(12)), 10, "stored, and not yet committed");
        assert_eq!(position(10, Some(7)), 7);
        assert_eq!(position(10, None), 0);
    }
}
