//! What a start needs to know of a closed segment, so that it need not read the segment.
//!
//! A closed segment is durable whole and never written again. Its summary lies beside it and states its extent, its size, when
//! its file was last modified, and its sparse index. A start takes a summary where all of that is so, and reads and verifies
//! the segment where anything is not. Every reader verifies each batch it reads, whichever way the segment was opened.
//!
//! ```text
//! "TXS1", CRC-32C of all that follows u32, base offset u64, end offset u64, bytes u64, newest append time i64,
//! last modified: seconds i64 and nanoseconds i64, then each index entry: offset u64, position u64
//! ```
//!
//! Integers are little-endian. A summary is not synced: one that a power cut spoilt fails its checksum.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::segment::Segment;
use crate::error::LogError;
use crate::record::Offset;

const MAGIC: &[u8; 4] = b"TXS1";
/// The magic and the checksum.
const HEAD: usize = 8;

/// The name's extension.
pub(super) const EXTENSION: &str = "summary";

fn path_of(segment: &Path) -> PathBuf {
    segment.with_extension(EXTENSION)
}

/// When a file was last modified.
fn modified(file: &File) -> io::Result<[i64; 2]> {
    let metadata = file.metadata()?;
    Ok([metadata.mtime(), metadata.mtime_nsec()])
}

/// Writes the summary of a closed, durable segment. Without one the next start reads the segment, so a refusal is only noted.
pub(super) fn write(segment: &Segment) {
    if let Err(error) = try_write(segment) {
        let file = segment.path.display();
        tracing::debug!(%file, %error, "no summary was written; the next start reads the segment");
    }
}

fn try_write(segment: &Segment) -> io::Result<()> {
    let index = segment.index();
    let mut bytes = Vec::with_capacity(HEAD + 48 + index.len() * 16);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    for number in [segment.base, segment.end(), segment.size()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let [seconds, nanoseconds] = modified(&segment.file)?;
    for number in [segment.newest_ms(), seconds, nanoseconds] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for (offset, position) in index {
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&position.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[HEAD..]);
    bytes[4..HEAD].copy_from_slice(&crc.to_le_bytes());
    fs::write(path_of(&segment.path), bytes)
}

/// Takes the extent and index of a just opened segment from its summary; `false`, and the segment as it was, where there is
/// none or it is not of this file as it is now.
pub(super) fn take(segment: &Segment) -> bool {
    let Some(summary) = fs::read(path_of(&segment.path))
        .ok()
        .and_then(|bytes| Summary::decode(&bytes))
    else {
        return false;
    };
    let is_of_this_file = summary.base == segment.base
        && segment
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.len() == summary.size)
        && modified(&segment.file).is_ok_and(|modified| modified == summary.modified);
    if is_of_this_file {
        segment.restore(summary.end, summary.size, summary.newest_ms, summary.index);
    }
    is_of_this_file
}

/// Removes the summary of a segment whose file is about to go or to be replaced.
pub(super) fn remove(segment: &Path) -> Result<(), LogError> {
    let path = path_of(segment);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(LogError::io(format!("remove {}", path.display()))),
    }
}

struct Summary {
    base: Offset,
    end: Offset,
    size: u64,
    newest_ms: i64,
    modified: [i64; 2],
    index: Vec<(Offset, u64)>,
}

impl Summary {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(MAGIC)?;
        let (crc, body) = body.split_first_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (numbers, rest) = body.as_chunks::<8>();
        let (fields, entries) = numbers.split_first_chunk::<6>()?;
        let (entries, odd) = entries.as_chunks::<2>();
        if !rest.is_empty() || !odd.is_empty() {
            return None;
        }
        let signed = |at: usize| i64::from_le_bytes(fields[at]);
        Some(Self {
            base: u64::from_le_bytes(fields[0]),
            end: u64::from_le_bytes(fields[1]),
            size: u64::from_le_bytes(fields[2]),
            newest_ms: signed(3),
            modified: [signed(4), signed(5)],
            index: entries
                .iter()
                .map(|entry| entry.map(u64::from_le_bytes).into())
                .collect(),
        })
    }
}
