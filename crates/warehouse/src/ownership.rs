//! Who may insert into raw for a log partition: a fence that the store itself keeps.
//!
//! An aggregator can be stopped for a while, replaced, and continued, just before it sends an insert. So an insert carries the
//! epoch under which its sender claimed the partition, as its `log_comment`, and a constraint of the raw table refuses one that
//! is older than the newest claim. Together with the log's refusal of commits by former owners this leaves no moment in
//! which two can insert: an owner claims, then records a position in the log, then inserts.
//!
//! - An insert that was checked before a claim is found running, or its rows are found in raw, by whoever claims.
//! - An insert that is checked after a claim is refused.
//! - A slice that is rewritten under an older claim loses its staging table with the newer one (see [`erasure`]).
//! - A claim by a former owner makes the owner's next insert refused; the former owner's own next commit is refused, so it inserts
//!   nothing, and the owner claims again.

use serde::Deserialize;

use crate::erasure;
use crate::store::{Store, StoreError};

/// The turn of one claim; a newer claim has a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

#[derive(Deserialize)]
struct Newest {
    epoch: u64,
}

/// Claims a log partition: from now on inserts under earlier claims are refused.
///
/// On a cluster nothing is claimed, and nothing refused: see [`is_kept`].
pub async fn claim(store: &Store, log_partition: u32) -> Result<Epoch, StoreError> {
    if !is_kept(store) {
        return Ok(Epoch(0));
    }
    loop {
        let newest = newest(store, log_partition).await?;
        // The time makes epochs unlike, so that two that claim at once do not take each other's for their own.
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_us = since_1970.map_or(0, |elapsed| elapsed.as_micros() as u64);
        let epoch = Epoch(now_us.max(newest.0 + 1));
        let Epoch(ours) = epoch;
        store
            .execute(&format!(
                "INSERT INTO owners SELECT {log_partition}, {ours}
                 WHERE {ours} > joinGet('owners', 'epoch', toUInt16({log_partition}))"
            ))
            .await?;
        if self::newest(store, log_partition).await? == epoch {
            // What a former owner is rewriting is not swapped in any more.
            erasure::drop_staging(store, log_partition).await?;
            return Ok(epoch);
        }
    }
}

/// Whether anybody has ever claimed a log partition here; nobody has in a store that no aggregator has written to. `true` also where
/// no claims are [kept](is_kept), because it cannot be told there.
pub async fn was_claimed(store: &Store, log_partition: u32) -> Result<bool, StoreError> {
    Ok(!is_kept(store) || newest(store, log_partition).await? > Epoch(0))
}

/// Whether the store keeps claims. Several servers do not: an insert may meet one that does not know the newest claim. There a former
/// owner is to be waited for.
pub fn is_kept(store: &Store) -> bool {
    store.topology().cluster().is_none()
}

/// The newest claim of a log partition; zero where there is none.
async fn newest(store: &Store, log_partition: u32) -> Result<Epoch, StoreError> {
    let sql = format!("SELECT joinGet('owners', 'epoch', toUInt16({log_partition})) AS epoch");
    let newest: Newest = store.row(&sql, &[]).await?;
    Ok(Epoch(newest.epoch))
}
