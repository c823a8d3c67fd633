//! What a start finds on disk: closed segments are taken on their summaries, all others verified batch by batch; a torn tail is
//! cut and reported, damage is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{self, BatchError, BatchHeader};
use super::segment::Segment;
use super::{buckets, summary};
use crate::error::LogError;
use crate::record::Offset;

/// A torn tail that a start has cut: none of it had been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment file.
    pub file: PathBuf,
    /// Where the cut was made.
    pub position: u64,
    /// The offset that follows the last record kept.
    pub offset: Offset,
    /// How many bytes were cut.
    pub bytes: u64,
    /// Why they are not a batch.
    pub reason: String,
}

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Torn tails.
    pub cuts: Vec<Cut>,
    /// Closed segments taken on their summaries.
    pub taken: usize,
    /// Segments verified, the active ones and those without a summary that fits.
    pub segments: usize,
    /// Bytes verified.
    pub bytes: u64,
}

/// The segments of a partition folder, joined; the last is the active one.
pub(super) fn recover(
    folder: &Path,
    marked_durable: Option<Offset>,
    report: &mut OpenReport,
) -> Result<Vec<Arc<Segment>>, LogError> {
    let mut bases = segment_bases(folder)?;
    if bases.is_empty() {
        bases.push(0);
    }
    let last_base = *bases.last().unwrap_or(&0);
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    // What batches themselves prove durable, for the case of a mark that a power cut left behind.
    let mut durable = marked_durable.unwrap_or(0);
    for base in bases {
        if let Some(previous) = segments.last() {
            let expected = previous.end();
            if base < expected {
                remove_superseded(folder, base)?;
                continue;
            }
            if base > expected {
                return Err(LogError::Damaged {
                    file: Segment::path_for(folder, expected),
                    position: 0,
                    offset: expected,
                    reason: format!("the next segment begins at offset {base}"),
                });
            }
        }
        let segment = Segment::open(Segment::path_for(folder, base), base)?;
        let is_active = base == last_base;
        if !is_active && summary::take(&segment) {
            durable = durable.max(segment.end());
            report.taken += 1;
        } else {
            scan(&segment, is_active, &mut durable, report)?;
            report.segments += 1;
            report.bytes += segment.size();
            if !is_active {
                let context = format!("sync {}", segment.path.display());
                segment.file.sync_all().map_err(LogError::io(context))?;
                summary::write(&segment);
            }
        }
        segments.push(Arc::new(segment));
    }
    if let Some(active) = segments.last()
        && active.end() < durable
    {
        return Err(LogError::Damaged {
            file: active.path.clone(),
            position: active.size(),
            offset: active.end(),
            reason: format!("the file ends here, but offsets below {durable} were durable"),
        });
    }
    Ok(segments)
}

fn segment_bases(folder: &Path) -> Result<Vec<Offset>, LogError> {
    let entries =
        fs::read_dir(folder).map_err(LogError::io(format!("list {}", folder.display())))?;
    let mut bases = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if let Some(base) = Segment::base_of(&path) {
            bases.push(base);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "compacting" || extension == buckets::EXTENSION)
        {
            // Of an unfinished rewrite: its originals are all still there.
            fs::remove_file(&path).map_err(LogError::io(format!("remove {}", path.display())))?;
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Removes a segment whose records a compacted predecessor has taken over.
fn remove_superseded(folder: &Path, base: Offset) -> Result<(), LogError> {
    let path = Segment::path_for(folder, base);
    summary::remove(&path)?;
    fs::remove_file(&path).map_err(LogError::io(format!("remove {}", path.display())))
}

/// Verifies a segment batch by batch, and cuts a torn tail of the active one.
fn scan(
    segment: &Segment,
    is_active: bool,
    durable: &mut Offset,
    report: &mut OpenReport,
) -> Result<(), LogError> {
    let bytes = fs::read(&segment.path)
        .map_err(LogError::io(format!("read {}", segment.path.display())))?;
    let mut position = 0;
    while position < bytes.len() {
        let failure = match batch::verify(&bytes[position..]) {
            Ok(header) if header.base == segment.end() => {
                *durable = (*durable).max(header.durable_before);
                let length = header.total_length();
                segment.extend(
                    header.base,
                    header.next,
                    length as u64,
                    header.append_time_ms,
                );
                position += length;
                continue;
            }
            Ok(_) => BatchError::Chain,
            Err(error) => error,
        };
        let offset = segment.end();
        let proven =
            later_batch(&bytes[position..], offset).map_or(0, |later| later.durable_before);
        *durable = (*durable).max(proven);
        if !is_active || offset < *durable {
            return Err(LogError::Damaged {
                file: segment.path.clone(),
                position: position as u64,
                offset,
                reason: failure.to_string(),
            });
        }
        let cut = Cut {
            file: segment.path.clone(),
            position: position as u64,
            offset,
            bytes: (bytes.len() - position) as u64,
            reason: failure.to_string(),
        };
        segment
            .file
            .set_len(cut.position)
            .and_then(|()| segment.file.sync_all())
            .map_err(LogError::io(format!("cut {}", segment.path.display())))?;
        tracing::warn!(
            file = %cut.file.display(), cut.position, cut.offset, cut.bytes, cut.reason,
            "cut a torn tail that was never acknowledged"
        );
        report.cuts.push(cut);
        return Ok(());
    }
    Ok(())
}

/// The last intact batch of a higher offset behind damaged bytes: proof that what lies before it was durable.
fn later_batch(bytes: &[u8], beyond: Offset) -> Option<BatchHeader> {
    let mut found = None;
    let mut position = 1;
    while position < bytes.len() {
        let Some(next) = bytes[position..]
            .windows(4)
            .position(|window| window == b"TXB1")
        else {
            break;
        };
        position += next;
        match batch::verify(&bytes[position..]) {
            Ok(header) if header.base > beyond => {
                position += header.total_length();
                found = Some(header);
            }
            _ => position += 1,
        }
    }
    found
}
