//! Keeps the names of sites and divisions beside the figures, for people who read dashboards.
//!
//! Both tables are functions of what they are made from: writing a row twice changes nothing, so no position is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use event_log::{SharedLog, StoredRecord};
use registry::Site;
use registry::command::{Body, Command};
use scan_model::{SiteId, SiteKind, codec, division};
use serde::Deserialize;
use warehouse::{Store, StoreError, erasure};

use crate::dissolved;
use crate::pipeline::AggregatorError;

/// Rows of one statement.
const CHUNK: usize = 500;

/// Fills the divisions where they differ from the data file.
pub async fn write_divisions(store: &Store) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Count {
        rows: usize,
    }
    let all = division::all();
    let count: Count = store
        .row("SELECT uniqExact(code) AS rows FROM divisions", &[])
        .await?;
    if count.rows == all.len() {
        return Ok(());
    }
    for chunk in all.chunks(CHUNK) {
        let rows: Vec<String> = chunk
            .iter()
            .map(|d| {
                let level = format!("{:?}", d.level).to_lowercase();
                format!(
                    "({},'{level}',{},{},{})",
                    d.code,
                    d.parent,
                    quote(d.name),
                    quote(d.name_latin)
                )
            })
            .collect();
        store
            .execute(&format!("INSERT INTO divisions VALUES {}", rows.join(",")))
            .await?;
    }
    Ok(())
}

/// Follows the registry and writes each site's name; ends with an error only.
pub async fn follow_sites(log: SharedLog, store: Store) -> Result<(), AggregatorError> {
    // A dissolved grid's name does not come back for the moment between its import and its dissolution.
    let dissolved = dissolved::read(&log).await?.grids;
    let start = log.bounds(registry::TOPIC, 0).await?.start;
    let mut reader = log.read(registry::TOPIC, 0, start).await?;
    loop {
        for record in reader.next(1 << 20, Duration::from_secs(60)).await? {
            while let Err(error) = write_names(&store, &record, &dissolved).await {
                if !error.is_retryable() {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Writes the name of every site that the registry holds now.
pub async fn write_sites(
    log: &SharedLog,
    store: &Store,
    dissolved: &BTreeSet<SiteId>,
) -> Result<(), AggregatorError> {
    let bounds = log.bounds(registry::TOPIC, 0).await?;
    let mut reader = log.read(registry::TOPIC, 0, bounds.start).await?;
    while reader.position() < bounds.end {
        for record in reader.next(1 << 20, Duration::from_secs(1)).await? {
            write_names(store, &record, dissolved).await?;
        }
    }
    Ok(())
}

/// Writes what one command says of names; `dissolved` grids have none.
async fn write_names(
    store: &Store,
    record: &StoredRecord,
    dissolved: &BTreeSet<SiteId>,
) -> Result<(), StoreError> {
    let value = record.record.value.as_deref();
    let Some(Ok(command)) = value.map(codec::decode::<Command>) else {
        return Ok(());
    };
    let sites = match command.body {
        Body::ImportSites(sites) => sites,
        Body::DissolveGrid(grid) => return erasure::erase_name(store, grid).await,
    };
    let is_named =
        |site: &&Site| site.site.kind != SiteKind::Grid || !dissolved.contains(&site.site.id);
    let rows: Vec<String> = sites
        .iter()
        .filter(is_named)
        .map(|site| {
            let (kind, id) = (site.site.kind.name(), site.site.id.0);
            let (name, region, kind_of) = (quote(&site.name), site.region, site.venue_type.name());
            format!(
                "('{kind}',{id},{name},{region},'{kind_of}',{})",
                record.offset
            )
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let insert = format!("INSERT INTO sites VALUES {}", rows.join(","));
    store.execute(&insert).await
}

/// A string literal of ClickHouse.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
