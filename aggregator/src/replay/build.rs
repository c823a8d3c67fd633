//! Reads partitions and stores them, one batch being stored while the next is read.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_log::{Offset, Partition, SharedLog, StoredRecord};
use scan_model::{SiteId, Timestamp};
use tokio::task::JoinHandle;
use warehouse::ownership::Epoch;
use warehouse::scan_rows::insert_statement;
use warehouse::{Store, StoreError, slices};

use super::{Progress, ReplayError, ReplayOptions, Report, Share};
use crate::sealed::SealedBatch;
use crate::sealing::{CountedOnce, Decoded, count_once, decode};
use crate::window::Window;
use crate::{SCANS, dead_letters, recovery};

/// Bytes read at a time.
const READ_BYTES: usize = 16 << 20;

/// Builds the tables of a database that has the schema and no rows.
pub(super) struct Builder<'a> {
    log: &'a SharedLog,
    built: &'a Store,
    dissolved: &'a BTreeSet<SiteId>,
    options: &'a ReplayOptions,
    known_letters: HashSet<(Partition, Offset)>,
    storing: Option<JoinHandle<Result<Stored, StoreError>>>,
    report: Report,
}

/// A batch that the store has taken, and what it refused of it.
struct Stored {
    batch: SealedBatch,
    refused: HashSet<Offset>,
    reason: String,
}

impl<'a> Builder<'a> {
    pub(super) async fn new(
        log: &'a SharedLog,
        built: &'a Store,
        dissolved: &'a BTreeSet<SiteId>,
        options: &'a ReplayOptions,
    ) -> Result<Self, ReplayError> {
        Ok(Self {
            log,
            built,
            dissolved,
            options,
            known_letters: dead_letters::known(log).await?,
            storing: None,
            report: Report {
                records: 0,
                rows: 0,
                duplicates: 0,
                dead_letters: 0,
                dead_letters_written: 0,
                fact_changes: 0,
                slices: 0,
                building: Duration::ZERO,
                proving: Duration::ZERO,
            },
        })
    }

    /// Rows stored.
    pub(super) fn rows(&self) -> u64 {
        self.report.rows
    }

    pub(super) fn report(&self) -> Report {
        self.report
    }

    /// Reads and stores every partition; answers how long that took.
    pub(super) async fn build(
        &mut self,
        shares: &BTreeMap<Partition, Share>,
        mut report: impl FnMut(&Progress) + Send,
    ) -> Result<Duration, ReplayError> {
        let began = Instant::now();
        let of = shares.values().map(|share| share.end - share.start).sum();
        let mut before = 0;
        for (done, (partition, share)) in shares.iter().enumerate() {
            let mut progress = |read: Offset, rows: u64| {
                report(&Progress {
                    records: before + (read - share.start),
                    of,
                    rows,
                    partitions_done: done as u32 + u32::from(read >= share.end),
                    partitions: shares.len() as u32,
                    elapsed: began.elapsed(),
                });
            };
            self.build_partition(*partition, *share, &mut progress)
                .await?;
            before += share.end - share.start;
        }
        Ok(began.elapsed())
    }

    async fn build_partition(
        &mut self,
        partition: Partition,
        share: Share,
        progress: &mut (impl FnMut(Offset, u64) + Send),
    ) -> Result<(), ReplayError> {
        let window_ms = self.options.window.as_millis() as i64;
        let mut window = Window::new(window_ms, self.options.window_capacity, Timestamp(0));
        let mut reader = self.log.read(SCANS, partition, share.start).await?;
        let mut next = share.start;
        while next < share.end {
            let mut records: Vec<StoredRecord> = Vec::new();
            while records.len() < self.options.batch_records && reader.position() < share.end {
                records.extend(reader.next(READ_BYTES, Duration::from_secs(1)).await?);
            }
            records.retain(|record| record.offset < share.end);
            let first = next;
            next = reader.position().min(share.end);
            self.report.records += records.len() as u64;
            self.store(partition, first..next, records, &mut window)
                .await?;
            progress(next, self.report.rows);
        }
        self.finish_storing().await?;
        progress(next, self.report.rows);
        Ok(())
    }

    /// Seals one batch, and begins to store it once the one before it is stored.
    async fn store(
        &mut self,
        partition: Partition,
        range: std::ops::Range<Offset>,
        mut records: Vec<StoredRecord>,
        window: &mut Window,
    ) -> Result<(), ReplayError> {
        // They are stored by re-driving alone, under the offsets of their copies.
        let count = records.len();
        let known = &self.known_letters;
        records.retain(|record| !known.contains(&(partition, record.offset)));
        self.report.dead_letters += (count - records.len()) as u64;
        let Decoded {
            scans,
            malformed,
            newer,
        } = tokio::task::block_in_place(|| decode(records));
        if let Some((offset, error)) = newer {
            return Err(ReplayError::NewerVersion {
                topic: SCANS,
                partition,
                offset,
                error,
            });
        }
        for (offset, reason, value) in malformed {
            self.bury(partition, offset, &reason, Some(value)).await?;
        }
        // An old id is looked for in raw, where the batch before this one must be by then.
        let is_old =
            |scan: &scan_model::Scan| window.ask(scan, 1) == crate::window::Seen::PerhapsInRaw;
        if scans.iter().any(|(_, _, scan)| is_old(scan)) {
            self.finish_storing().await?;
        }
        let CountedOnce {
            batch, duplicates, ..
        } = count_once(self.built, window, partition, range, &scans, self.dissolved).await?;
        self.report.duplicates += duplicates;
        self.finish_storing().await?;
        if !batch.is_empty() {
            self.storing = Some(tokio::spawn(insert(self.built.clone(), batch)));
        }
        Ok(())
    }

    /// Waits for the batch that is being stored.
    async fn finish_storing(&mut self) -> Result<(), ReplayError> {
        let Some(storing) = self.storing.take() else {
            return Ok(());
        };
        let Stored {
            batch,
            refused,
            reason,
        } = storing
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))?;
        self.report.rows += (batch.len() - refused.len()) as u64;
        for offset in refused {
            self.bury(batch.partition, offset, &reason, None).await?;
        }
        Ok(())
    }

    /// Writes a dead letter where there is none yet.
    async fn bury(
        &mut self,
        partition: Partition,
        offset: Offset,
        reason: &str,
        value: Option<Bytes>,
    ) -> Result<(), ReplayError> {
        self.report.dead_letters += 1;
        if !self.known_letters.insert((partition, offset)) {
            return Ok(());
        }
        let value = match value {
            Some(value) => value,
            None => dead_letters::value_at(self.log, partition, offset)
                .await?
                .into(),
        };
        dead_letters::write(self.log, partition, offset, reason, &value).await?;
        self.report.dead_letters_written += 1;
        Ok(())
    }
}

/// Inserts a batch. One that is refused for what it is goes in without the rows that are to blame.
async fn insert(built: Store, batch: SealedBatch) -> Result<Stored, StoreError> {
    // Nobody claims the partitions of a database that is being built.
    let statement = insert_statement(batch.partition, Epoch::UNCLAIMED);
    let (refused, reason) = match built.insert(&statement, batch.rows()).await {
        Ok(()) => (HashSet::new(), String::new()),
        Err(StoreError::DataRefused(reason)) => {
            let refused = recovery::insert_bisected(&built, &batch, Epoch::UNCLAIMED).await?;
            slices::prove_and_repair(&built, &batch.slices).await?;
            (refused, reason)
        }
        Err(error) => return Err(error),
    };
    Ok(Stored {
        batch,
        refused,
        reason,
    })
}
