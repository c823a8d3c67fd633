//! Builds every table from the retained log into an empty database beside the live one, and swaps (INV-5).
//!
//! 1. *fence*: be the only member of the aggregators' group for as long as it takes ([`fence`]);
//! 2. *build*: read each partition up to the group's position and store it as the aggregator would, in large batches ([`build`]);
//! 3. *prove*: every rollup slice against its raw rows;
//! 4. *swap*: the built database takes the live one's place ([`warehouse::replacement`]).
//!
//! The group's positions stay as they are: what a replay has read ends where the aggregator goes on, so that a kill at any
//! moment, the swap included, leaves a database and positions that belong together. (The history of facts is read to its end, and the
//! member that follows it goes on where the store ends, if that is before its position.) A range that was pending is not read; the
//! aggregator finds none of it in raw and sends it. Only a partition without a position, as after a restored backup, is read
//! to its end, and its position is written after the swap; a kill between the two is noticed at the aggregator's start, which
//! asks for another replay.
//!
//! A dead letter is written only for a record that has none yet.

pub mod build;
pub mod fence;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_log::{LogError, Offset, Partition, SharedLog};
use scan_model::codec::CodecError;
use serde::Deserialize;
use warehouse::schema::{self, SchemaError};
use warehouse::slices::{self, Slice};
use warehouse::{Store, StoreError, ownership, replacement};

use crate::fact_history::{self, RebuildError};
use crate::pending::settled;
use crate::pipeline::AggregatorError;
use crate::{GROUP, SCANS, dissolved, names};

use self::build::Builder;
use self::fence::Fence;

/// How long one statement may take: proofs read whole slices.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(30);

/// How a replay works.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Records of one batch.
    pub batch_records: usize,
    /// How long scan ids are remembered, by log-append time.
    pub window: Duration,
    /// Scan ids remembered, at most.
    pub window_capacity: usize,
    /// How long it may take to become the only member of the group: a killed aggregator's session runs out in this time.
    pub fence_patience: Duration,
    /// Whether live rows older than the log may be lost.
    pub forget_older: bool,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            batch_records: 200_000,
            window: Duration::from_hours(1),
            window_capacity: 1_000_000,
            fence_patience: Duration::from_mins(1),
            forget_older: false,
        }
    }
}

/// Why nothing was swapped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Stop the aggregators.
    #[error(
        "an aggregator is running: it holds {held} of {partitions} partitions; stop every aggregator, then replay again"
    )]
    AggregatorRuns {
        /// Partitions that this replay did not get.
        held: u32,
        /// All partitions.
        partitions: u32,
    },
    /// Stop the aggregators.
    #[error(
        "an aggregator joined while the tables were built; nothing was swapped. Stop every aggregator, then replay again"
    )]
    AggregatorJoined,
    /// Use a newer build (INV-10).
    #[error(
        "{topic}/{partition}, offset {offset}: {error}; nothing was swapped. Replay with a build that knows it"
    )]
    NewerVersion {
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
        /// Which versions.
        error: CodecError,
    },
    /// Decide: the log does not reach as far back as the live database.
    #[error(
        "the live database holds {rows} scans and changes of facts that are older than the log; a replay would lose them. Pass --forget-older to let them go"
    )]
    OlderThanLog {
        /// How many.
        rows: u64,
    },
    /// Look into it: nothing was swapped.
    #[error("the built tables do not prove: {0}; nothing was swapped")]
    NotProven(String),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store refused; nothing was swapped. Replay again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema is not this build's, or the database another deployment's.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Names could not be written.
    #[error(transparent)]
    Aggregator(#[from] AggregatorError),
}

/// What one partition's part of a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The first offset that the log holds.
    pub start: Offset,
    /// The offset behind the last one to be read.
    pub end: Offset,
    /// Whether the group has no position yet, so that the end becomes it.
    pub sets_position: bool,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Records read.
    pub records: u64,
    /// Records to be read.
    pub of: u64,
    /// Rows stored.
    pub rows: u64,
    /// Partitions done.
    pub partitions_done: u32,
    /// All partitions.
    pub partitions: u32,
    /// Since reading began.
    pub elapsed: Duration,
}

/// What a replay came to.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Records read.
    pub records: u64,
    /// Rows stored.
    pub rows: u64,
    /// Copies of scans that were left out.
    pub duplicates: u64,
    /// Records that are dead letters.
    pub dead_letters: u64,
    /// Dead letters that had to be written, because there were none.
    pub dead_letters_written: u64,
    /// Changes of facts stored.
    pub fact_changes: u64,
    /// Rollup slices proven, of one rollup each.
    pub slices: usize,
    /// How long reading and storing took.
    pub building: Duration,
    /// How long the proof took.
    pub proving: Duration,
}

/// Replays the log into the database of `live`.
pub async fn run(
    log: &SharedLog,
    live: &Store,
    fingerprint: [u8; 8],
    options: &ReplayOptions,
    report: impl FnMut(&Progress) + Send,
) -> Result<Report, ReplayError> {
    let live = &live.clone().with_timeout(STATEMENT_TIMEOUT);
    let fence = Fence::take(log, options.fence_patience).await?;
    schema::migrate(live).await?;
    schema::check_fingerprint(live, fingerprint).await?;
    let shares = shares(log).await?;
    if !options.forget_older {
        refuse_to_forget(log, live, &shares).await?;
    }
    let dissolved = dissolved::read(log).await?;
    if let Some(error) = dissolved.newer {
        return Err(ReplayError::NewerVersion {
            topic: registry::TOPIC,
            partition: 0,
            offset: dissolved.next,
            error,
        });
    }
    let built = replacement::begin(live).await?;
    schema::check_fingerprint(&built, fingerprint).await?;
    names::write_divisions(&built).await?;
    names::write_sites(log, &built, &dissolved.grids).await?;
    let facts = fact_history::rebuild(log, &built).await?;
    let mut builder = Builder::new(log, &built, &dissolved.grids, options).await?;
    let building = builder.build(&shares, report).await?;
    let began = Instant::now();
    let slices = prove(&built, builder.rows()).await?;
    let proving = began.elapsed();
    copy_completeness(live, &built).await?;
    // An aggregator that was held up since before this replay inserts nothing into the tables that take the live ones' place.
    for partition in shares.keys() {
        ownership::claim(&built, *partition).await?;
    }
    let mut consumer = fence.end().await?;
    replacement::swap(live, &built).await?;
    for (partition, share) in shares.iter().filter(|(_, share)| share.sets_position) {
        consumer.commit(*partition, settled(share.end)).await?;
    }
    let began = Instant::now();
    while let Err(error) = facts.set_positions(log).await {
        let may_leave = matches!(error, LogError::GroupInUse(_)) || error.is_retryable();
        if !may_leave || began.elapsed() > options.fence_patience {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(Report {
        fact_changes: facts.rows,
        slices,
        building,
        proving,
        ..builder.report()
    })
}

/// What is to be read of each partition: up to where the aggregator goes on.
async fn shares(log: &SharedLog) -> Result<BTreeMap<Partition, Share>, LogError> {
    let mut shares = BTreeMap::new();
    for partition in 0..log.partitions(SCANS)? {
        let bounds = log.bounds(SCANS, partition).await?;
        let committed = log.committed(GROUP, SCANS, partition).await?;
        let end = committed.as_ref().map_or(bounds.end, |known| known.offset);
        if end > bounds.end {
            return Err(LogError::OutOfRange {
                topic: SCANS.to_owned(),
                partition,
                offset: end,
                start: bounds.start,
                end: bounds.end,
            });
        }
        let share = Share {
            start: bounds.start,
            end: end.max(bounds.start),
            sets_position: committed.is_none(),
        };
        shares.insert(partition, share);
    }
    Ok(shares)
}

impl From<RebuildError> for ReplayError {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::NewerVersion(partition, offset, error) => Self::NewerVersion {
                topic: fact_history::TOPIC,
                partition,
                offset,
                error,
            },
            RebuildError::Refused(error) => Self::Aggregator(error),
        }
    }
}

/// Refuses where the live database holds rows that the log has let go.
async fn refuse_to_forget(
    log: &SharedLog,
    live: &Store,
    shares: &BTreeMap<Partition, Share>,
) -> Result<(), ReplayError> {
    let scans = shares
        .iter()
        .map(|(partition, share)| (*partition, share.start));
    let mut rows = count_older(live, "scans", scans.collect()).await?;
    let mut facts = Vec::new();
    for partition in 0..log.partitions(fact_history::TOPIC)? {
        let start = log.bounds(fact_history::TOPIC, partition).await?.start;
        facts.push((partition, start));
    }
    rows += count_older(live, "fact_history FINAL", facts).await?;
    if rows > 0 {
        return Err(ReplayError::OlderThanLog { rows });
    }
    Ok(())
}

/// Rows of a table below where the log's partitions start.
async fn count_older(
    live: &Store,
    table: &str,
    starts: Vec<(Partition, Offset)>,
) -> Result<u64, StoreError> {
    #[derive(Deserialize)]
    struct Count {
        rows: u64,
    }
    let started = starts.into_iter().filter(|(_, start)| *start > 0);
    let older: Vec<String> = started
        .map(|(partition, start)| format!("log_partition = {partition} AND log_offset < {start}"))
        .collect();
    if older.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "SELECT count() AS rows FROM {table} WHERE {}",
        older.join(" OR ")
    );
    let Count { rows } = live.row(&sql, &[]).await?;
    Ok(rows)
}

/// Proves every slice of every rollup, and the number of raw rows; answers how many were compared.
async fn prove(built: &Store, expected: u64) -> Result<usize, ReplayError> {
    #[derive(Deserialize)]
    struct Count {
        rows: u64,
    }
    let Count { rows } = built.row("SELECT count() AS rows FROM scans", &[]).await?;
    if rows != expected {
        let found = format!("{expected} scans were sent, {rows} are there");
        return Err(ReplayError::NotProven(found));
    }
    let all = slices::all_slices(built).await?;
    let differing: Vec<(String, Slice)> = slices::find_differences(built, &all).await?;
    if let Some((table, slice)) = differing.first() {
        let found = format!(
            "{} slices differ, such as {table} {slice:?}",
            differing.len()
        );
        return Err(ReplayError::NotProven(found));
    }
    Ok(all.len())
}

/// What the live database was complete up to, the built one is too: it was read at least as far.
async fn copy_completeness(live: &Store, built: &Store) -> Result<(), StoreError> {
    let (from, to) = (live.database(), built.database());
    built
        .execute(&format!(
            "INSERT INTO `{to}`.completeness SELECT * FROM `{from}`.completeness"
        ))
        .await
}
