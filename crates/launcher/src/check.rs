//! `tongxing check`: every rollup against the raw scans.

use anyhow::{Result, bail};
use warehouse::slices;

use crate::cli::StoreOptions;
use crate::stores::store_of;

/// Compares every slice; fails where any differs.
pub async fn run(options: StoreOptions) -> Result<()> {
    let store = store_of(options)?;
    let slices = slices::all_slices(&store).await?;
    let differing = slices::find_differences(&store, &slices).await?;
    println!(
        "{} slices compared in every rollup, {} differ",
        slices.len(),
        differing.len()
    );
    for (table, slice) in &differing {
        println!(
            "  {table}: log partition {}, week of day {}",
            slice.log_partition, slice.monday
        );
    }
    if !differing.is_empty() {
        bail!("rollups differ from the raw scans");
    }
    Ok(())
}
