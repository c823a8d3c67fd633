//! Records that could not be stored: kept with position and reason until someone re-drives them.
//!
//! The topic is only ever appended to (INV-4): a letter, and, once its value was appended again to where it came from, a note that
//! says so. [`reading`] puts them together, [`redriving`] sends letters back, [`explaining`] says what is the matter with one.
//!
//! A record that became a letter is never stored under its own offset after that: it comes back by re-driving alone. So an
//! aggregator that takes a partition over asks for its letters ([`buried`]), and a range that is counted again after a store was
//! mended does not count a letter and its re-driven copy.

pub mod explaining;
pub mod reading;
pub mod redriving;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use event_log::{LogError, Offset, Partition, Record, SharedLog};
use serde::{Deserialize, Serialize};

pub use explaining::Explanation;
pub use reading::{Letter, Letters, Redriven, read};
pub use redriving::{RedriveError, redrive};

use crate::{DEAD_LETTERS, SCANS};

/// How long a record that is to become a letter may take to be read again.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// Where a record stood that became a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} offset {}",
            self.topic, self.partition, self.offset
        )
    }
}

/// What the topic holds, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    /// A letter's value was appended again.
    Redriven {
        redriven: Place,
        /// The offset that the value has now, in the same partition.
        as_offset: Offset,
    },
    Letter {
        #[serde(flatten)]
        place: Place,
        reason: String,
        /// The record's value, in hexadecimal.
        value: String,
    },
}

impl Entry {
    fn to_record(&self) -> Record {
        Record::unkeyed(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Makes a dead letter durable.
///
/// An aggregator that ends before it commits its position may write one again; readers take letters of one place for one.
pub async fn write(
    log: &SharedLog,
    partition: Partition,
    offset: Offset,
    reason: &str,
    value: &[u8],
) -> Result<(), LogError> {
    let letter = Entry::Letter {
        place: Place {
            topic: SCANS.to_owned(),
            partition,
            offset,
        },
        reason: reason.to_owned(),
        value: to_hex(value),
    };
    log.append(DEAD_LETTERS, 0, vec![letter.to_record()])
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
    let started = Instant::now();
    let mut reader = log.read(SCANS, partition, offset).await?;
    while reader.position() <= offset {
        let records = reader.next(1, Duration::from_secs(1)).await?;
        let mut records = records.into_iter();
        if let Some(record) = records.find(|record| record.offset == offset) {
            return Ok(record.record.value.unwrap_or_default().to_vec());
        }
        // A letter without its value would be a scan lost.
        if started.elapsed() > READ_PATIENCE {
            return Err(LogError::Unavailable(format!(
                "{SCANS}/{partition}, offset {offset} could not be read again"
            )));
        }
    }
    Err(LogError::OutOfRange {
        topic: SCANS.to_owned(),
        partition,
        offset,
        start: reader.position(),
        end: reader.position(),
    })
}

/// Where the records of scans stand that are dead letters already.
pub async fn known(log: &SharedLog) -> Result<HashSet<(Partition, Offset)>, LogError> {
    let mut known = HashSet::new();
    reading::each(log, |_, entry| {
        if let Some(Entry::Letter { place, .. }) = entry
            && place.topic == SCANS
        {
            known.insert((place.partition, place.offset));
        }
    })
    .await?;
    Ok(known)
}

/// The offsets of a partition of scans, from one on, whose records are letters.
pub async fn buried(
    log: &SharedLog,
    partition: Partition,
    from: Offset,
) -> Result<BTreeSet<Offset>, LogError> {
    let known = known(log).await?;
    let buried = known
        .into_iter()
        .filter(|(of, offset)| *of == partition && *offset >= from)
        .map(|(_, offset)| offset)
        .collect();
    Ok(buried)
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digits = String::with_capacity(bytes.len() * 2);
    bytes.iter().fold(digits, |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_notes_read_back_as_what_they_are() {
        let letter = r#"{"topic":"scans","partition":1,"offset":7,"reason":"why","value":"01ff"}"#;
        let note = r#"{"redriven":{"topic":"scans","partition":1,"offset":7},"as_offset":9}"#;
        for text in [letter, note] {
            let entry: Entry = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
            assert_eq!(matches!(entry, Entry::Redriven { .. }), text == note);
        }
    }

    #[test]
    fn only_hexadecimal_digits_are_a_value() {
        assert_eq!(
            from_hex(&to_hex(&[0, 1, 254, 255])),
            Some(vec![0, 1, 254, 255])
        );
        for text in ["0", "0g", "中", "+1"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
