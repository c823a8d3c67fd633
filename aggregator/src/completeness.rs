//! Up to when the statistics are complete.

use std::time::Duration;

use event_log::{LogError, SharedLog};
use scan_model::Timestamp;

use crate::{GROUP, SCANS};

/// Where the statistics stand: everything appended up to the instant is counted.
pub async fn complete_up_to(log: &SharedLog) -> Result<Timestamp, LogError> {
    let mut complete = Timestamp::now();
    for partition in 0..log.partitions(SCANS)? {
        let bounds = log.bounds(SCANS, partition).await?;
        let committed = log.committed(GROUP, SCANS, partition).await?;
        let position = committed.map_or(bounds.start, |committed| committed.offset);
        if position >= bounds.end {
            continue;
        }
        let mut reader = log
            .read(SCANS, partition, position.max(bounds.start))
            .await?;
        if let Some(first) = reader.next(1, Duration::ZERO).await?.first() {
            complete = complete.min(Timestamp(first.append_time_ms - 1));
        }
    }
    Ok(complete)
}
