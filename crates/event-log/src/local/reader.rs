//! Reads one partition: from the index to the batch, from batch to batch, and asleep at the end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use scheduling::Breather;
use tokio::sync::watch;

use super::batch::{self, BatchError, BatchHeader, HEADER_LENGTH};
use super::partition::{NewestBatch, PartitionLog};
use super::segment::Segment;
use crate::PartitionReader;
use crate::error::LogError;
use crate::record::{Offset, StoredRecord};

/// Bytes read from a segment at a time.
const CHUNK: usize = 1 << 20;
/// Records taken apart between two places where others may go first.
const BREATH: u32 = 500;

pub(super) struct LocalReader {
    log: Arc<PartitionLog>,
    end: watch::Receiver<Offset>,
    position: Offset,
    /// Where the next batch lies, once known.
    place: Option<Place>,
    buffered: VecDeque<StoredRecord>,
    /// The offset that follows what has been read into the buffer; compaction may have left no record just below it.
    reached: Offset,
}

#[derive(Clone)]
struct Place {
    segment: Arc<Segment>,
    position: u64,
}

impl LocalReader {
    pub(super) fn new(log: Arc<PartitionLog>, from: Offset) -> Result<Self, LogError> {
        let bounds = log.bounds();
        if from < bounds.start || from > bounds.end {
            return Err(LogError::OutOfRange {
                topic: log.topic.clone(),
                partition: log.partition,
                offset: from,
                start: bounds.start,
                end: bounds.end,
            });
        }
        let end = log.watch_end();
        Ok(Self {
            log,
            end,
            position: from,
            place: None,
            buffered: VecDeque::new(),
            reached: from,
        })
    }

    /// Whether durable records lie at or beyond the position.
    pub(super) fn has_more(&self) -> bool {
        !self.buffered.is_empty() || self.position < *self.end.borrow()
    }

    /// Reads the next batches into the empty buffer: the newest from memory, a chunk of earlier ones off the async threads.
    async fn fill(&mut self) -> Result<(), LogError> {
        let (log, from, place) = (Arc::clone(&self.log), self.position, self.place.take());
        let (records, place, reached) = if let Some(newest) = log.newest_batch(from) {
            take_newest(newest, from)?
        } else {
            let read = tokio::task::spawn_blocking(move || read_chunk(&log, from, place));
            read.await
                .map_err(|error| LogError::Closed(error.to_string()))??
        };
        self.buffered = records.into();
        self.place = Some(place);
        self.reached = reached;
        self.skip_compacted();
        Ok(())
    }

    /// The position moves past compacted ranges, where no record is left.
    fn skip_compacted(&mut self) {
        if self.buffered.is_empty() {
            self.position = self.reached;
        }
    }

    fn take(&mut self, max_bytes: usize) -> Vec<StoredRecord> {
        let mut bytes = 0;
        let has_room = |record: &&StoredRecord| {
            let is_first = bytes == 0;
            bytes += record.record.value.as_ref().map_or(1, Bytes::len).max(1);
            is_first || bytes <= max_bytes
        };
        let count = self.buffered.iter().take_while(has_room).count();
        let taken: Vec<StoredRecord> = if count == self.buffered.len() {
            std::mem::take(&mut self.buffered).into()
        } else {
            self.buffered.drain(..count).collect()
        };
        if let Some(last) = taken.last() {
            self.position = last.offset + 1;
        }
        self.skip_compacted();
        taken
    }
}

#[async_trait]
impl PartitionReader for LocalReader {
    async fn next(
        &mut self,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            while self.buffered.is_empty() && self.position < *self.end.borrow_and_update() {
                self.fill().await?;
            }
            if !self.buffered.is_empty() {
                return Ok(self.take(max_bytes));
            }
            match tokio::time::timeout_at(deadline, self.end.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(Vec::new()),
            }
        }
    }

    fn position(&self) -> Offset {
        self.position
    }

    async fn is_at_end(&mut self) -> bool {
        !self.has_more()
    }
}

/// The records from `from` on that the newest batch holds, the place behind it, and the offset reached.
fn take_newest(
    newest: NewestBatch,
    from: Offset,
) -> Result<(Vec<StoredRecord>, Place, Offset), LogError> {
    let NewestBatch {
        header,
        body,
        segment,
        position,
    } = newest;
    let mut place = Place { segment, position };
    let mut records =
        batch::records(&header, body).map_err(|error| damaged(&place, 0, header.base, error))?;
    if header.base < from {
        records.retain(|record| record.offset >= from);
    }
    place.position += header.total_length() as u64;
    Ok((records, place, header.next))
}

/// The records from `from` on that one chunk holds, the place behind it, and the offset reached.
fn read_chunk(
    log: &PartitionLog,
    from: Offset,
    place: Option<Place>,
) -> Result<(Vec<StoredRecord>, Place, Offset), LogError> {
    let bounds = log.bounds();
    if from < bounds.start {
        return Err(LogError::OutOfRange {
            topic: log.topic.clone(),
            partition: log.partition,
            offset: from,
            start: bounds.start,
            end: bounds.end,
        });
    }
    let mut place = place.unwrap_or_else(|| find(log, from));
    if place.position >= place.segment.size() && from >= place.segment.end() {
        place = find(log, from);
    }
    let mut bytes = Bytes::from(place.segment.read_at(place.position, CHUNK)?);
    // A batch larger than the chunk is read whole.
    if let Ok(header) = BatchHeader::parse(&bytes)
        && header.total_length() > bytes.len()
    {
        bytes = place
            .segment
            .read_at(place.position, header.total_length())?
            .into();
    }
    let mut records = Vec::new();
    let mut reached = from;
    let mut breather = Breather::every(BREATH);
    let mut at = 0;
    while at < bytes.len() {
        let header = match batch::verify(&bytes[at..]) {
            Ok(header) => header,
            // The chunk ends inside a batch; the next chunk begins with it.
            Err(BatchError::Short) if at > 0 => break,
            Err(error) => return Err(damaged(&place, at, reached, error)),
        };
        // Synced, but not published yet.
        if header.base >= bounds.end {
            break;
        }
        let body = bytes.slice(at + HEADER_LENGTH..at + header.total_length());
        at += header.total_length();
        reached = reached.max(header.next);
        if header.next <= from {
            continue;
        }
        let mut batch =
            batch::records(&header, body).map_err(|e| damaged(&place, at, reached, e))?;
        breather.items(header.count);
        if header.base < from {
            batch.retain(|record| record.offset >= from);
        }
        records.append(&mut batch);
    }
    let behind = Place {
        segment: place.segment,
        position: place.position + at as u64,
    };
    Ok((records, behind, reached))
}

fn find(log: &PartitionLog, offset: Offset) -> Place {
    let segment = log.segment_for(offset);
    let position = segment.position_before(offset);
    Place { segment, position }
}

fn damaged(place: &Place, at: usize, offset: Offset, error: BatchError) -> LogError {
    LogError::Damaged {
        file: place.segment.path.clone(),
        position: place.position + at as u64,
        offset,
        reason: error.to_string(),
    }
}
