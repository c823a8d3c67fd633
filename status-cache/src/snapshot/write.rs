//! Writes a snapshot while serving.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use scan_model::{CodeRevocation, PersonId, Timestamp, codec};
use uncached_file::UncachedWriter;

use super::{HEAD_LENGTH, MAGIC, PartitionKey, SnapshotError};
use crate::cache::StatusCache;
use crate::packed_facts::PackedFacts;
use crate::positions::LogPosition;
use crate::table::{SEGMENTS, segment_of};

/// Bytes hashed before other threads may go first.
const PART: usize = 128 << 10;
/// Bytes written at a time.
const WRITTEN: usize = 512 << 10;

/// How much of the machine a snapshot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Rests after each segment for as long as the segment took, so that lookups keep their cores.
    Considerate,
    /// As fast as it goes.
    Fast,
}

/// Writes a snapshot and answers its bytes. Readers go on; writers wait while one segment is copied in memory, never while
/// the disk writes. The memory taken is that of one segment.
///
/// `known_until` must be read before the call: everything appended by then is in the cache.
///
/// # Errors
/// [`SnapshotError::Io`] and [`SnapshotError::WithoutPlace`]; the earlier snapshot is then still in place.
pub fn write(
    cache: &StatusCache,
    known_until: Timestamp,
    fingerprint: [u8; 8],
    file: &Path,
    pace: Pace,
) -> Result<u64, SnapshotError> {
    all_have_places(cache)?;
    let temporary = file.with_extension("writing");
    let result = write_and_place(cache, known_until, fingerprint, file, &temporary, pace);
    if result.is_err() {
        // What is there of it takes space and nothing else.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A restart from the snapshot would not read those again who found the table full.
fn all_have_places(cache: &StatusCache) -> Result<(), SnapshotError> {
    match cache.without_place() {
        0 => Ok(()),
        persons => Err(SnapshotError::WithoutPlace { persons }),
    }
}

fn write_and_place(
    cache: &StatusCache,
    known_until: Timestamp,
    fingerprint: [u8; 8],
    file: &Path,
    temporary: &Path,
    pace: Pace,
) -> Result<u64, SnapshotError> {
    let failed = |source| SnapshotError::Io {
        file: file.to_owned(),
        source,
    };
    let bytes = write_all(cache, known_until, fingerprint, temporary, pace).map_err(failed)?;
    // Who found it full while it was written may be below its offsets.
    all_have_places(cache)?;
    fs::rename(temporary, file).map_err(failed)?;
    if let Some(folder) = file.parent() {
        let folder = File::open(folder).map_err(failed)?;
        folder.sync_all().map_err(failed)?;
    }
    Ok(bytes)
}

fn write_all(
    cache: &StatusCache,
    known_until: Timestamp,
    fingerprint: [u8; 8],
    file: &Path,
    pace: Pace,
) -> io::Result<u64> {
    let mut out = UncachedWriter::create(file, WRITTEN)?;
    let partitions = partitions_of(cache);
    let header = header(known_until, fingerprint, &partitions);
    out.write_all(&header)?;
    let mut index = Vec::with_capacity(SEGMENTS * 8);
    let mut persons = 0;
    let mut section = Vec::new();
    for segment in 0..SEGMENTS {
        let began = Instant::now();
        index.extend_from_slice(&out.length().to_le_bytes());
        section.clear();
        persons += copy_section(cache, segment, &partitions, &mut section)?;
        let mut hasher = blake3::Hasher::new();
        for part in section.chunks(PART) {
            hasher.update(part);
            out.write_all(part)?;
            scheduling::breathe();
        }
        out.write_all(hasher.finalize().as_bytes())?;
        if pace == Pace::Considerate {
            std::thread::sleep(began.elapsed().min(Duration::from_secs(1)));
        }
    }
    let mut trailer = Vec::from(persons.to_le_bytes());
    trailer.extend_from_slice(&out.length().to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header).update(&index).update(&trailer);
    out.write_all(&index)?;
    out.write_all(&trailer)?;
    out.write_all(hasher.finalize().as_bytes())?;
    out.finish()
}

/// The partitions of which anything is applied.
fn partitions_of(cache: &StatusCache) -> Vec<PartitionKey> {
    let positions = cache.turn().behind.applied.of_segment(0);
    positions
        .iter()
        .map(|at| (at.topic, at.partition))
        .collect()
}

fn header(known_until: Timestamp, fingerprint: [u8; 8], partitions: &[PartitionKey]) -> Vec<u8> {
    let mut header = Vec::from(MAGIC);
    header.extend_from_slice(&fingerprint);
    header.extend_from_slice(&known_until.0.to_le_bytes());
    header.extend_from_slice(&(partitions.len() as u32).to_le_bytes());
    for (topic, partition) in partitions {
        header.push(topic.name().len() as u8);
        header.extend_from_slice(topic.name().as_bytes());
        header.extend_from_slice(&partition.to_le_bytes());
    }
    header
}

/// Copies a segment as of one moment; answers its persons.
fn copy_section(
    cache: &StatusCache,
    segment: usize,
    partitions: &[PartitionKey],
    section: &mut Vec<u8>,
) -> io::Result<u64> {
    let head = HEAD_LENGTH + partitions.len() * 8;
    section.resize(head, 0);
    let turn = cache.turn();
    let positions = turn.behind.applied.of_segment(segment);
    let persons = turn.table.copy_segment(segment, section) as u64;
    let holders = cache.side_table().copy_segment(segment);
    let aliases = cache.aliases().copy_segment(segment);
    let early = turn.behind.early_revocations.iter();
    let revocations: Vec<CodeRevocation> = early
        .filter(|(person, _)| segment_of(**person) == segment)
        .flat_map(|(_, revocations)| revocations.clone())
        .collect();
    let early = turn.behind.early_declarations.iter();
    let declarations: Vec<(PersonId, Timestamp)> = early
        .filter(|(person, _)| segment_of(**person) == segment)
        .map(|(person, time)| (*person, *time))
        .collect();
    drop(turn);
    let slots = (section.len() - head) as u64 / 32;
    let facts_at = section.len();
    write_facts(&holders, section);
    let revocations_at = section.len();
    for revocation in &revocations {
        let bytes = codec::encode(revocation).map_err(io::Error::other)?;
        section.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        section.extend_from_slice(&bytes);
    }
    let aliases_at = section.len();
    section.extend(aliases.iter().flatten());
    for (person, time) in &declarations {
        section.extend_from_slice(&person.0.to_le_bytes());
        section.extend_from_slice(&time.0.to_le_bytes());
    }
    let offset_of = |key: &PartitionKey| {
        let here = |at: &&LogPosition| (at.topic, at.partition) == *key;
        positions.iter().find(here).map_or(0, |at| at.offset)
    };
    let counts = [
        slots,
        persons,
        holders.len() as u64,
        revocations.len() as u64,
        (revocations_at - facts_at) as u64,
        (aliases_at - revocations_at) as u64,
        aliases.len() as u64,
        declarations.len() as u64,
    ];
    let numbers = counts.into_iter().chain(partitions.iter().map(offset_of));
    for (place, number) in section.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    Ok(persons)
}

fn write_facts(holders: &[(PersonId, PackedFacts)], out: &mut Vec<u8>) {
    for (person, facts) in holders {
        out.extend_from_slice(&person.0.to_le_bytes());
        out.extend_from_slice(&(facts.bytes().len() as u32).to_le_bytes());
        out.extend_from_slice(facts.bytes());
    }
}
