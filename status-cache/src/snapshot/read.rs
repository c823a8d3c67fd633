//! Reads a snapshot, its sections on every core.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use scan_model::{CodeRevocation, PersonId, Timestamp, codec};
use uncached_file::UncachedReader;

use super::{HASH_LENGTH, HEAD_LENGTH, MAGIC, PartitionKey, SnapshotError, TRAILER_LENGTH};
use crate::aliases::PACKED_LENGTH;
use crate::cache::StatusCache;
use crate::feed::Coverage;
use crate::packed_facts::PackedFacts;
use crate::positions::{LogPosition, StatusTopic};
use crate::table::SEGMENTS;

/// Bytes of slots taken in at a time.
const CHUNK: usize = 256 << 10;
/// Bytes read from the disk at a time.
const BLOCKS: usize = 1 << 20;
/// Threads for each core: while one waits for the disk, another takes in what it read.
const THREADS_A_CORE: usize = 2;
/// Bytes of a slot's image.
const IMAGE: usize = 32;

/// Why a part of the file is not taken; [`read`] names the file.
enum Refusal {
    Io(io::Error),
    Damaged(&'static str),
    OtherVersion,
    Foreign,
    TooOld { age_ms: i64 },
    Full(crate::TableFull),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("a field runs past the end"),
            _ => Self::Io(error),
        }
    }
}

/// Reads a snapshot into an empty cache and answers what it covers.
///
/// # Errors
/// By name, for each reason to rebuild from the log. The cache may then be partly filled and is to be thrown away.
pub fn read(
    cache: &StatusCache,
    fingerprint: [u8; 8],
    max_age: Duration,
    file: &Path,
) -> Result<Coverage, SnapshotError> {
    let named = |refusal| {
        let file = file.to_owned();
        match refusal {
            Refusal::Io(source) => SnapshotError::Io { file, source },
            Refusal::Damaged(reason) => SnapshotError::Damaged { file, reason },
            Refusal::OtherVersion => SnapshotError::OtherVersion(file),
            Refusal::Foreign => SnapshotError::Foreign(file),
            Refusal::TooOld { age_ms } => SnapshotError::TooOld {
                file,
                age_hours: age_ms / 3_600_000,
                limit_hours: max_age.as_secs() as i64 / 3600,
            },
            Refusal::Full(error) => error.into(),
        }
    };
    read_all(cache, fingerprint, max_age, file).map_err(named)
}

fn read_all(
    cache: &StatusCache,
    fingerprint: [u8; 8],
    max_age: Duration,
    file: &Path,
) -> Result<Coverage, Refusal> {
    let outline = Outline::read(&mut UncachedReader::open(file, BLOCKS)?)?;
    if outline.fingerprint != fingerprint {
        return Err(Refusal::Foreign);
    }
    let age_ms = Timestamp::now().0 - outline.known_until.0;
    if age_ms > max_age.as_millis() as i64 {
        return Err(Refusal::TooOld { age_ms });
    }
    let next = AtomicUsize::new(0);
    let threads = THREADS_A_CORE * thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = || -> Result<(), Refusal> {
            let mut file = UncachedReader::open(file, BLOCKS)?;
            loop {
                let segment = next.fetch_add(1, Ordering::Relaxed);
                let Some(range) = outline.sections.get(segment) else {
                    return Ok(());
                };
                restore_section(
                    cache,
                    &mut file,
                    segment,
                    range.clone(),
                    &outline.partitions,
                )?;
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or(Err(Refusal::Damaged("a section could not be read")))
        })
    })?;
    if cache.table().len() as u64 != outline.persons {
        return Err(Refusal::Damaged("persons are missing"));
    }
    let mut turn = cache.turn();
    // An alias may have come between the copies of its own segment and of its person's.
    for (id, person) in cache.aliases().all() {
        turn.share_facts(id, person);
    }
    turn.behind.applied.finish_restore();
    drop(turn);
    Ok(Coverage {
        positions: cache.positions(),
        known_until: outline.known_until,
    })
}

/// What stands around the sections.
struct Outline {
    fingerprint: [u8; 8],
    known_until: Timestamp,
    partitions: Vec<PartitionKey>,
    sections: Vec<std::ops::Range<u64>>,
    persons: u64,
}

impl Outline {
    fn read(file: &mut UncachedReader) -> Result<Self, Refusal> {
        let damaged = Refusal::Damaged;
        let length = file.length();
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if &magic != MAGIC {
            return Err(Refusal::OtherVersion);
        }
        let trailer_at = length
            .checked_sub(TRAILER_LENGTH as u64)
            .ok_or(damaged("too short"))?;
        let mut trailer = [0; TRAILER_LENGTH];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let (numbers, hash) = trailer.split_at(16);
        let mut rest = numbers;
        let mut number = || take(&mut rest).map_or(0, u64::from_le_bytes);
        let (persons, index_at) = (number(), number());
        if index_at.checked_add(SEGMENTS as u64 * 8) != Some(trailer_at) {
            return Err(damaged("the index is not where it should be"));
        }
        let mut index = vec![0; SEGMENTS * 8];
        file.read_exact_at(&mut index, index_at)?;
        let begins = index
            .as_chunks::<8>()
            .0
            .iter()
            .map(|n| u64::from_le_bytes(*n));
        let begins: Vec<u64> = begins.chain([index_at]).collect();
        let header_length = begins[0];
        if !(28..1 << 20).contains(&header_length) || !begins.is_sorted() {
            return Err(damaged("the index is not ascending"));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact_at(&mut header, 0)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header).update(&index).update(numbers);
        if hasher.finalize().as_bytes() != hash {
            return Err(damaged("the checksum of the outline does not match"));
        }
        let short = || damaged("the header is too short");
        let mut rest = &header[MAGIC.len()..];
        let fingerprint = take(&mut rest).ok_or_else(short)?;
        let known_until = Timestamp(i64::from_le_bytes(take(&mut rest).ok_or_else(short)?));
        let count = u32::from_le_bytes(take(&mut rest).ok_or_else(short)?);
        let mut partitions = Vec::new();
        for _ in 0..count {
            let [name_length] = take(&mut rest).ok_or_else(short)?;
            let (name, after) = rest
                .split_at_checked(usize::from(name_length))
                .ok_or_else(short)?;
            rest = after;
            let topic = std::str::from_utf8(name)
                .ok()
                .and_then(StatusTopic::from_name)
                .ok_or(damaged("a topic is unknown"))?;
            let partition = u32::from_le_bytes(take(&mut rest).ok_or_else(short)?);
            partitions.push((topic, partition));
        }
        Ok(Self {
            fingerprint,
            known_until,
            partitions,
            sections: begins.windows(2).map(|ends| ends[0]..ends[1]).collect(),
            persons,
        })
    }
}

/// Reads bytes of a section in order, and hashes them.
struct Section<'f> {
    file: &'f mut UncachedReader,
    at: u64,
    end: u64,
    hasher: blake3::Hasher,
}

impl Section<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        if bytes.len() as u64 > self.end - self.at {
            return Err(Refusal::Damaged("a section is too short"));
        }
        self.file.read_exact_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(())
    }

    fn read_vec(&mut self, length: u64) -> Result<Vec<u8>, Refusal> {
        if length > self.end - self.at {
            return Err(Refusal::Damaged("a section is too short"));
        }
        let mut bytes = vec![0; length as usize];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn numbers(&mut self, count: usize) -> Result<Vec<u64>, Refusal> {
        let bytes = self.read_vec(count as u64 * 8)?;
        let numbers = bytes.as_chunks::<8>().0.iter();
        Ok(numbers.map(|n| u64::from_le_bytes(*n)).collect())
    }
}

fn restore_section(
    cache: &StatusCache,
    file: &mut UncachedReader,
    segment: usize,
    range: std::ops::Range<u64>,
    partitions: &[PartitionKey],
) -> Result<(), Refusal> {
    let end = range
        .end
        .checked_sub(HASH_LENGTH as u64)
        .filter(|end| *end >= range.start)
        .ok_or(Refusal::Damaged("a section is too short"))?;
    let mut section = Section {
        file,
        at: range.start,
        end,
        hasher: blake3::Hasher::new(),
    };
    let head = section.numbers(HEAD_LENGTH / 8)?;
    let offsets = section.numbers(partitions.len())?;
    let [
        slots,
        persons,
        holders,
        revocations,
        facts_bytes,
        revocations_bytes,
        aliases,
        declarations,
    ] = head[..]
    else {
        return Err(Refusal::Damaged("a section is too short"));
    };
    let found = restore_slots(cache, segment, slots as usize, &mut section)?;
    if found as u64 != persons {
        return Err(Refusal::Damaged("persons are missing"));
    }
    let facts = section.read_vec(facts_bytes)?;
    let early = section.read_vec(revocations_bytes)?;
    let aliases = section.read_vec(aliases.saturating_mul(PACKED_LENGTH as u64))?;
    let declarations = section.read_vec(declarations.saturating_mul(16))?;
    let mut hash = [0; HASH_LENGTH];
    section.file.read_exact_at(&mut hash, end)?;
    if section.at != end || section.hasher.finalize().as_bytes() != &hash {
        return Err(Refusal::Damaged("the checksum of a section does not match"));
    }
    cache
        .table()
        .count_segment(segment, found)
        .map_err(Refusal::Full)?;
    restore_facts(cache, holders, &facts).ok_or(Refusal::Damaged("a fact does not decode"))?;
    for packed in aliases.as_chunks().0 {
        cache.aliases().restore(packed);
    }
    let revocations = decode_revocations(revocations, &early)
        .ok_or(Refusal::Damaged("a revocation does not decode"))?;
    let positions = partitions.iter().zip(offsets);
    let positions: Vec<LogPosition> = positions
        .map(|((topic, partition), offset)| LogPosition {
            topic: *topic,
            partition: *partition,
            offset,
        })
        .collect();
    let mut turn = cache.turn();
    for revocation in revocations {
        let early = &mut turn.behind.early_revocations;
        early.entry(revocation.person).or_default().push(revocation);
    }
    for declaration in declarations.as_chunks::<16>().0 {
        let mut rest = declaration.as_slice();
        let person = PersonId(take(&mut rest).map_or(0, u64::from_le_bytes));
        let time = Timestamp(take(&mut rest).map_or(0, i64::from_le_bytes));
        turn.behind.early_declarations.insert(person, time);
    }
    turn.behind.applied.restore_segment(segment, &positions);
    Ok(())
}

fn restore_slots(
    cache: &StatusCache,
    segment: usize,
    slots: usize,
    section: &mut Section<'_>,
) -> Result<usize, Refusal> {
    if !cache.table().prepare_segment(segment, slots) {
        return Err(Refusal::Full(crate::TableFull {
            capacity: cache.table().capacity(),
        }));
    }
    let mut persons = 0;
    let mut buffer = vec![0; CHUNK.min(slots * IMAGE)];
    for first in (0..slots).step_by(CHUNK / IMAGE) {
        let chunk = &mut buffer[..(CHUNK / IMAGE).min(slots - first) * IMAGE];
        section.read(chunk)?;
        persons += cache.table().fill_segment(segment, first, chunk);
    }
    Ok(persons)
}

fn restore_facts(cache: &StatusCache, holders: u64, bytes: &[u8]) -> Option<()> {
    let mut rest = bytes;
    for _ in 0..holders {
        let person = PersonId(u64::from_le_bytes(take(&mut rest)?));
        let facts = PackedFacts::from_bytes(take_slice(&mut rest)?)?;
        cache.side_table().restore(person, facts);
    }
    rest.is_empty().then_some(())
}

fn decode_revocations(count: u64, bytes: &[u8]) -> Option<Vec<CodeRevocation>> {
    let mut rest = bytes;
    let mut revocations = Vec::new();
    for _ in 0..count {
        revocations.push(codec::decode(take_slice(&mut rest)?).ok()?);
    }
    rest.is_empty().then_some(revocations)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

fn take_slice<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(input)?) as usize;
    let (taken, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(taken)
}
