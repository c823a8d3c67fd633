//! Up to when the statistics are complete, kept beside them for readers that have no log.

use scan_model::Timestamp;
use serde::Deserialize;

use crate::store::{Store, StoreError};

/// Says up to when some of a log's partitions are counted.
pub async fn publish(
    store: &Store,
    partitions: u32,
    complete_up_to: &[(u32, Timestamp)],
) -> Result<(), StoreError> {
    if complete_up_to.is_empty() {
        return Ok(());
    }
    let written_at = Timestamp::now().0;
    let rows: Vec<String> = complete_up_to
        .iter()
        .map(|(partition, instant)| {
            format!(
                "({partition}, {partitions}, fromUnixTimestamp64Milli(toInt64({})), fromUnixTimestamp64Milli(toInt64({written_at})))",
                instant.0
            )
        })
        .collect();
    store
        .execute(&format!(
            "INSERT INTO completeness VALUES {}",
            rows.join(", ")
        ))
        .await
}

/// Everything appended up to the instant is counted; none where a partition has not been heard of.
pub async fn read(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    #[derive(Deserialize)]
    struct Row {
        known: u64,
        partitions: u64,
        complete_ms: i64,
    }
    let row: Row = store
        .row(
            "SELECT count() AS known, max(partitions) AS partitions, min(complete_ms) AS complete_ms FROM
             (SELECT log_partition, max(partitions) AS partitions, toUnixTimestamp64Milli(max(complete_up_to)) AS complete_ms
              FROM completeness GROUP BY log_partition)",
            &[],
        )
        .await?;
    let is_whole = row.known > 0 && row.known >= row.partitions;
    Ok(is_whole.then_some(Timestamp(row.complete_ms)))
}
