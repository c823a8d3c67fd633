//! One segment file and the sparse index by which readers find their way into it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::error::LogError;
use crate::record::Offset;

/// Bytes of a segment between two index entries.
const INDEX_INTERVAL: u64 = 64 << 10;

/// A segment. Its durable extent only grows.
pub(super) struct Segment {
    pub path: PathBuf,
    pub file: File,
    pub base: Offset,
    end: AtomicU64,
    size: AtomicU64,
    newest_ms: AtomicI64,
    index: RwLock<Vec<(Offset, u64)>>,
}

impl Segment {
    pub(super) fn path_for(folder: &Path, base: Offset) -> PathBuf {
        folder.join(format!("{base:020}.log"))
    }

    /// The base offset that a file name states.
    pub(super) fn base_of(path: &Path) -> Option<Offset> {
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        is_segment
            .then(|| path.file_stem()?.to_str()?.parse().ok())
            .flatten()
    }

    pub(super) fn open(path: PathBuf, base: Offset) -> Result<Self, LogError> {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(LogError::io(format!("open {}", path.display())))?;
        Ok(Self {
            path,
            file,
            base,
            end: AtomicU64::new(base),
            size: AtomicU64::new(0),
            newest_ms: AtomicI64::new(0),
            index: RwLock::new(Vec::new()),
        })
    }

    /// Notes a durable batch: its base offset, where the next one begins, its bytes, its time.
    pub(super) fn extend(&self, base: Offset, next: Offset, length: u64, append_time_ms: i64) {
        let position = self.size.load(Ordering::Relaxed);
        {
            let mut index = self.index.write();
            let due = index
                .last()
                .is_none_or(|(_, last)| position - last >= INDEX_INTERVAL);
            if due {
                index.push((base, position));
            }
        }
        self.newest_ms.fetch_max(append_time_ms, Ordering::Relaxed);
        self.end.store(next, Ordering::Relaxed);
        self.size.store(position + length, Ordering::Release);
    }

    /// Takes in what a summary states of a segment that was just opened.
    pub(super) fn restore(
        &self,
        end: Offset,
        size: u64,
        newest_ms: i64,
        index: Vec<(Offset, u64)>,
    ) {
        *self.index.write() = index;
        self.newest_ms.store(newest_ms, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.size.store(size, Ordering::Release);
    }

    /// The sparse index: the base offset and the position of some batches.
    pub(super) fn index(&self) -> Vec<(Offset, u64)> {
        self.index.read().clone()
    }

    /// Durable bytes.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The offset after the last durable record.
    pub(super) fn end(&self) -> Offset {
        self.end.load(Ordering::Relaxed)
    }

    /// The newest append time in it, Unix milliseconds.
    pub(super) fn newest_ms(&self) -> i64 {
        self.newest_ms.load(Ordering::Relaxed)
    }

    /// The position of some batch at or before the one that holds `offset`.
    pub(super) fn position_before(&self, offset: Offset) -> u64 {
        let index = self.index.read();
        let after = index.partition_point(|(base, _)| *base <= offset);
        after.checked_sub(1).map_or(0, |entry| index[entry].1)
    }

    /// Reads up to `length` durable bytes from `position`.
    pub(super) fn read_at(&self, position: u64, length: usize) -> Result<Vec<u8>, LogError> {
        let available = self.size().saturating_sub(position).min(length as u64) as usize;
        let failed = || LogError::io(format!("read {}", self.path.display()));
        // Into memory that is not set to zero first.
        let mut bytes = Vec::with_capacity(available);
        while bytes.len() < available {
            let place = position + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), place) {
                Ok(0) => return Err(failed()(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed()(error.into())),
            }
        }
        bytes.truncate(available);
        Ok(bytes)
    }
}
