//! The status snapshot: when it is written, and when it is too old.

use std::sync::Arc;
use std::time::Duration;

use ingest::Ingest;
use ingest::topics::Retention;
use tokio::sync::watch;

/// How often the status snapshot is written.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(300);

/// Half of the compacted topics' delete retention: a tombstone that an older snapshot missed may be gone.
pub fn snapshot_max_age() -> Duration {
    Duration::from_secs(u64::from(Retention::default().tombstone_days) * 86_400 / 2)
}

/// Writes the status snapshot now and then, and at once where there is none: a node starts from it while the log is away.
pub async fn write_snapshots(ingest: Arc<Ingest>, stopped: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(SNAPSHOT_INTERVAL);
    let file = ingest.config.snapshot.as_ref();
    if file.is_some_and(|file| file.exists()) {
        interval.tick().await;
    }
    loop {
        interval.tick().await;
        if *stopped.borrow() {
            return;
        }
        let ingest = Arc::clone(&ingest);
        let written = tokio::task::spawn_blocking(move || ingest.write_snapshot()).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "the status snapshot was not written");
        }
    }
}
