//! Settles what an unclean stop left open: which rows of a range are in raw, what is missing, which rollup slices differ.

use std::collections::{BTreeSet, HashSet};

use bytes::Buf;
use event_log::{Offset, Partition};
use scan_model::{PersonId, ScanId, Timestamp};
use serde::Deserialize;
pub use warehouse::boot_marks::BootMark;
use warehouse::ownership::Epoch;
use warehouse::slices::{self, Slice};
use warehouse::{Store, StoreError};

use crate::sealed::SealedBatch;
use crate::window::{CLOCK_SKEW_MS, UNKNOWN_DIGEST, Window};

#[derive(Deserialize)]
struct OffsetRow {
    log_offset: Offset,
}

/// The offsets of a range that raw holds.
pub async fn offsets_in_raw(
    store: &Store,
    partition: Partition,
    first: Offset,
    next: Offset,
) -> Result<HashSet<Offset>, StoreError> {
    let rows: Vec<OffsetRow> = store
        .rows(
            "SELECT log_offset FROM scans
             WHERE log_partition = {partition:UInt16}
               AND log_offset >= {first:UInt64} AND log_offset < {next:UInt64}",
            &[
                ("partition", partition.to_string()),
                ("first", first.to_string()),
                ("next", next.to_string()),
            ],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.log_offset).collect())
}

/// The largest offset of a partition that raw holds from an offset on. Rows below it are not looked at: their parts' ranges of
/// offsets tell them apart.
pub async fn newest_offset_in_raw(
    store: &Store,
    partition: Partition,
    from: Offset,
) -> Result<Option<Offset>, StoreError> {
    let rows: Vec<OffsetRow> = store
        .rows(
            "SELECT max(scans.log_offset) AS log_offset FROM scans
             WHERE log_partition = {partition:UInt16} AND scans.log_offset >= {from:UInt64} HAVING count() > 0",
            &[
                ("partition", partition.to_string()),
                ("from", from.to_string()),
            ],
        )
        .await?;
    Ok(rows.first().map(|row| row.log_offset))
}

/// Sends what raw lacks of a batch, under a claim. The slices are then proven by [`prove`].
pub async fn complete(
    store: &Store,
    batch: &SealedBatch,
    epoch: Epoch,
) -> Result<usize, StoreError> {
    let present = offsets_in_raw(store, batch.partition, batch.first, batch.next).await?;
    let missing = batch
        .offsets()
        .filter(|offset| !present.contains(offset))
        .count();
    if missing > 0 {
        let rows = batch.rows_without(&present);
        let statement = warehouse::scan_rows::insert_statement(batch.partition, epoch);
        store.insert(&statement, rows).await?;
    }
    Ok(missing)
}

/// Sends what raw lacks of a batch in ever smaller parts; answers the offsets of the rows that the store refuses for what
/// they are.
pub(crate) async fn insert_bisected(
    store: &Store,
    batch: &SealedBatch,
    epoch: Epoch,
) -> Result<HashSet<Offset>, StoreError> {
    let mut refused = HashSet::new();
    let present = offsets_in_raw(store, batch.partition, batch.first, batch.next).await?;
    let statement = warehouse::scan_rows::insert_statement(batch.partition, epoch);
    let mut ranges = vec![(0, batch.len())];
    while let Some((from, to)) = ranges.pop() {
        if (from..to).all(|row| present.contains(&batch.offset_of(row))) {
            continue;
        }
        match store.insert(&statement, batch.rows_between(from, to)).await {
            Ok(()) => {}
            Err(StoreError::DataRefused(_)) if to - from > 1 => {
                let middle = from.midpoint(to);
                ranges.push((middle, to));
                ranges.push((from, middle));
            }
            Err(StoreError::DataRefused(_)) => {
                refused.insert(batch.offset_of(from));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

/// Proves the slices against raw and rebuilds those that differ; answers how many were rebuilt.
pub async fn prove(store: &Store, slices: &BTreeSet<Slice>) -> Result<usize, StoreError> {
    let proof = slices::prove_and_repair(store, slices).await?;
    tracing::info!(
        proven = proof.proven,
        rebuilt = proof.rebuilt.len(),
        "rollup slices proven"
    );
    Ok(proof.rebuilt.len())
}

/// The window of a partition, from raw rows below an offset. Only rows of the newest `capacity` offsets can be in it, so only
/// parts that hold such offsets are read.
pub async fn rebuild_window(
    store: &Store,
    partition: Partition,
    below: Offset,
    length_ms: i64,
    capacity: usize,
) -> Result<Window, StoreError> {
    let sql = "
        WITH (SELECT max(appended_at) FROM scans WHERE log_partition = {partition:UInt16}
              AND log_offset >= {from:UInt64} AND log_offset < {below:UInt64}) AS newest
        SELECT person, toUInt128(scan_id), toUnixTimestamp64Milli(appended_at) FROM scans
        WHERE log_partition = {partition:UInt16} AND log_offset >= {from:UInt64} AND log_offset < {below:UInt64}
          AND appended_at >= newest - toIntervalMillisecond({length:UInt64})
        ORDER BY log_offset DESC LIMIT {capacity:UInt64}";
    let from = below.saturating_sub(capacity as u64);
    let parameters = [
        ("partition", partition.to_string()),
        ("from", from.to_string()),
        ("below", below.to_string()),
        ("length", length_ms.to_string()),
        ("capacity", capacity.to_string()),
    ];
    // Up to a million rows: 32 bytes each, and no copy of them.
    let answer = store.read(sql, &parameters, "RowBinary").await?;
    let rows = answer.as_chunks::<32>().0;
    let row = |bytes: &[u8; 32]| {
        let mut bytes = bytes.as_slice();
        let (person, scan) = (bytes.get_u64_le(), bytes.get_u128_le());
        (
            PersonId(person),
            ScanId(scan),
            Timestamp(bytes.get_i64_le()),
        )
    };
    let is_cut = from > 0 || rows.len() == capacity;
    // With nothing in raw below the offset, nothing was ever seen.
    let complete_since = match (rows.last().map(row), rows.first().map(row)) {
        (Some((_, _, oldest)), _) if is_cut => oldest.plus_ms(1),
        (Some(_), Some((_, _, newest))) => newest.plus_ms(-length_ms),
        // With nothing among the newest offsets, raw is asked for every id made until now.
        _ if from > 0 => Timestamp::now(),
        _ => Timestamp(0),
    };
    let mut window = Window::new(length_ms, capacity, complete_since);
    for (person, scan, appended_at) in rows.iter().rev().map(row) {
        window.remember(person, scan, UNKNOWN_DIGEST, appended_at);
    }
    Ok(window)
}

/// Ids of one statement: at one false positive in ten thousand, a twentieth of the granules are read (docs/decisions/0007).
const IDS_A_STATEMENT: usize = 500;

/// Which of these scans raw holds at a lower offset of the partition. An id was appended after it was made, but for the
/// clocks' difference, so raw is read from there on.
pub async fn seen_in_raw(
    store: &Store,
    partition: Partition,
    below: Offset,
    scans: &[(PersonId, ScanId)],
) -> Result<HashSet<(PersonId, ScanId)>, StoreError> {
    #[derive(Deserialize)]
    struct Row {
        person: u64,
        scan_id: uuid::Uuid,
    }
    let mut scans = scans.to_vec();
    scans.sort_unstable_by_key(|(_, scan)| *scan);
    let mut seen = HashSet::new();
    for chunk in scans.chunks(IDS_A_STATEMENT) {
        let ids: Vec<String> = chunk.iter().map(|(_, scan)| format!("'{scan}'")).collect();
        // Ingest's clock and the log's may both be off.
        let since = chunk.first().map_or(0, |(_, oldest)| {
            (oldest.made_at().0 - 2 * CLOCK_SKEW_MS).max(0)
        });
        let sql = format!(
            "SELECT person, scan_id FROM scans
             WHERE log_partition = {partition} AND log_offset < {below}
               AND appended_at >= fromUnixTimestamp64Milli(toInt64({since})) AND scan_id IN ({})",
            ids.join(",")
        );
        let rows: Vec<Row> = store.rows(&sql, &[]).await?;
        seen.extend(
            rows.into_iter()
                .map(|r| (PersonId(r.person), ScanId(r.scan_id.as_u128()))),
        );
    }
    Ok(seen)
}
