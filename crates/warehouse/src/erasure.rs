//! Erases the history of dissolved grids (G5): a visit stays its resident's own record, and nothing of it leads to the grid.
//!
//! The place of a row is part of its table's key, so no row is changed where it is: the slice is written anew beside the
//! table and swapped in, in one step, and the rollups are rebuilt from it. Whoever stops half-way has erased less, never
//! something else: erasing again ends well.
//!
//! The staging table takes rows under the owner's claim alone, as raw does, and a newer claim drops it. So a former owner that
//! was held up, whenever that was, has nothing to swap in over what the new owner has inserted since.

use std::collections::BTreeSet;

use scan_model::{Scan, SiteId, SiteKind};
use serde::Deserialize;

use crate::ownership::Epoch;
use crate::slices::{self, Slice};
use crate::store::{Store, StoreError};

/// What [`forget_grid`] does to a scan, to the rows of a grid.
const FORGOTTEN: &str = "
    'none' AS site_kind, toUInt32(0) AS site, toUInt16(0) AS checkpoint, toUInt32(0) AS region, toUInt64(0) AS operator";

/// Whether a scan belongs to the history of a dissolved grid.
pub fn is_erased(scan: &Scan, dissolved: &BTreeSet<SiteId>) -> bool {
    let is_dissolved =
        |site: scan_model::SiteRef| site.kind == SiteKind::Grid && dissolved.contains(&site.id);
    scan.site.is_some_and(is_dissolved)
}

/// Takes from a scan whatever leads to its grid: the grid, its division, the door and the worker.
pub fn forget_grid(scan: &mut Scan) {
    scan.site = None;
    scan.checkpoint = 0;
    scan.region = 0;
    scan.operator = 0;
}

fn staging_of(log_partition: u32) -> String {
    format!("scans_erasing_{log_partition}")
}

/// Drops what a rewriting of a log partition has staged.
pub(crate) async fn drop_staging(store: &Store, log_partition: u32) -> Result<(), StoreError> {
    let staging = staging_of(log_partition);
    store
        .execute(&format!("DROP TABLE IF EXISTS {staging} SYNC"))
        .await
}

/// Erases the history of grids from one log partition; answers how many slices held any.
///
/// The caller owns the log partition under a claim: nothing is written to it meanwhile.
pub async fn erase_grids(
    store: &Store,
    log_partition: u32,
    epoch: Epoch,
    dissolved: &BTreeSet<SiteId>,
) -> Result<usize, StoreError> {
    if dissolved.is_empty() {
        return Ok(0);
    }
    if store.topology().cluster().is_some() {
        tracing::error!(
            log_partition,
            "what was stored before a grid was dissolved is not erased on a cluster of ClickHouse servers"
        );
        return Ok(0);
    }
    let ids: Vec<_> = dissolved.iter().map(|grid| grid.0.to_string()).collect();
    let of_grids = format!("site_kind = 'grid' AND site IN ({})", ids.join(", "));
    let raw = format!(
        "SELECT DISTINCT log_partition, toInt32(toMonday(toDate(event_time))) AS monday
         FROM scans WHERE {of_grids} AND log_partition = {log_partition}"
    );
    let rollup = format!(
        "SELECT DISTINCT log_partition, toInt32(toMonday(day)) AS monday
         FROM grid_day WHERE grid IN ({}) AND log_partition = {log_partition}",
        ids.join(", ")
    );
    let in_raw: BTreeSet<Slice> = store.rows(&raw, &[]).await?.into_iter().collect();
    let in_rollup: Vec<Slice> = store.rows(&rollup, &[]).await?;
    for slice in &in_raw {
        rewrite(store, *slice, epoch, &of_grids).await?;
    }
    let mut touched = in_raw;
    touched.extend(in_rollup);
    if !touched.is_empty() {
        slices::prove_and_repair(store, &touched).await?;
        tracing::info!(
            log_partition,
            slices = touched.len(),
            "the history of dissolved grids was erased"
        );
    }
    Ok(touched.len())
}

#[derive(Deserialize)]
struct Whole {
    is_whole: u8,
}

/// Writes a slice of raw anew without what leads to the grids.
async fn rewrite(
    store: &Store,
    slice: Slice,
    epoch: Epoch,
    of_grids: &str,
) -> Result<(), StoreError> {
    let staging = staging_of(slice.log_partition);
    let partition = slice.partition_expression();
    drop_staging(store, slice.log_partition).await?;
    // With the constraint of raw.
    store
        .execute(&format!("CREATE TABLE {staging} AS scans"))
        .await?;
    for (replaced, condition) in [
        (String::new(), format!("NOT ({of_grids})")),
        (format!("REPLACE ({FORGOTTEN})"), of_grids.to_owned()),
    ] {
        // The condition stands inside, where its names are the table's and not the replacements'.
        store
            .execute(&format!(
                "INSERT INTO {staging} SETTINGS log_comment = '{epoch}' SELECT * {replaced} FROM
                 (SELECT * FROM scans WHERE _partition_value = {partition} AND {condition})"
            ))
            .await?;
    }
    let of_slice = format!("(SELECT count() FROM scans WHERE _partition_value = {partition})");
    let Whole { is_whole } = store
        .row(
            &format!("SELECT (SELECT count() FROM {staging}) = {of_slice} AS is_whole"),
            &[],
        )
        .await?;
    if is_whole == 0 {
        let found = format!("{staging} does not have every row of {slice:?}");
        return Err(StoreError::Answer(found));
    }
    store
        .execute(&format!(
            "ALTER TABLE scans REPLACE PARTITION {partition} FROM {staging}"
        ))
        .await?;
    store.execute(&format!("DROP TABLE {staging} SYNC")).await
}

/// Takes the name of a dissolved grid out of the names.
pub async fn erase_name(store: &Store, grid: SiteId) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Count {
        rows: u64,
    }
    let of_grid = format!("site_kind = 'grid' AND site = {}", grid.0);
    let count: Count = store
        .row(
            &format!("SELECT count() AS rows FROM sites WHERE {of_grid}"),
            &[],
        )
        .await?;
    if count.rows == 0 {
        return Ok(());
    }
    store
        .execute(&format!(
            "ALTER TABLE sites DELETE WHERE {of_grid} SETTINGS mutations_sync = 2"
        ))
        .await
}
