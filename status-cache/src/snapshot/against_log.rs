//! Whether a snapshot is of a log.

use std::path::Path;
use std::time::Duration;

use event_log::{LogError, Offset, Partition, SharedLog};
use futures::future::try_join_all;

use super::SnapshotError;
use crate::cache::StatusCache;
use crate::positions::StatusTopic;

/// A leader that was only just elected may report an end that is short for a moment, which is over after this long.
const END_SETTLES: Duration = Duration::from_secs(5);
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Refuses a restored snapshot that covers more than the log holds: such a log was made anew, or is another deployment's, and what it
/// brings at the offsets that the snapshot covers would be passed over.
///
/// # Errors
/// [`SnapshotError::AheadOfLog`]. The outer error is the log's, which may be away: nothing is known then.
pub async fn check_against_log(
    cache: &StatusCache,
    log: &SharedLog,
    file: &Path,
) -> Result<Result<(), SnapshotError>, LogError> {
    let covered = cache.highest_positions();
    let checks = covered
        .into_iter()
        .map(async |((topic, partition), covered)| {
            let end = end_beyond(log, topic, partition, covered).await?;
            Ok((end < covered).then(|| SnapshotError::AheadOfLog {
                file: file.to_owned(),
                topic: topic.name(),
                partition,
                covered,
                end,
            }))
        });
    let refusals: Vec<_> = try_join_all(checks).await?;
    Ok(refusals.into_iter().flatten().next().map_or(Ok(()), Err))
}

/// Where a partition ends, as soon as it is not before an offset, or once that has been so for a while. One that is not there any more
/// ends at 0.
pub(crate) async fn end_beyond(
    log: &SharedLog,
    topic: StatusTopic,
    partition: Partition,
    offset: Offset,
) -> Result<Offset, LogError> {
    let began = tokio::time::Instant::now();
    loop {
        let end = match log.bounds(topic.name(), partition).await {
            Ok(bounds) => bounds.end,
            Err(LogError::UnknownPartition { .. }) => 0,
            Err(error) => return Err(error),
        };
        if end >= offset || began.elapsed() > END_SETTLES {
            return Ok(end);
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}
