//! Records that could not be stored: kept with position and reason until someone re-drives them.

use std::fmt::Write;

use event_log::{LogError, Offset, Partition, Record, SharedLog};
use serde::Serialize;

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
