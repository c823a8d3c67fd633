//! Group positions, in sled.
//!
//! sled syncs with `sync_file_range`, which a power cut does not respect, and recovers short of a torn batch without a
//! word. So its file is synced after each flush, each entry carries a checksum, and no one trusts an entry blindly: the
//! aggregator compares it with what the store holds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Committed;
use crate::error::LogError;
use crate::record::Partition;

/// How long an open waits for the threads of a store closed before, which sled does not join, to let go of the file.
/// Another process cannot have it: the log's own lock is held.
const LET_GO: Duration = Duration::from_secs(5);

pub(super) struct Positions {
    database: sled::Db,
    file: PathBuf,
}

impl Positions {
    pub(super) fn open(folder: &Path) -> Result<Self, LogError> {
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(4 << 20)
            .flush_every_ms(None);
        let deadline = Instant::now() + LET_GO;
        let database = loop {
            match config.open() {
                Err(error) if is_held(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                outcome => break outcome.map_err(positions)?,
            }
        };
        Ok(Self {
            database,
            file: folder.join("db"),
        })
    }

    pub(super) fn get(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError> {
        let entry = self
            .database
            .get(key(group, topic, partition))
            .map_err(positions)?;
        entry.map(|bytes| decode(&bytes)).transpose()
    }

    /// Records a position; durable on return.
    pub(super) fn set(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        committed: &Committed,
    ) -> Result<(), LogError> {
        committed.check_metadata()?;
        self.database
            .insert(key(group, topic, partition), encode(committed))
            .map_err(positions)?;
        self.database.flush().map_err(positions)?;
        File::open(&self.file)
            .and_then(|file| file.sync_data())
            .map_err(LogError::io(format!("sync {}", self.file.display())))
    }
}

fn key(group: &str, topic: &str, partition: Partition) -> Vec<u8> {
    let mut key = format!("{group}\0{topic}\0").into_bytes();
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

fn encode(committed: &Committed) -> Vec<u8> {
    let mut bytes = committed.offset.to_le_bytes().to_vec();
    bytes.extend_from_slice(committed.metadata.as_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Committed, LogError> {
    let damaged = || LogError::Positions("an entry fails its checksum".into());
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    let (offset, metadata) = body.split_first_chunk::<8>().ok_or_else(damaged)?;
    if crc32c::crc32c(body).to_le_bytes() != *crc {
        return Err(damaged());
    }
    let metadata = String::from_utf8(metadata.to_vec()).map_err(|_| damaged())?;
    Ok(Committed {
        offset: u64::from_le_bytes(*offset),
        metadata,
    })
}

fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

#[allow(clippy::needless_pass_by_value)]
fn positions(error: sled::Error) -> LogError {
    LogError::Positions(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_a_restart_and_metadata_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let committed = Committed {
            offset: 42,
            metadata: "pending 40-42".into(),
        };
        {
            let store = Positions::open(folder.path()).unwrap();
            store.set("g", "scans", 3, &committed).unwrap();
            let refused = Committed {
                offset: 1,
                metadata: "é".into(),
            };
            assert!(matches!(
                store.set("g", "scans", 3, &refused),
                Err(LogError::Metadata)
            ));
        }
        let store = Positions::open(folder.path()).unwrap();
        assert_eq!(store.get("g", "scans", 3).unwrap(), Some(committed));
        assert_eq!(store.get("g", "scans", 4).unwrap(), None);
    }

    #[test]
    fn an_altered_entry_is_an_error_not_a_position() {
        let mut bytes = encode(&Committed {
            offset: 42,
            metadata: "x".into(),
        });
        bytes[0] ^= 1;
        assert!(decode(&bytes).is_err());
    }
}
