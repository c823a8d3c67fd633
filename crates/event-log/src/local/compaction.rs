//! Compaction by key: closed segments are rewritten with the newest record of each key.
//!
//! Offsets keep their meaning: a record keeps its offset, and each rewritten batch begins where its predecessor ended.
//! The rewrite goes to a temporary file, is synced, and takes the first original's name in one rename; a crash before
//! it leaves the originals, a crash after it leaves superseded files, which the next start removes.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use uncached_file::{UncachedReader, UncachedWriter};

use super::batch::{self, BatchBuilder, BatchError, BatchHeader, HEADER_LENGTH};
use super::committer::now_ms;
use super::partition::PartitionLog;
use super::segment::Segment;
use super::superseded::{self, LastLook};
use super::{summary, sync_folder};
use crate::error::LogError;
use crate::record::{Offset, StoredRecord};

/// Bytes read and written at a time.
const PART: usize = 256 << 10;

/// How much compaction takes, and how long.
pub(super) struct Limits<'l> {
    /// Keys held in memory at once.
    pub keys_at_once: u64,
    /// Set when the log is closing: what is under way is given up.
    pub is_closing: &'l AtomicBool,
}

impl Limits<'_> {
    /// An error where the log is closing.
    pub(super) fn go_on(&self) -> Result<(), LogError> {
        if self.is_closing.load(Ordering::Relaxed) {
            Err(LogError::Closed("the log is closing".into()))
        } else {
            Ok(())
        }
    }
}

/// Compacts one partition where that is worthwhile; answers how many segments were replaced.
pub(super) fn compact(
    log: &PartitionLog,
    delete_retention: Duration,
    limits: &Limits<'_>,
    last: &mut LastLook,
) -> Result<usize, LogError> {
    let closed = log.closed_segments();
    let tombstones_kept_ms = now_ms() - delete_retention.as_millis() as i64;
    let found = superseded::find(log, &closed, tombstones_kept_ms, limits, last)?;
    let Some(superseded) = found else {
        return Ok(0);
    };
    let keeps = |record: &StoredRecord| !superseded.holds(record.offset);
    let mut replaced = 0;
    for run in runs(&closed, log.segment_bytes()) {
        let rewritten = rewrite(log, run, &keeps, limits)?;
        log.replace(run, Arc::new(rewritten));
        for old in &run[1..] {
            summary::remove(&old.path)?;
            fs::remove_file(&old.path)
                .map_err(LogError::io(format!("remove {}", old.path.display())))?;
        }
        sync_folder(log.folder())?;
        replaced += run.len();
    }
    // What is left is counted anew.
    last.forget(log.folder());
    if let Some(keys) = log.appended_keys() {
        keys.lock().forget();
    }
    Ok(replaced)
}

/// Neighbouring segments that together are no larger than one segment may be.
fn runs(closed: &[Arc<Segment>], segment_bytes: u64) -> Vec<&[Arc<Segment>]> {
    let mut runs = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (index, segment) in closed.iter().enumerate() {
        if index > from && bytes + segment.size() > segment_bytes {
            runs.push(&closed[from..index]);
            from = index;
            bytes = 0;
        }
        bytes += segment.size();
    }
    runs.push(&closed[from..]);
    runs
}

/// Writes the kept records of some segments into one new segment under the first one's name.
fn rewrite(
    log: &PartitionLog,
    run: &[Arc<Segment>],
    keeps: &dyn Fn(&StoredRecord) -> bool,
    limits: &Limits<'_>,
) -> Result<Segment, LogError> {
    let base = run[0].base;
    let end = run[run.len() - 1].end();
    let path = Segment::path_for(log.folder(), base);
    let temporary = path.with_extension("compacting");
    let context = format!("write {}", temporary.display());
    let mut file =
        UncachedWriter::create(&temporary, PART).map_err(LogError::io(context.clone()))?;
    let mut extents = Vec::new();
    let mut joined = base;
    let mut write = |bytes: Vec<u8>, from: Offset, next: Offset, time: i64| {
        extents.push((from, next, bytes.len() as u64, time));
        file.write_all(&bytes)
            .map_err(LogError::io(context.clone()))
    };
    for segment in run {
        for_each_batch(segment, limits, |header, body| {
            let batch = batch::records(header, body)?;
            let mut builder = BatchBuilder::new(joined, header.body_length as usize);
            for record in batch.iter().filter(|record| keeps(record)) {
                builder.push(record.offset, &record.record);
            }
            if builder.is_empty() {
                return Ok(());
            }
            let (_, bytes) = builder.finish(header.next, header.append_time_ms, joined);
            write(bytes, joined, header.next, header.append_time_ms)?;
            joined = header.next;
            Ok(())
        })?;
    }
    if joined < end {
        let newest_ms = run[run.len() - 1].newest_ms();
        let (_, bytes) = BatchBuilder::new(joined, 0).finish(end, newest_ms, joined);
        write(bytes, joined, end, newest_ms)?;
    }
    file.finish().map_err(LogError::io(context))?;
    // Gone from the disk before the file that it describes is another.
    summary::remove(&path)?;
    sync_folder(log.folder())?;
    fs::rename(&temporary, &path)
        .map_err(LogError::io(format!("rename {}", temporary.display())))?;
    sync_folder(log.folder())?;
    let segment = Segment::open(path, base)?;
    for (from, next, length, time) in extents {
        segment.extend(from, next, length, time);
    }
    summary::write(&segment);
    Ok(segment)
}

/// Why a visit to a batch ended early.
pub(super) enum VisitError {
    Log(LogError),
    Batch(BatchError),
}

impl From<LogError> for VisitError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<BatchError> for VisitError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

/// Visits the header and body of each batch of a segment. Other threads may go first between them. It is read past the page cache, which serves the
/// readers of the log's end.
pub(super) fn for_each_batch(
    segment: &Segment,
    limits: &Limits<'_>,
    mut visit: impl FnMut(&BatchHeader, Bytes) -> Result<(), VisitError>,
) -> Result<(), LogError> {
    let context = || format!("read {}", segment.path.display());
    let mut file = UncachedReader::open(&segment.path, PART).map_err(LogError::io(context()))?;
    let size = segment.size();
    let mut position = 0;
    while position < size {
        let damaged = |error: BatchError| LogError::Damaged {
            file: segment.path.clone(),
            position,
            offset: segment.base,
            reason: error.to_string(),
        };
        let mut read = |length: usize| {
            let length = length.min((size - position) as usize);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, position)
                .map(|()| bytes)
                .map_err(LogError::io(context()))
        };
        let header = BatchHeader::parse(&read(HEADER_LENGTH)?).map_err(damaged)?;
        let bytes = Bytes::from(read(header.total_length())?);
        let header = batch::verify(&bytes).map_err(damaged)?;
        visit(&header, bytes.slice(HEADER_LENGTH..)).map_err(|error| match error {
            VisitError::Log(error) => error,
            VisitError::Batch(error) => damaged(error),
        })?;
        limits.go_on()?;
        scheduling::front_line::give_way();
        position += header.total_length() as u64;
    }
    Ok(())
}
