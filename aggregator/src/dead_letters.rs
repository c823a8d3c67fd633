//! Records that could not be stored: kept with position and reason until someone re-drives them.

use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use event_log::{LogError, Offset, Partition, Record, SharedLog};
use serde::{Deserialize, Serialize};

use crate::{DEAD_LETTERS, SCANS};

/// A dead letter.
#[derive(Serialize)]
struct DeadLetter<'a> {
    topic: &'a str,
    partition: Partition,
    offset: Offset,
    reason: &'a str,
    /// The record's value, in hexadecimal.
    value: String,
}

/// Makes a dead letter durable.
pub async fn write(
    log: &SharedLog,
    partition: Partition,
    offset: Offset,
    reason: &str,
    value: &[u8],
) -> Result<(), LogError> {
    let value = value
        .iter()
        .fold(String::with_capacity(value.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    let letter = DeadLetter {
        topic: SCANS,
        partition,
        offset,
        reason,
        value,
    };
    let bytes = serde_json::to_vec(&letter).unwrap_or_default();
    log.append(DEAD_LETTERS, 0, vec![Record::unkeyed(bytes)])
        .await?;
    metrics::counter!("aggregator_dead_letters_total").increment(1);
    tracing::error!(partition, offset, reason, "a scan became a dead letter");
    Ok(())
}

/// The value of a scan's record, for its dead letter.
pub(crate) async fn value_at(
    log: &SharedLog,
    partition: Partition,
    offset: Offset,
) -> Result<Vec<u8>, LogError> {
    let mut reader = log.read(SCANS, partition, offset).await?;
    let records = reader.next(1, Duration::from_secs(1)).await?;
    let value = records
        .into_iter()
        .next()
        .and_then(|record| record.record.value);
    Ok(value.unwrap_or_default().to_vec())
}

/// Where the records stand that are dead letters already.
pub async fn known(log: &SharedLog) -> Result<HashSet<(Partition, Offset)>, LogError> {
    #[derive(Deserialize)]
    struct Place {
        topic: String,
        partition: Partition,
        offset: Offset,
    }
    let bounds = log.bounds(DEAD_LETTERS, 0).await?;
    let mut reader = log.read(DEAD_LETTERS, 0, bounds.start).await?;
    let mut known = HashSet::new();
    while reader.position() < bounds.end {
        for record in reader.next(1 << 20, Duration::from_secs(1)).await? {
            let value = record.record.value.unwrap_or_default();
            if let Ok(place) = serde_json::from_slice::<Place>(&value)
                && place.topic == SCANS
            {
                known.insert((place.partition, place.offset));
            }
        }
    }
    Ok(known)
}
