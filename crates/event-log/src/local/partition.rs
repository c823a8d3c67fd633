//! One partition: its segments, its durable extent, and the one writer's state.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::batch::BatchHeader;
use super::durable_mark::DurableMark;
use super::key_sample::AppendedKeys;
use super::recovery::{self, OpenReport};
use super::segment::Segment;
use super::superseded::LastLook;
use super::{partition_folder, summary, sync_folder};
use crate::Bounds;
use crate::error::LogError;
use crate::record::{Offset, Partition};
use crate::topic::{Cleanup, TopicConfig};

/// Largest batch that is kept for the readers at the end (INV-6).
const KEPT_BYTES: usize = 128 << 10;

/// The newest batch, for readers that have read all before it.
#[derive(Clone)]
pub(super) struct NewestBatch {
    pub header: BatchHeader,
    /// The batch's body.
    pub body: Bytes,
    pub segment: Arc<Segment>,
    /// Where in the segment the batch begins.
    pub position: u64,
}

/// A partition. Written by the committer thread alone, read by anyone.
pub(super) struct PartitionLog {
    pub topic: String,
    pub partition: Partition,
    folder: PathBuf,
    segment_bytes: u64,
    segments: RwLock<Vec<Arc<Segment>>>,
    mark: DurableMark,
    /// The next offset of the durable records; readers wait on it.
    durable_end: watch::Sender<Offset>,
    topic_changed: watch::Sender<u64>,
    newest_ms: Mutex<i64>,
    newest_batch: Mutex<Option<NewestBatch>>,
    /// Of a compacted partition.
    appended_keys: Option<Mutex<AppendedKeys>>,
    /// Held while closed segments are replaced or removed: one at a time.
    pub housekeeping: Mutex<LastLook>,
}

impl PartitionLog {
    pub(super) fn open(
        topic_folder: &Path,
        config: &TopicConfig,
        partition: Partition,
        topic_changed: watch::Sender<u64>,
        report: &mut OpenReport,
    ) -> Result<Self, LogError> {
        let folder = partition_folder(topic_folder, partition);
        fs::create_dir_all(&folder)
            .map_err(LogError::io(format!("create {}", folder.display())))?;
        let (mark, marked_durable) = DurableMark::open(&folder)?;
        let segments = recovery::recover(&folder, marked_durable, report)?;
        let end = segments.last().map_or(0, |active| active.end());
        // What recovery has verified may still be in the page cache only; from here on it counts as durable.
        if let Some(active) = segments.last() {
            let context = || format!("sync {}", active.path.display());
            active.file.sync_all().map_err(|source| LogError::Io {
                context: context(),
                source,
            })?;
        }
        sync_folder(&folder)?;
        mark.set(end)?;
        mark.sync()?;
        let last_look = LastLook::read(&folder);
        let newest_ms = segments
            .iter()
            .map(|segment| segment.newest_ms())
            .max()
            .unwrap_or(0);
        let start = segments.first().map_or(end, |segment| segment.base);
        let is_compacted = matches!(config.cleanup, Cleanup::Compact { .. });
        Ok(Self {
            topic: config.name.clone(),
            partition,
            folder,
            segment_bytes: config.segment_bytes,
            segments: RwLock::new(segments),
            mark,
            durable_end: watch::channel(end).0,
            topic_changed,
            newest_ms: Mutex::new(newest_ms),
            newest_batch: Mutex::default(),
            appended_keys: is_compacted.then(|| Mutex::new(AppendedKeys::new(start, end))),
            housekeeping: Mutex::new(last_look),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(super) fn bounds(&self) -> Bounds {
        let start = self
            .segments
            .read()
            .first()
            .map_or(0, |segment| segment.base);
        Bounds {
            start,
            end: self.end(),
        }
    }

    /// The next offset of the durable records.
    pub(super) fn end(&self) -> Offset {
        *self.durable_end.borrow()
    }

    pub(super) fn watch_end(&self) -> watch::Receiver<Offset> {
        self.durable_end.subscribe()
    }

    /// An append time that never runs backwards.
    pub(super) fn next_append_time(&self, now_ms: i64) -> i64 {
        let mut newest = self.newest_ms.lock();
        *newest = now_ms.max(*newest);
        *newest
    }

    /// The active segment, after a roll where it is full. Only the committer thread calls this.
    pub(super) fn writable_segment(&self) -> Result<Arc<Segment>, LogError> {
        let active = self.active();
        let base = active.end();
        // A segment that holds appends of nothing alone would be followed by one of the same name.
        if active.size() < self.segment_bytes || base == active.base {
            return Ok(active);
        }
        let path = Segment::path_for(&self.folder, base);
        let fresh = Arc::new(Segment::open(path, base)?);
        sync_folder(&self.folder)?;
        summary::write(&active);
        self.segments.write().push(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Publishes durable records up to the end of the newest batch. Only the committer thread calls this.
    pub(super) fn publish(&self, newest: NewestBatch) -> Result<(), LogError> {
        let end = newest.header.next;
        self.mark.set(end)?;
        if let Some(keys) = &self.appended_keys {
            keys.lock().append(&newest.header, &newest.body);
        }
        let is_kept = newest.body.len() <= KEPT_BYTES;
        *self.newest_batch.lock() = is_kept.then_some(newest);
        self.durable_end.send_replace(end);
        self.topic_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What is known of the keys of a compacted partition.
    pub(super) const fn appended_keys(&self) -> Option<&Mutex<AppendedKeys>> {
        self.appended_keys.as_ref()
    }

    /// The newest batch, where `offset` lies in it: what nearly every reader at the end asks for, without a file.
    pub(super) fn newest_batch(&self, offset: Offset) -> Option<NewestBatch> {
        let newest = self.newest_batch.lock();
        let holds = |batch: &&NewestBatch| (batch.header.base..batch.header.next).contains(&offset);
        newest.as_ref().filter(holds).cloned()
    }

    /// The segment that holds `offset`, or the last one.
    pub(super) fn segment_for(&self, offset: Offset) -> Arc<Segment> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base <= offset);
        Arc::clone(&segments[after.saturating_sub(1)])
    }

    /// The closed segments, oldest first.
    pub(super) fn closed_segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        segments[..segments.len() - 1].to_vec()
    }

    pub(super) fn active(&self) -> Arc<Segment> {
        let segments = self.segments.read();
        Arc::clone(&segments[segments.len() - 1])
    }

    /// Replaces closed segments by one that has taken over their records.
    pub(super) fn replace(&self, replaced: &[Arc<Segment>], by: Arc<Segment>) {
        let mut segments = self.segments.write();
        let mut by = Some(by);
        segments.retain_mut(|segment| {
            if !replaced.iter().any(|old| Arc::ptr_eq(old, segment)) {
                return true;
            }
            match by.take() {
                Some(by) => {
                    *segment = by;
                    true
                }
                None => false,
            }
        });
    }

    /// Forgets the oldest closed segments and removes their files.
    pub(super) fn remove_oldest(&self, count: usize) -> Result<(), LogError> {
        let removed: Vec<_> = {
            let mut segments = self.segments.write();
            let count = count.min(segments.len() - 1);
            segments.drain(..count).collect()
        };
        for segment in &removed {
            summary::remove(&segment.path)?;
            fs::remove_file(&segment.path)
                .map_err(LogError::io(format!("remove {}", segment.path.display())))?;
        }
        if removed.is_empty() {
            Ok(())
        } else {
            sync_folder(&self.folder)
        }
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        let segments = self.segments.read();
        segments.iter().map(|segment| segment.size()).sum()
    }

    /// Removes the closed segments whose records are all below `offset`.
    pub(super) fn remove_below(&self, offset: Offset) -> Result<(), LogError> {
        let _alone = self.housekeeping.lock();
        let closed = self.closed_segments();
        let count = closed
            .iter()
            .take_while(|segment| segment.end() <= offset)
            .count();
        self.remove_oldest(count)
    }

    /// Makes the durable mark itself survive a power cut.
    pub(super) fn sync_mark(&self) -> Result<(), LogError> {
        self.mark.sync()
    }

    pub(super) fn close(&self) {
        if let Err(error) = self.sync_mark() {
            tracing::warn!(topic = self.topic, partition = self.partition, %error, "durable mark not synced");
        }
    }
}
