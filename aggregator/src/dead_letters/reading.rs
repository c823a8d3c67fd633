//! The letters of the topic, each once, with what became of them.

use std::collections::BTreeMap;
use std::time::Duration;

use event_log::{LogError, Offset, SharedLog, StoredRecord};
use scan_model::Timestamp;

use super::{Entry, Place, from_hex};
use crate::DEAD_LETTERS;

/// Bytes read at a time.
const READ_BYTES: usize = 4 << 20;

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its number: the offset in the topic at which it was first written.
    pub number: Offset,
    /// Further offsets at which the same record was buried again.
    pub copies: Vec<Offset>,
    /// When it was written.
    pub written_at: Timestamp,
    /// Where its record stood.
    pub place: Place,
    /// Why it could not be stored.
    pub reason: String,
    /// The record's value; `None` where the letter's own text is damaged.
    pub value: Option<Vec<u8>>,
    /// When and as what it was sent again.
    pub redriven: Vec<Redriven>,
}

/// One re-driving of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redriven {
    /// When it was noted.
    pub at: Timestamp,
    /// The offset that the value has now, in the partition it came from.
    pub as_offset: Offset,
}

impl Letter {
    /// Whether it counts against INV-1: it was never sent again.
    pub const fn is_open(&self) -> bool {
        self.redriven.is_empty()
    }

    /// Whether a number is this letter's.
    pub fn is_numbered(&self, number: Offset) -> bool {
        self.number == number || self.copies.contains(&number)
    }
}

/// All letters, by number.
#[derive(Debug, Default)]
pub struct Letters {
    /// The letters.
    pub letters: Vec<Letter>,
    /// Offsets of records that are neither letters nor notes of this build's kinds.
    pub unreadable: Vec<Offset>,
}

/// Reads the topic to its end.
pub async fn read(log: &SharedLog) -> Result<Letters, LogError> {
    let mut by_place: BTreeMap<Place, Letter> = BTreeMap::new();
    let mut unreadable = Vec::new();
    each(log, |record, entry| {
        let at = Timestamp(record.append_time_ms);
        match entry {
            Some(Entry::Letter {
                place,
                reason,
                value,
            }) => {
                if let Some(letter) = by_place.get_mut(&place) {
                    letter.copies.push(record.offset);
                    return;
                }
                let letter = Letter {
                    number: record.offset,
                    copies: Vec::new(),
                    written_at: at,
                    place: place.clone(),
                    reason,
                    value: from_hex(&value),
                    redriven: Vec::new(),
                };
                by_place.insert(place, letter);
            }
            Some(Entry::Redriven {
                redriven,
                as_offset,
            }) => match by_place.get_mut(&redriven) {
                Some(letter) => letter.redriven.push(Redriven { at, as_offset }),
                None => unreadable.push(record.offset),
            },
            None => unreadable.push(record.offset),
        }
    })
    .await?;
    let mut letters: Vec<Letter> = by_place.into_values().collect();
    letters.sort_by_key(|letter| letter.number);
    Ok(Letters {
        letters,
        unreadable,
    })
}

/// Hands out every record of the topic, with what it says.
pub(super) async fn each(
    log: &SharedLog,
    mut take: impl FnMut(&StoredRecord, Option<Entry>) + Send,
) -> Result<(), LogError> {
    let bounds = log.bounds(DEAD_LETTERS, 0).await?;
    if bounds.start == bounds.end {
        return Ok(());
    }
    let mut reader = log.read(DEAD_LETTERS, 0, bounds.start).await?;
    while reader.position() < bounds.end {
        for record in reader.next(READ_BYTES, Duration::from_secs(1)).await? {
            let value = record.record.value.as_deref();
            let entry = value.and_then(|value| serde_json::from_slice(value).ok());
            take(&record, entry);
        }
    }
    Ok(())
}
