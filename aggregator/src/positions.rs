//! Group positions that were lost or reset: how each partition stands, and from where it is to be counted again.
//!
//! Below the range that was pending when the positions were lost, every record is settled: in raw, or a duplicate, or a dead letter.
//! That range is one batch of one partition, and raw's newest offset lies in it or right before it. So a pending range that
//! begins a batch's length before the newest offset in raw, and ends behind it, covers whatever was half done. The aggregator
//! settles it as after any unclean stop: it counts the range in raw and sends what is missing.

use event_log::{Bounds, Committed, LogError, Offset, Partition, SharedLog};
use scan_model::Timestamp;
use warehouse::{Store, StoreError};

use crate::pending::{Pending, PendingError, settled};
use crate::{GROUP, SCANS, recovery};

/// How far before the newest offset in raw a restored range begins.
///
/// With a backlog a batch is sealed at 240,000 records or more, all of which may be one partition's: one poll, of 4 MiB of values, may come
/// on top. The shortest scan takes 60 bytes, so that a poll holds 70,000 and a batch less than 310,000.
pub const MARGIN: Offset = 500_000;
/// The least margin that covers a batch.
pub const LEAST_MARGIN: Offset = 310_000;

/// How one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The partition of scans.
    pub partition: Partition,
    /// What the log holds.
    pub bounds: Bounds,
    /// The group's position.
    pub position: Option<Offset>,
    /// The range that is pending, if any.
    pub pending: Option<Pending>,
    /// The newest offset in raw.
    pub newest: Option<Offset>,
}

/// What that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The aggregator goes on from its position.
    Sound,
    /// Raw holds more than the position says: it was lost or reset.
    Behind,
    /// The position is not in the log: it is another log's.
    BeyondLog,
    /// Raw holds more than the log: the log or the store is another's.
    StoreBeyondLog,
}

/// Why no position can be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The log or the store is not the one that belongs to the other.
    #[error(
        "partition {partition}: the store holds offset {newest}, and the log ends at {end}: they do not belong together. Use the log that the store was filled from, or rebuild the store"
    )]
    OtherLog {
        /// The partition.
        partition: Partition,
        /// The newest offset in raw.
        newest: Offset,
        /// The log's end.
        end: Offset,
    },
    /// Records were lost to retention before they were counted.
    #[error(
        "partition {partition}: the log begins at {start}, and the store ends at {newest}: what was between them was removed by retention before it was counted"
    )]
    Gap {
        /// The partition.
        partition: Partition,
        /// The newest offset in raw.
        newest: Offset,
        /// The log's start.
        start: Offset,
    },
}

/// What could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A position was written by another program.
    #[error(transparent)]
    Pending(#[from] PendingError),
}

impl Standing {
    /// How many records are not settled.
    pub fn lag(&self) -> u64 {
        let position = self.position.unwrap_or(self.bounds.start);
        self.bounds.end.saturating_sub(position)
    }

    /// What it means.
    pub fn state(&self) -> State {
        // Whoever has counted anything had a position.
        let position = self.position.unwrap_or(0);
        let open_end = self.pending.map_or(position, |pending| pending.next);
        match self.newest {
            Some(newest) if newest >= self.bounds.end => State::StoreBeyondLog,
            Some(newest) if newest >= open_end => State::Behind,
            _ if position > self.bounds.end => State::BeyondLog,
            _ => State::Sound,
        }
    }

    /// The range from which a partition whose position is behind is to be counted again; `None` where there is nothing to restore.
    pub fn restored(
        &self,
        margin: Offset,
        now: Timestamp,
    ) -> Result<Option<Pending>, RestoreError> {
        let (partition, bounds) = (self.partition, self.bounds);
        let Some(newest) = self.newest else {
            return Ok(None);
        };
        match self.state() {
            State::Sound | State::BeyondLog => return Ok(None),
            State::StoreBeyondLog => {
                return Err(RestoreError::OtherLog {
                    partition,
                    newest,
                    end: bounds.end,
                });
            }
            State::Behind => {}
        }
        let next = newest + 1;
        if bounds.start > next {
            return Err(RestoreError::Gap {
                partition,
                newest,
                start: bounds.start,
            });
        }
        Ok(Some(Pending {
            first: next
                .saturating_sub(margin.max(LEAST_MARGIN))
                .max(bounds.start),
            next,
            recorded_at: now,
        }))
    }
}

/// How every partition stands.
pub async fn survey(log: &SharedLog, store: &Store) -> Result<Vec<Standing>, SurveyError> {
    let mut standings = Vec::new();
    for partition in 0..log.partitions(SCANS)? {
        let committed = log.committed(GROUP, SCANS, partition).await?;
        let pending = committed
            .as_ref()
            .map(Pending::from_commit)
            .transpose()?
            .flatten();
        standings.push(Standing {
            partition,
            bounds: log.bounds(SCANS, partition).await?,
            position: committed.map(|committed| committed.offset),
            pending,
            newest: recovery::newest_offset_in_raw(store, partition, 0).await?,
        });
    }
    Ok(standings)
}

/// Sets a partition's position to a restored range. The group must have no members.
pub async fn restore(
    log: &SharedLog,
    partition: Partition,
    pending: Pending,
) -> Result<(), LogError> {
    let committed: Committed = if pending.first == pending.next {
        settled(pending.next)
    } else {
        pending.to_commit()
    };
    log.set_committed(GROUP, SCANS, partition, committed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn standing(
        start: Offset,
        end: Offset,
        position: Option<Offset>,
        newest: Option<Offset>,
    ) -> Standing {
        Standing {
            partition: 0,
            bounds: Bounds { start, end },
            position,
            pending: None,
            newest,
        }
    }

    fn restored(standing: &Standing) -> Option<(Offset, Offset)> {
        let pending = standing.restored(MARGIN, NOW).unwrap();
        pending.map(|pending| (pending.first, pending.next))
    }

    #[test]
    fn only_a_position_behind_the_store_is_restored() {
        assert_eq!(restored(&standing(0, 0, None, None)), None);
        assert_eq!(restored(&standing(0, 9, Some(4), Some(3))), None);
        assert_eq!(restored(&standing(0, 9, Some(20), Some(3))), None);
        assert_eq!(standing(0, 9, Some(20), Some(3)).state(), State::BeyondLog);
        let mut pending = standing(0, 9, Some(2), Some(5));
        pending.pending = Some(Pending {
            first: 2,
            next: 6,
            recorded_at: NOW,
        });
        assert_eq!((pending.state(), restored(&pending)), (State::Sound, None));
        assert_eq!(restored(&standing(0, 9, None, Some(5))), Some((0, 6)));
        assert_eq!(restored(&standing(0, 9, Some(5), Some(5))), Some((0, 6)));
    }

    #[test]
    fn a_restored_range_begins_a_batch_before_the_newest_offset_and_within_the_log() {
        let far = 5_000_000;
        let lost = standing(0, far, None, Some(far - 10));
        assert_eq!(restored(&lost), Some((far - 9 - MARGIN, far - 9)));
        let trimmed = standing(far - 100, far, None, Some(far - 10));
        assert_eq!(restored(&trimmed), Some((far - 100, far - 9)));
        let least = lost.restored(1, NOW).unwrap().unwrap();
        assert_eq!(least.first, far - 9 - LEAST_MARGIN);
    }

    #[test]
    fn a_store_that_does_not_belong_to_the_log_is_an_error() {
        let other = standing(0, 9, None, Some(9)).restored(MARGIN, NOW);
        assert!(
            matches!(other, Err(RestoreError::OtherLog { .. })),
            "{other:?}"
        );
        let gap = standing(50, 90, None, Some(9)).restored(MARGIN, NOW);
        assert!(matches!(gap, Err(RestoreError::Gap { .. })), "{gap:?}");
    }
}
