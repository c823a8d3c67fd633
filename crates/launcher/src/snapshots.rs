//! The status snapshot: when it is written, and when it is too old.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ingest::Ingest;
use ingest::topics::Retention;
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::config::check_range;

/// How often the status snapshot is written unless configured otherwise.
pub const SNAPSHOT_SECONDS: u32 = 300;
/// How far the writing thread lets others go first, in steps of `nice`.
const STANDS_BACK: u8 = 10;

/// Refuses an interval that is no use.
pub fn check_snapshot_seconds(seconds: u32) -> Result<()> {
    check_range("snapshot_seconds", u64::from(seconds), 10, 86_400)
}

/// Half of the compacted topics' delete retention: a tombstone that an older snapshot missed may be gone.
pub fn snapshot_max_age() -> Duration {
    Duration::from_secs(u64::from(Retention::default().tombstone_days) * 86_400 / 2)
}

/// Writes the status snapshot now and then, and at once where there is none: a node starts from it while the log is away.
pub async fn write_snapshots(ingest: Arc<Ingest>, seconds: u32, stopped: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(Duration::from_secs(u64::from(seconds)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let file = ingest.config.snapshot.as_ref();
    if file.is_some_and(|file| file.exists()) {
        interval.tick().await;
    }
    loop {
        interval.tick().await;
        if *stopped.borrow() {
            return;
        }
        if let Err(error) = write_standing_back(Arc::clone(&ingest)).await {
            tracing::error!(%error, "the status snapshot was not written");
        }
    }
}

/// Writes a snapshot on a thread of its own, behind whatever else wants a core.
async fn write_standing_back(ingest: Arc<Ingest>) -> Result<()> {
    let (done, written) = oneshot::channel();
    std::thread::Builder::new()
        .name("snapshot".into())
        .spawn(move || {
            if let Err(error) = scheduling::stand_back(STANDS_BACK) {
                tracing::warn!(%error, "the snapshot does not stand back behind lookups");
            }
            let _ = done.send(ingest.write_snapshot());
        })?;
    written.await.context("its thread ended early")??;
    Ok(())
}
