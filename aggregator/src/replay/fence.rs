//! Keeps aggregators away while their database is replaced.
//!
//! A replay is a member of the aggregators' group that owns every partition. An aggregator that joins can take one only after
//! the replay has polled and given it up; a replay that has given one up swaps nothing, and one that swaps polls no more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use event_log::{Consumer, ConsumerEvent, SharedLog};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ReplayError;
use crate::{GROUP, SCANS};

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);

/// Sole membership of the group.
pub struct Fence {
    stop: watch::Sender<bool>,
    holding: JoinHandle<Result<Box<dyn Consumer>, ReplayError>>,
}

impl Fence {
    /// Joins the group and waits until every partition is this member's.
    pub async fn take(log: &SharedLog, patience: Duration) -> Result<Self, ReplayError> {
        let partitions = log.partitions(SCANS)?;
        let mut consumer = log.subscribe(GROUP, SCANS).await?;
        let mut owned = BTreeSet::new();
        let deadline = Instant::now() + patience;
        while (owned.len() as u32) < partitions {
            match consumer.poll(POLL).await? {
                ConsumerEvent::Assigned(gained) => owned.extend(gained),
                ConsumerEvent::Revoked(lost) => owned.retain(|p| !lost.contains(p)),
                ConsumerEvent::Records(..) | ConsumerEvent::Idle => {}
            }
            if Instant::now() > deadline {
                let held = partitions - owned.len() as u32;
                return Err(ReplayError::AggregatorRuns { held, partitions });
            }
        }
        let (stop, stopped) = watch::channel(false);
        Ok(Self {
            stop,
            holding: tokio::spawn(hold(consumer, stopped)),
        })
    }

    /// Ends polling, which keeps every partition where it is for as long as the member is answered; an error where one was
    /// given up.
    pub async fn end(self) -> Result<Box<dyn Consumer>, ReplayError> {
        self.stop.send_replace(true);
        self.holding
            .await
            .unwrap_or(Err(ReplayError::AggregatorJoined))
    }
}

/// Stays a member until told to stop; ends early where a partition is given up.
async fn hold(
    mut consumer: Box<dyn Consumer>,
    stopped: watch::Receiver<bool>,
) -> Result<Box<dyn Consumer>, ReplayError> {
    loop {
        // A sender that is gone belongs to a replay that has failed.
        if *stopped.borrow() {
            return Ok(consumer);
        }
        if stopped.has_changed().is_err() {
            return Err(ReplayError::AggregatorJoined);
        }
        if let ConsumerEvent::Revoked(_) = consumer.poll(POLL).await? {
            return Err(ReplayError::AggregatorJoined);
        }
    }
}
