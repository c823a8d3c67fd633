//! Who may insert into raw for a log partition: a fence that the store itself keeps.
//!
//! An aggregator can be stopped for a while, replaced, and continued, just before it sends an insert. So an insert carries the
//! epoch under which its sender claimed the partition, as its `log_comment`, and a constraint of the raw table refuses one that
//! is not the newest claim's. Together with the log's refusal of commits by former owners this leaves no moment in
//! which two can insert: an owner claims, then records a position in the log, then inserts.
//!
//! Claims take turns. A turn belongs to the claimant whose row of it the table `claims` met first: later rows of the same turn change
//! nothing, however late they arrive. An insert passes if its turn is its sender's and the turn after it is nobody's. So at
//! any moment one epoch of a partition passes, and a turn that was followed never passes again.
//!
//! - An insert that was checked before a claim is found running, or its rows are found in raw, by whoever claims.
//! - An insert that is checked after a claim is refused.
//! - A slice that is rewritten under an older claim loses its staging table with the newer one (see [`erasure`]).
//! - A claim by a former owner makes the owner's next insert refused; the former owner's own next commit is refused, so it inserts
//!   nothing, and the owner claims again.

use std::fmt;

use serde::Deserialize;
use uuid::Uuid;

use crate::erasure;
use crate::store::{Store, StoreError};

/// One claim of a log partition. A newer one has a larger turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    turn: u64,
    claimant: u64,
}

impl Epoch {
    /// Nobody's: inserts under it pass where nobody has claimed.
    pub const UNCLAIMED: Self = Self {
        turn: 0,
        claimant: 0,
    };

    /// The turn after some others, for a claimant that is unlike every other.
    fn after(turn: u64) -> Self {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        Self {
            turn: turn + 1,
            claimant: random.max(1),
        }
    }
}

/// As an insert states it.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.turn, self.claimant)
    }
}

#[derive(Deserialize)]
struct Newest {
    turn: u64,
}

#[derive(Deserialize)]
struct Holder {
    claimant: u64,
}

/// Claims a log partition: from now on inserts under earlier claims are refused.
///
/// On a cluster nothing is claimed, and nothing refused: see [`is_kept`].
pub async fn claim(store: &Store, log_partition: u32) -> Result<Epoch, StoreError> {
    if !is_kept(store) {
        return Ok(Epoch::UNCLAIMED);
    }
    loop {
        let epoch = Epoch::after(newest(store, log_partition).await?);
        let Epoch { turn, claimant } = epoch;
        let place = format!("toUInt64({turn}) * 65536 + {log_partition}");
        let taken_by = format!("joinGet('claims', 'claimant', {place})");
        // The condition keeps most rows out that would change nothing; the table itself decides who is first.
        store
            .execute(&format!(
                "INSERT INTO claims SELECT {place}, {log_partition}, {turn}, {claimant} WHERE {taken_by} = 0"
            ))
            .await?;
        let holder: Holder = store
            .row(&format!("SELECT {taken_by} AS claimant"), &[])
            .await?;
        if holder.claimant == claimant {
            // What a former owner is rewriting is not swapped in any more.
            erasure::drop_staging(store, log_partition).await?;
            return Ok(epoch);
        }
    }
}

/// Whether anybody has ever claimed a log partition here; nobody has in a store that no aggregator has written to. `true` also where
/// no claims are [kept](is_kept), because it cannot be told there.
pub async fn was_claimed(store: &Store, log_partition: u32) -> Result<bool, StoreError> {
    Ok(!is_kept(store) || newest(store, log_partition).await? > 0)
}

/// Whether the store keeps claims. Several servers do not: an insert may meet one that does not know the newest claim. There a former
/// owner is to be waited for.
pub fn is_kept(store: &Store) -> bool {
    store.topology().cluster().is_none()
}

/// The newest turn of a log partition; zero where there is none. The claims of builds that know `owners` alone (migration 0008) count as
/// turns.
async fn newest(store: &Store, log_partition: u32) -> Result<u64, StoreError> {
    let sql = format!(
        "SELECT greatest((SELECT max(turn) FROM claims WHERE log_partition = {log_partition}),
                         joinGet('owners', 'epoch', toUInt16({log_partition}))) AS turn"
    );
    let newest: Newest = store.row(&sql, &[]).await?;
    Ok(newest.turn)
}
