//! Asks the query API and compares with what was acknowledged: nothing missing, nothing counted twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use scan_model::time::DAY_MS;
use scan_model::{ScanKind, Timestamp};
use serde_json::Value;

use crate::client::{Client, Endpoint};
use crate::traffic::CountedScan;

/// Registrations and refusals by venue and hour.
pub type Counts = BTreeMap<(u32, i64), (u64, u64)>;

/// What acknowledged scans should come to. A red code's refused quick check-in (403) is a refusal, not a registration; a
/// screened red code is refused at the gate, which the answer's disposition says.
pub fn expected(acknowledged: &[CountedScan]) -> Counts {
    let mut counts = Counts::new();
    for scan in acknowledged {
        let Some(venue) = scan.venue.filter(|_| scan.kind != ScanKind::Display) else {
            continue;
        };
        let hour = scan.time.hour_start().0;
        counts.entry((venue, hour)).or_default().0 += 1;
    }
    counts
}

/// What the query API says, for the venues and hours of some counts: registrations and refusals.
pub async fn counted(query: &Endpoint, keys: &Counts) -> Result<Counts> {
    let mut client = Client::new(query.clone(), String::new());
    let mut counts = Counts::new();
    let venues: std::collections::BTreeSet<u32> = keys.keys().map(|(venue, _)| *venue).collect();
    for venue in venues {
        let hours: Vec<i64> = keys
            .keys()
            .filter(|(v, _)| *v == venue)
            .map(|(_, hour)| *hour)
            .collect();
        let (Some(first), Some(last)) = (hours.first(), hours.last()) else {
            continue;
        };
        let from = Timestamp(*first).day_start();
        let to = Timestamp(*last).day_start().plus_ms(DAY_MS);
        let path = format!(
            "/v1/venues/{venue}/flow?from={}&to={}&step=hour&traffic=all",
            encode(&from.to_rfc3339()),
            encode(&to.to_rfc3339())
        );
        let answer = client.get(&path).await?;
        if answer.status != 200 {
            bail!("GET {path} answered {}: {}", answer.status, answer.text());
        }
        let answer: Value = serde_json::from_slice(&answer.body)?;
        for bucket in answer["buckets"].as_array().context("buckets")? {
            let start = bucket["start"].as_str().context("start")?;
            let hour = Timestamp::parse_rfc3339(start)?.0;
            let figure = |name: &str| bucket[name].as_u64().unwrap_or(0);
            counts.insert((venue, hour), (figure("registrations"), figure("refusals")));
        }
    }
    Ok(counts)
}

/// Waits until the statistics are complete up to an instant.
pub async fn wait_complete(query: &Endpoint, until: Timestamp, limit: Duration) -> Result<()> {
    let mut client = Client::new(query.clone(), String::new());
    let started = Instant::now();
    loop {
        if let Ok(answer) = client.get("/v1/freshness").await {
            let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let complete = answer["complete_up_to"]
                .as_str()
                .and_then(|t| Timestamp::parse_rfc3339(t).ok());
            if complete.is_some_and(|complete| complete >= until) {
                return Ok(());
            }
        }
        if started.elapsed() > limit {
            bail!(
                "the statistics are not complete up to {until} within {} s",
                limit.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Compares what was added to each venue and hour with what was acknowledged; answers the differences.
pub fn differences(expected: &Counts, before: &Counts, after: &Counts) -> Vec<String> {
    let total = |counts: &Counts, key| {
        let (registrations, refusals) = counts.get(key).copied().unwrap_or_default();
        registrations + refusals
    };
    expected
        .iter()
        .filter_map(|(key, (acknowledged, _))| {
            let added = total(after, key) - total(before, key).min(total(after, key));
            let (venue, hour) = key;
            (added != *acknowledged).then(|| {
                format!(
                    "venue {venue}, hour {}: {acknowledged} acknowledged, {added} counted",
                    Timestamp(*hour)
                )
            })
        })
        .collect()
}

/// A text as part of a query string.
pub fn encode(text: &str) -> String {
    text.replace('+', "%2B").replace(':', "%3A")
}
