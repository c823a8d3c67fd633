//! The durable offset of a partition, known at the next start.
//!
//! The mark is rewritten after each group's sync and is itself synced now and then: after a killed process it is exact;
//! after a power cut it may be older than the truth, never newer. The batches carry the offset too (see `batch`), so
//! that recovery takes the larger of both.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::LogError;
use crate::record::Offset;

pub(super) struct DurableMark {
    file: File,
}

const LENGTH: usize = 12;

impl DurableMark {
    /// Opens the mark and reads it; a mark that fails its own checksum reads as `None`.
    pub(super) fn open(partition_folder: &Path) -> Result<(Self, Option<Offset>), LogError> {
        let path = partition_folder.join("durable");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(LogError::io(format!("open {}", path.display())))?;
        let mut bytes = [0; LENGTH];
        let known = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(bytes),
            Err(_) => None,
        };
        Ok((Self { file }, known))
    }

    /// Reads the mark of a partition that another process may be writing.
    pub(super) fn peek(partition_folder: &Path) -> Option<Offset> {
        let bytes = std::fs::read(partition_folder.join("durable")).ok()?;
        decode(bytes.try_into().ok()?)
    }

    /// Notes that everything below `offset` is durable.
    pub(super) fn set(&self, offset: Offset) -> Result<(), LogError> {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..8]);
        bytes[8..].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(&bytes, 0)
            .map_err(LogError::io("write the durable mark"))
    }

    /// Makes the mark itself survive a power cut.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.file
            .sync_data()
            .map_err(LogError::io("sync the durable mark"))
    }
}

fn decode(bytes: [u8; LENGTH]) -> Option<Offset> {
    let (offset, crc) = bytes.split_at(8);
    let is_intact = crc32c::crc32c(offset).to_le_bytes() == *crc;
    is_intact.then(|| {
        offset
            .try_into()
            .map(u64::from_le_bytes)
            .unwrap_or_default()
    })
}
