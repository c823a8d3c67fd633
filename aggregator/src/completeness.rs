//! Up to when the statistics are complete.

use std::time::Duration;

use event_log::{LogError, SharedLog};
use scan_model::Timestamp;
use tokio::time::Instant;

use crate::pipeline::Aggregator;
use crate::{GROUP, SCANS};

/// How often watermarks are looked at where nothing is published.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Aggregator {
    /// Raises the watermarks of partitions that are read to their end, and writes all of them to the store where that is wanted. A
    /// store or a log that is away only delays it.
    pub(crate) async fn advance_watermarks(&mut self) {
        let interval = self.config.publish_completeness.unwrap_or(LOOK_INTERVAL);
        if self.published_at.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        self.published_at = Some(Instant::now());
        let Ok(partitions) = self.log.partitions(SCANS) else {
            return;
        };
        let mut known = Vec::with_capacity(self.assigned.len());
        for (partition, assigned) in &mut self.assigned {
            let asked_at = Timestamp::now();
            let bounds = self.log.bounds(SCANS, *partition).await;
            let is_at_end = bounds.is_ok_and(|bounds| assigned.next >= bounds.end);
            if is_at_end && assigned.gathered.is_empty() {
                assigned.watermark.raise(asked_at);
            }
            if let Some(instant) = assigned.watermark.known() {
                known.push((*partition, instant));
            }
        }
        if let Some((_, oldest)) = known.iter().min_by_key(|(_, instant)| *instant) {
            let age_ms = (Timestamp::now().0 - oldest.0).max(0);
            metrics::gauge!("aggregator_completeness_age_seconds").set(age_ms as f64 / 1000.0);
        }
        if self.config.publish_completeness.is_none() {
            return;
        }
        if let Err(error) = warehouse::completeness::publish(&self.store, partitions, &known).await
        {
            tracing::debug!(%error, "completeness is published later");
        }
    }
}

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
