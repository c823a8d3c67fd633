//! Keeps the names of sites and divisions beside the figures, for people who read dashboards.
//!
//! Both tables are functions of what they are made from: writing a row twice changes nothing, so no position is kept.

use std::time::Duration;

use event_log::SharedLog;
use registry::command::{Body, Command};
use scan_model::{codec, division};
use serde::Deserialize;
use warehouse::{Store, StoreError};

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
    let start = log.bounds(registry::TOPIC, 0).await?.start;
    let mut reader = log.read(registry::TOPIC, 0, start).await?;
    loop {
        let records = reader.next(1 << 20, Duration::from_secs(60)).await?;
        for record in records {
            let Some(value) = record.record.value else {
                continue;
            };
            let Ok(command) = codec::decode::<Command>(&value) else {
                continue;
            };
            let Body::ImportSites(sites) = command.body;
            let rows: Vec<String> = sites
                .iter()
                .map(|site| {
                    let (kind, id) = (site.site.kind.name(), site.site.id.0);
                    let (name, region, kind_of) =
                        (quote(&site.name), site.region, site.venue_type.name());
                    format!(
                        "('{kind}',{id},{name},{region},'{kind_of}',{})",
                        record.offset
                    )
                })
                .collect();
            let insert = format!("INSERT INTO sites VALUES {}", rows.join(","));
            while let Err(error) = store.execute(&insert).await {
                if !error.is_retryable() {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// A string literal of ClickHouse.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
