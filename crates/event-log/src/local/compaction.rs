//! Compaction by key: closed segments are rewritten with the newest record of each key.
//!
//! Offsets keep their meaning: a record keeps its offset, and each rewritten batch begins where its predecessor ended.
//! The rewrite goes to a temporary file, is synced, and takes the first original's name in one rename; a crash before
//! it leaves the originals, a crash after it leaves superseded files, which the next start removes.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::batch::{self, BatchBuilder, HEADER_LENGTH};
use super::committer::now_ms;
use super::partition::PartitionLog;
use super::segment::Segment;
use super::sync_folder;
use crate::error::LogError;
use crate::record::{Offset, StoredRecord};

/// A partition is rewritten once this share of its closed records has been superseded.
const WORTHWHILE: f64 = 0.3;

/// The newest offset of each key, by 128 bits of the key's hash.
type Newest = HashMap<(u64, u64), Offset>;

/// Compacts one partition where that is worthwhile; answers how many segments were replaced.
pub(super) fn compact(log: &PartitionLog, delete_retention: Duration) -> Result<usize, LogError> {
    let closed = log.closed_segments();
    if closed.is_empty() {
        return Ok(0);
    }
    let (newest, records) = newest_offsets(&closed, &log.active())?;
    let tombstones_kept_ms = now_ms() - delete_retention.as_millis() as i64;
    let keeps = |record: &StoredRecord| {
        let Some(key) = &record.record.key else {
            return true;
        };
        let is_newest = newest.get(&hash(key)) == Some(&record.offset);
        let is_expired =
            record.record.value.is_none() && record.append_time_ms < tombstones_kept_ms;
        is_newest && !is_expired
    };
    let mut kept = 0_u64;
    for segment in &closed {
        for_each_batch(segment, |_, batch| {
            kept += batch.iter().filter(|record| keeps(record)).count() as u64;
            Ok(())
        })?;
    }
    let superseded = records - kept;
    if superseded == 0 || (superseded as f64) < records as f64 * WORTHWHILE {
        return Ok(0);
    }
    let mut replaced = 0;
    for run in runs(&closed, log.segment_bytes()) {
        let rewritten = rewrite(log, run, &keeps)?;
        log.replace(run, Arc::new(rewritten));
        for old in &run[1..] {
            fs::remove_file(&old.path)
                .map_err(LogError::io(format!("remove {}", old.path.display())))?;
        }
        sync_folder(log.folder())?;
        replaced += run.len();
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

fn newest_offsets(
    closed: &[Arc<Segment>],
    active: &Arc<Segment>,
) -> Result<(Newest, u64), LogError> {
    let mut newest = Newest::new();
    let mut records = 0;
    for segment in closed.iter().chain([active]) {
        let counts = !Arc::ptr_eq(segment, active);
        for_each_batch(segment, |_, batch| {
            for record in batch {
                records += u64::from(counts);
                if let Some(key) = &record.record.key {
                    newest.insert(hash(key), record.offset);
                }
            }
            Ok(())
        })?;
    }
    Ok((newest, records))
}

/// Writes the kept records of some segments into one new segment under the first one's name.
fn rewrite(
    log: &PartitionLog,
    run: &[Arc<Segment>],
    keeps: &dyn Fn(&StoredRecord) -> bool,
) -> Result<Segment, LogError> {
    let base = run[0].base;
    let end = run[run.len() - 1].end();
    let path = Segment::path_for(log.folder(), base);
    let temporary = path.with_extension("compacting");
    let context = format!("write {}", temporary.display());
    let mut file = fs::File::create(&temporary).map_err(LogError::io(context.clone()))?;
    let mut extents = Vec::new();
    let mut joined = base;
    let mut write = |bytes: Vec<u8>, from: Offset, next: Offset, time: i64| {
        extents.push((from, next, bytes.len() as u64, time));
        file.write_all(&bytes)
            .map_err(LogError::io(context.clone()))
    };
    for segment in run {
        for_each_batch(segment, |header, batch| {
            let mut builder = BatchBuilder::new(joined, header.body_length as usize);
            for record in batch.iter().filter(|record| keeps(record)) {
                builder.push(record.offset, &record.record);
            }
            if builder.is_empty() {
                return Ok(());
            }
            let bytes = builder.finish(header.next, header.append_time_ms, joined);
            write(bytes, joined, header.next, header.append_time_ms)?;
            joined = header.next;
            Ok(())
        })?;
    }
    if joined < end {
        let newest_ms = run[run.len() - 1].newest_ms();
        write(
            BatchBuilder::new(joined, 0).finish(end, newest_ms, joined),
            joined,
            end,
            newest_ms,
        )?;
    }
    file.sync_all().map_err(LogError::io(context))?;
    fs::rename(&temporary, &path)
        .map_err(LogError::io(format!("rename {}", temporary.display())))?;
    sync_folder(log.folder())?;
    let segment = Segment::open(path, base)?;
    for (from, next, length, time) in extents {
        segment.extend(from, next, length, time);
    }
    Ok(segment)
}

fn for_each_batch(
    segment: &Segment,
    mut visit: impl FnMut(&batch::BatchHeader, Vec<StoredRecord>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let bytes = Bytes::from(segment.read_at(0, segment.size() as usize)?);
    let mut position = 0;
    while position < bytes.len() {
        let damaged = |error: batch::BatchError| LogError::Damaged {
            file: segment.path.clone(),
            position: position as u64,
            offset: segment.base,
            reason: error.to_string(),
        };
        let header = batch::verify(&bytes[position..]).map_err(damaged)?;
        let body = bytes.slice(position + HEADER_LENGTH..position + header.total_length());
        let records = batch::records(&header, body).map_err(damaged)?;
        visit(&header, records)?;
        position += header.total_length();
    }
    Ok(())
}

fn hash(key: &[u8]) -> (u64, u64) {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(key);
        hasher.finish()
    };
    (half(1), half(2))
}
