//! A snapshot spares a restart the reading of the whole log.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | magic `TXSNAP01` |
//! | 8 | fingerprint of the person key |
//! | 8 | up to when the log had been applied, Unix milliseconds |
//! | … | positions: count u32, then topic (u32 length and text), partition u32, offset u64 |
//! | … | residents: count u64, then 32 bytes each, the four words of [`layout`](crate::layout) |
//! | … | facts: count u64, then u32 length and wire form |
//! | 32 | BLAKE3 of all before it |
//!
//! It is written beside the old one, synced, and put in its place by one rename. One that is damaged, made under another
//! key, or too old is refused by name; the cache is then rebuilt from the log.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use scan_model::codec;
use scan_model::{Fact, PersonId, Timestamp};

use crate::cache::StatusCache;
use crate::feed::{Coverage, Positions};
use crate::layout::{Decision, PersonWord, ShownWord};
use crate::table::Resident;

const MAGIC: &[u8; 8] = b"TXSNAP01";
const HASH_LENGTH: usize = 32;

/// Why a snapshot was refused. The cache is to be rebuilt from the log.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Not what was written.
    #[error("{}: damaged: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Made under another person key.
    #[error("{}: made under another person key", .0.display())]
    Foreign(PathBuf),
    /// Too old: compaction may have dropped tombstones that it has not seen.
    #[error("{}: knows the log up to {age_hours} hours ago, more than {limit_hours} are not allowed", file.display())]
    TooOld {
        /// The file.
        file: PathBuf,
        /// Its age.
        age_hours: i64,
        /// The bound: half of the topics' delete retention.
        limit_hours: i64,
    },
    /// More persons than configured.
    #[error(transparent)]
    Full(#[from] crate::TableFull),
}

/// Writes a snapshot. Readers go on; writers wait while memory is copied, not while the disk writes. Answers the bytes
/// written.
///
/// `coverage` must be read before the call: what is applied after it is harmless to apply again.
pub fn write(
    cache: &StatusCache,
    coverage: &Coverage,
    fingerprint: [u8; 8],
    file: &Path,
) -> Result<u64, SnapshotError> {
    let io = |source| SnapshotError::Io {
        file: file.to_owned(),
        source,
    };
    let (residents, facts) = {
        let _writers = cache.hold_writers();
        let residents: Vec<_> = cache.table().iter().collect();
        (residents, cache.side_table().all())
    };
    let temporary = file.with_extension("writing");
    let mut out = HashingWriter {
        inner: BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(io)?),
        hasher: blake3::Hasher::new(),
        written: 0,
    };
    write_body(&mut out, coverage, fingerprint, &residents, &facts).map_err(io)?;
    let hash = out.hasher.finalize();
    out.inner.write_all(hash.as_bytes()).map_err(io)?;
    let inner = out
        .inner
        .into_inner()
        .map_err(|error| io(error.into_error()))?;
    inner.sync_all().map_err(io)?;
    fs::rename(&temporary, file).map_err(io)?;
    if let Some(folder) = file.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io)?;
    }
    Ok(out.written + HASH_LENGTH as u64)
}

fn write_body(
    out: &mut impl Write,
    coverage: &Coverage,
    fingerprint: [u8; 8],
    residents: &[(PersonId, Resident)],
    facts: &[(PersonId, std::sync::Arc<[Fact]>)],
) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&fingerprint)?;
    out.write_all(&coverage.known_until.0.to_le_bytes())?;
    out.write_all(&(coverage.positions.len() as u32).to_le_bytes())?;
    for ((topic, partition), offset) in &coverage.positions {
        out.write_all(&(topic.len() as u32).to_le_bytes())?;
        out.write_all(topic.as_bytes())?;
        out.write_all(&partition.to_le_bytes())?;
        out.write_all(&offset.to_le_bytes())?;
    }
    out.write_all(&(residents.len() as u64).to_le_bytes())?;
    for (id, resident) in residents {
        for word in [
            id.0,
            resident.decision.0,
            resident.person.0,
            resident.shown.0,
        ] {
            out.write_all(&word.to_le_bytes())?;
        }
    }
    let facts: Vec<&Fact> = facts.iter().flat_map(|(_, facts)| facts.iter()).collect();
    out.write_all(&(facts.len() as u64).to_le_bytes())?;
    for fact in facts {
        let bytes = codec::encode(fact).map_err(io::Error::other)?;
        out.write_all(&(bytes.len() as u32).to_le_bytes())?;
        out.write_all(&bytes)?;
    }
    Ok(())
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
    let bytes = fs::read(file).map_err(|source| SnapshotError::Io {
        file: file.to_owned(),
        source,
    })?;
    let damaged = |reason| SnapshotError::Damaged {
        file: file.to_owned(),
        reason,
    };
    let body_length = bytes
        .len()
        .checked_sub(HASH_LENGTH)
        .ok_or_else(|| damaged("too short"))?;
    let (body, hash) = bytes.split_at(body_length);
    if !body.starts_with(MAGIC) {
        return Err(damaged("not a snapshot of this version"));
    }
    if blake3::hash(body).as_bytes() != hash {
        return Err(damaged("the checksum does not match"));
    }
    let mut input = Input {
        rest: &body[MAGIC.len()..],
    };
    let short = || damaged("a field runs past the end");
    if input.take::<8>().ok_or_else(short)? != fingerprint {
        return Err(SnapshotError::Foreign(file.to_owned()));
    }
    let known_until = Timestamp(i64::from_le_bytes(input.take().ok_or_else(short)?));
    let age_ms = Timestamp::now().0 - known_until.0;
    if age_ms > max_age.as_millis() as i64 {
        let (age_hours, limit_hours) = (age_ms / 3_600_000, max_age.as_secs() as i64 / 3600);
        return Err(SnapshotError::TooOld {
            file: file.to_owned(),
            age_hours,
            limit_hours,
        });
    }
    let mut positions = Positions::new();
    for _ in 0..input.u32().ok_or_else(short)? {
        let topic = input.text().ok_or_else(short)?;
        let partition = input.u32().ok_or_else(short)?;
        positions.insert((topic, partition), input.u64().ok_or_else(short)?);
    }
    for _ in 0..input.u64().ok_or_else(short)? {
        let id = PersonId(input.u64().ok_or_else(short)?);
        let resident = Resident {
            decision: Decision(input.u64().ok_or_else(short)?),
            person: PersonWord(input.u64().ok_or_else(short)?),
            shown: ShownWord(input.u64().ok_or_else(short)?),
        };
        cache.restore(id, resident)?;
    }
    for _ in 0..input.u64().ok_or_else(short)? {
        let bytes = input.slice().ok_or_else(short)?;
        let fact = codec::decode(bytes).map_err(|_| damaged("a fact does not decode"))?;
        cache.restore_fact(fact);
    }
    Ok(Coverage {
        positions,
        known_until,
    })
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.slice()?.to_vec()).ok()
    }
}

struct HashingWriter<W> {
    inner: W,
    hasher: blake3::Hasher,
    written: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scan_model::enrolment::{Enrolment, Sex, Verification};
    use scan_model::mask::MaskedName;
    use scan_model::person::Identity;
    use scan_model::{Category, CodeRevocation};

    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn filled() -> StatusCache {
        let cache = StatusCache::new(100);
        for n in 1..=50_u64 {
            let person = PersonId(n << 50);
            let enrolment = Enrolment {
                identity: Identity {
                    person,
                    check: u128::from(n),
                },
                verification: Verification::NameMatched,
                sex: Sex::Male,
                birth_year: Some(1960),
                name: MaskedName::of("李雷").unwrap(),
                phone: None,
                name_hash: 0,
                phone_hash: None,
                residence: None,
                recorded_at: Timestamp(0),
                synthetic: n % 2 == 0,
                change: 1,
            };
            cache.apply_enrolment(&enrolment).unwrap();
            if n % 10 == 0 {
                cache.apply_fact(Fact {
                    person,
                    category: Category::Suspected,
                    source: "cdc".into(),
                    reference: n.to_string(),
                    effective: Timestamp(n as i64),
                    expiry: None,
                    recorded_at: Timestamp(0),
                    supplied_by: 0,
                    note: String::new(),
                    change: 2,
                });
                cache.apply_revocation(&CodeRevocation {
                    person,
                    valid_from: Timestamp(1_700_000_000_000),
                    recorded_at: Timestamp(0),
                    supplied_by: 0,
                    change: 3,
                });
            }
        }
        cache
    }

    #[test]
    fn a_snapshot_restores_every_status_and_position() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status.snapshot");
        let cache = filled();
        let coverage = Coverage {
            positions: Positions::from([(("facts".to_owned(), 3), 77)]),
            known_until: Timestamp::now(),
        };
        write(&cache, &coverage, [1; 8], &file).unwrap();
        let restored = StatusCache::new(100);
        assert_eq!(read(&restored, [1; 8], WEEK, &file).unwrap(), coverage);
        let now = Timestamp::now();
        for n in 1..=50_u64 {
            let person = PersonId(n << 50);
            assert_eq!(restored.get(person, now), cache.get(person, now));
            assert_eq!(restored.facts(person), cache.facts(person));
        }
    }

    #[test]
    fn a_damaged_foreign_or_old_snapshot_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status.snapshot");
        let coverage = Coverage {
            known_until: Timestamp::now(),
            ..Coverage::default()
        };
        write(&filled(), &coverage, [1; 8], &file).unwrap();
        let refusal =
            |fingerprint, age| read(&StatusCache::new(100), fingerprint, age, &file).unwrap_err();
        assert!(matches!(refusal([2; 8], WEEK), SnapshotError::Foreign(_)));
        std::thread::sleep(Duration::from_millis(2));
        assert!(matches!(
            refusal([1; 8], Duration::ZERO),
            SnapshotError::TooOld { .. }
        ));
        let mut bytes = fs::read(&file).unwrap();
        bytes[100] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(matches!(
            refusal([1; 8], WEEK),
            SnapshotError::Damaged { .. }
        ));
        fs::write(&file, &bytes[..20]).unwrap();
        assert!(matches!(
            refusal([1; 8], WEEK),
            SnapshotError::Damaged { .. }
        ));
    }
}
