//! Whether a snapshot is of a log.

use std::path::Path;

use event_log::{LogError, SharedLog};

use super::SnapshotError;
use crate::cache::StatusCache;

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
    for ((topic, partition), covered) in cache.highest_positions() {
        if covered == 0 {
            continue;
        }
        let end = log.bounds(topic.name(), partition).await?.end;
        if covered > end {
            return Ok(Err(SnapshotError::AheadOfLog {
                file: file.to_owned(),
                topic: topic.name(),
                partition,
                covered,
                end,
            }));
        }
    }
    Ok(Ok(()))
}
