//! Sends a letter's value back to where it came from.
//!
//! The value is appended to the same partition, where the aggregator takes it for a new record; a note then closes the letter. A
//! process that ends between the two leaves the letter open, and it is sent once more: the aggregator knows the scan by its id and
//! counts it once (INV-1).

use event_log::{LogError, Record, SharedLog};
use scan_model::Scan;
use scan_model::codec::{self, CodecError};

use super::{Entry, Letter, Redriven};
use crate::{DEAD_LETTERS, SCANS};
use scan_model::Timestamp;

/// Why a letter is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// It would become a letter again.
    #[error("this build cannot read the value: {0}")]
    Unreadable(#[from] CodecError),
    /// The letter's own text does not hold the value.
    #[error("the letter does not hold its record's value")]
    NoValue,
    /// Say that it is meant, if it is.
    #[error("it was sent again as offset {} at {}; --again sends it once more", .0.as_offset, .0.at.to_rfc3339())]
    Already(Redriven),
    /// Nobody here knows what such a record must look like.
    #[error("records of topic {0} are not re-driven")]
    Topic(String),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What a letter's value is as a record of its topic.
///
/// # Errors
/// Where this build could not read it back.
fn record_of(letter: &Letter) -> Result<Record, RedriveError> {
    if letter.place.topic != SCANS {
        return Err(RedriveError::Topic(letter.place.topic.clone()));
    }
    let value = letter.value.as_ref().ok_or(RedriveError::NoValue)?;
    let scan: Scan = codec::decode(value)?;
    let key = scan.person.0.to_be_bytes().to_vec();
    Ok(Record::keyed(key, value.clone()))
}

/// Sends a letter again and notes it; `again` where it was sent before.
pub async fn redrive(
    log: &SharedLog,
    letter: &Letter,
    again: bool,
) -> Result<Redriven, RedriveError> {
    if let (Some(last), false) = (letter.redriven.last(), again) {
        return Err(RedriveError::Already(*last));
    }
    let record = record_of(letter)?;
    let place = &letter.place;
    let appended = log
        .append(&place.topic, place.partition, vec![record])
        .await?;
    let note = Entry::Redriven {
        redriven: place.clone(),
        as_offset: appended.first,
    };
    let noted = log.append(DEAD_LETTERS, 0, vec![note.to_record()]).await?;
    tracing::info!(%place, as_offset = appended.first, "a dead letter was sent again");
    Ok(Redriven {
        at: Timestamp(noted.append_time_ms),
        as_offset: appended.first,
    })
}
