//! Copies a log's records while another process may be writing it.
//!
//! Nothing of the original is locked or changed. A partition's copy holds every record that was durable when the copying of it
//! began, perhaps some more, and ends with a whole batch: what a crash at some moment could have left. Topics are copied one
//! after the other, so that a record of a later one may be newer than everything in an earlier one, and never the other way
//! round: name a topic whose records follow from others' before those others.
//!
//! Groups' positions are not copied: they belong to the store that was filled up to them.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::batch::{self, BatchError};
use super::durable_mark::DurableMark;
use super::segment::Segment;
use super::{count_partitions, partition_folder, sync_folder};
use crate::error::LogError;
use crate::record::{Offset, Partition};

/// How often a partition is begun again because its segments were compacted or retired meanwhile.
const TRIES: usize = 20;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Segments.
    pub segments: u64,
    /// Bytes.
    pub bytes: u64,
    /// Offsets below the ends of all partitions.
    pub offsets: u64,
}

/// Why one try at a partition came to nothing.
enum Failure {
    /// Its segments were replaced meanwhile.
    Moved(LogError),
    Final(LogError),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Final(error)
    }
}

/// Copies topics, in this order, from a log's folder into a new one.
///
/// # Errors
/// [`LogError::Damaged`] where durable bytes are not what was written.
pub fn copy(log: &Path, to: &Path, topics: &[&str]) -> Result<Copied, LogError> {
    let mut copied = Copied::default();
    for topic in topics {
        let partitions = count_partitions(&log.join(topic))?;
        for partition in 0..partitions {
            copy_partition(&log.join(topic), &to.join(topic), partition, &mut copied)?;
        }
        if partitions > 0 {
            sync_folder(&to.join(topic))?;
        }
    }
    sync_folder(to)?;
    Ok(copied)
}

fn copy_partition(
    from: &Path,
    to: &Path,
    partition: Partition,
    copied: &mut Copied,
) -> Result<(), LogError> {
    let (source, target) = (
        partition_folder(from, partition),
        partition_folder(to, partition),
    );
    let mut moved = None;
    for _ in 0..TRIES {
        match try_partition(&source, &target) {
            Ok(part) => {
                copied.segments += part.segments;
                copied.bytes += part.bytes;
                copied.offsets += part.offsets;
                return Ok(());
            }
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Moved(error)) => moved = Some(error),
        }
    }
    Err(moved.unwrap_or_else(|| LogError::Closed("never tried".into())))
}

fn try_partition(source: &Path, target: &Path) -> Result<Copied, Failure> {
    if target.exists() {
        fs::remove_dir_all(target).map_err(LogError::io(format!("remove {}", target.display())))?;
    }
    fs::create_dir_all(target).map_err(LogError::io(format!("create {}", target.display())))?;
    // Read before the segments are listed: everything below is in them.
    let durable = DurableMark::peek(source).unwrap_or(0);
    let mut bases = bases(source)?;
    bases.sort_unstable();
    let mut copied = Copied::default();
    let mut end = None;
    for (index, base) in bases.iter().enumerate() {
        // A compacted predecessor has taken over its records.
        if end.is_some_and(|end| *base < end) {
            continue;
        }
        if let Some(end) = end.filter(|end| *base > *end) {
            let reason = format!("the next segment begins at offset {base}");
            return Err(Failure::Moved(damaged(source, end, 0, reason)));
        }
        let bytes = read(&Segment::path_for(source, *base))?;
        let (length, next, flaw) = whole_batches(&bytes, *base);
        let is_last = index + 1 == bases.len();
        if let Some(flaw) = flaw.filter(|_| !is_last || next < durable) {
            return Err(damaged(source, *base, length, flaw.to_string()).into());
        }
        write(&Segment::path_for(target, *base), &bytes[..length])?;
        copied.segments += 1;
        copied.bytes += length as u64;
        end = Some(next);
    }
    let end = end.unwrap_or(0);
    if end < durable {
        let reason = format!("the file ends here, but offsets below {durable} were durable");
        let last = bases.last().copied().unwrap_or(0);
        return Err(Failure::Moved(damaged(source, last, 0, reason)));
    }
    let (mark, _) = DurableMark::open(target)?;
    mark.set(end)?;
    mark.sync()?;
    sync_folder(target)?;
    copied.offsets = end;
    Ok(copied)
}

/// The first offsets of a partition's segments.
fn bases(source: &Path) -> Result<Vec<Offset>, LogError> {
    let entries =
        fs::read_dir(source).map_err(LogError::io(format!("list {}", source.display())))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| Segment::base_of(&entry.path()))
        .collect())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|source| {
        let is_gone = source.kind() == ErrorKind::NotFound;
        let error = LogError::Io {
            context: format!("read {}", path.display()),
            source,
        };
        if is_gone {
            Failure::Moved(error)
        } else {
            Failure::Final(error)
        }
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    File::create_new(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(LogError::io(format!("write {}", path.display())))
}

/// How many bytes are whole batches that join, where they end, and why the rest is none.
fn whole_batches(bytes: &[u8], base: Offset) -> (usize, Offset, Option<BatchError>) {
    let (mut position, mut next) = (0, base);
    while position < bytes.len() {
        match batch::verify(&bytes[position..]) {
            Ok(header) if header.base == next => {
                position += header.total_length();
                next = header.next;
            }
            Ok(_) => return (position, next, Some(BatchError::Chain)),
            Err(error) => return (position, next, Some(error)),
        }
    }
    (position, next, None)
}

fn damaged(source: &Path, base: Offset, position: usize, reason: String) -> LogError {
    LogError::Damaged {
        file: Segment::path_for(source, base),
        position: position as u64,
        offset: base,
        reason,
    }
}
