//! Grids that were dissolved (G5, INV-5): learned from the registry's topic, erased from what was stored before.
//!
//! A dissolution erases every scan of its grid, wherever the two stand in their topics: a grid's id is never given again, so
//! the tables are a function of the log however the topics interleave. What is sealed after a dissolution was learned is stored
//! without the grid; what was stored before is erased by the owner of its log partition, between two turns, and at the first
//! turn after each assignment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use event_log::{LogError, Offset, Partition, SharedLog};
use registry::command::{Body, Command};
use scan_model::SiteId;
use scan_model::codec::{self, CodecError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use warehouse::erasure;

use crate::pipeline::{Aggregator, AggregatorError};

/// How long writing a slice anew may take.
const REWRITE_TIMEOUT: Duration = Duration::from_mins(10);

/// What the registry's topic held up to some offset.
#[derive(Debug, Default)]
pub struct Dissolutions {
    /// The grids.
    pub grids: BTreeSet<SiteId>,
    /// Where reading goes on.
    pub next: Offset,
    /// A command of a newer version: nothing behind it was read (INV-10).
    pub newer: Option<CodecError>,
}

impl Dissolutions {
    fn apply(&mut self, offset: Offset, value: Option<&[u8]>) {
        if self.newer.is_some() {
            return;
        }
        match value.map(codec::decode::<Command>) {
            Some(Ok(Command {
                body: Body::DissolveGrid(grid),
                ..
            })) => {
                self.grids.insert(grid);
            }
            Some(Err(error @ CodecError::NewerVersion { .. })) => {
                tracing::error!(%error, offset, "the registry is not followed further (INV-10)");
                self.newer = Some(error);
                return;
            }
            // Whatever else a command says, it erases nothing; one that does not decode is skipped by every node.
            Some(Ok(_) | Err(_)) | None => {}
        }
        self.next = offset + 1;
    }
}

/// Every dissolution that the log holds now. A log without a registry has none.
pub async fn read(log: &SharedLog) -> Result<Dissolutions, LogError> {
    let mut known = Dissolutions::default();
    if matches!(
        log.partitions(registry::TOPIC),
        Err(LogError::UnknownTopic(_))
    ) {
        return Ok(known);
    }
    let bounds = log.bounds(registry::TOPIC, 0).await?;
    known.next = bounds.start;
    let mut reader = log.read(registry::TOPIC, 0, bounds.start).await?;
    while reader.position() < bounds.end && known.newer.is_none() {
        for record in reader.next(1 << 20, Duration::from_secs(1)).await? {
            known.apply(record.offset, record.record.value.as_deref());
        }
    }
    Ok(known)
}

/// Follows the registry's topic. Dropping it ends that.
pub(crate) struct Follower {
    grids: watch::Receiver<Arc<BTreeSet<SiteId>>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Reads what there is, then follows.
    pub(crate) async fn start(log: &SharedLog) -> Result<Self, LogError> {
        let known = read(log).await?;
        let (sender, grids) = watch::channel(Arc::new(known.grids.clone()));
        let task = tokio::spawn(follow(Arc::clone(log), known, sender));
        Ok(Self { grids, task })
    }

    /// The grids dissolved so far.
    pub(crate) fn grids(&self) -> Arc<BTreeSet<SiteId>> {
        Arc::clone(&self.grids.borrow())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    log: SharedLog,
    mut known: Dissolutions,
    grids: watch::Sender<Arc<BTreeSet<SiteId>>>,
) {
    if log.partitions(registry::TOPIC).is_err() {
        return;
    }
    while known.newer.is_none() {
        let outcome = async {
            let mut reader = log.read(registry::TOPIC, 0, known.next).await?;
            while known.newer.is_none() {
                let count = known.grids.len();
                for record in reader.next(1 << 20, Duration::from_secs(60)).await? {
                    known.apply(record.offset, record.record.value.as_deref());
                }
                if known.grids.len() > count {
                    grids.send_replace(Arc::new(known.grids.clone()));
                }
            }
            Ok::<_, LogError>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!(%error, "the registry is followed again after a while");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Aggregator {
    /// Erases from the assigned partitions what was dissolved since the last time. What the store cannot do now is done at a
    /// later turn.
    pub(crate) async fn erase_dissolved(&mut self) -> Result<(), AggregatorError> {
        let dissolved = self.dissolved.grids();
        let behind: Vec<Partition> = self
            .assigned
            .iter()
            .filter(|(_, assigned)| assigned.erased_grids < dissolved.len())
            .map(|(partition, _)| *partition)
            .collect();
        for partition in behind {
            match self.erase_from(partition, &dissolved).await {
                Ok(()) => {}
                Err(AggregatorError::Store(error)) if error.leaves_outcome_open() => {
                    tracing::warn!(partition, %error, "dissolved grids wait to be erased");
                    // Under a newer claim, if the partition is still this member's.
                    self.let_go(partition);
                    self.arrivals.insert(partition);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn erase_from(
        &mut self,
        partition: Partition,
        dissolved: &BTreeSet<SiteId>,
    ) -> Result<(), AggregatorError> {
        self.wait_for_running_inserts().await?;
        let store = self.store.clone().with_timeout(REWRITE_TIMEOUT);
        let epoch = self.epoch(partition);
        erasure::erase_grids(&store, partition, epoch, dissolved).await?;
        if let Some(assigned) = self.assigned.get_mut(&partition) {
            assigned.erased_grids = dissolved.len();
        }
        Ok(())
    }
}
