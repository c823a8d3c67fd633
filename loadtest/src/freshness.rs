//! How soon an acknowledged scan shows in the query API.
//!
//! Probes are scans of one person at a venue of their own, sent at an even pace beside the load. One reader asks for that
//! venue's registrations again and again; one person's scans are counted in the order they were acknowledged, so the n-th
//! registration is the n-th probe. What is measured reaches from the acknowledgement to the answer that shows it, the reader's
//! pause included.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use scan_model::Timestamp;
use scan_model::time::DAY_MS;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::client::{Client, Endpoint};
use crate::setup;
use crate::verify::encode;

/// The probes' venue: below the synthetic sites, so that nothing else is counted there.
const VENUE: u32 = crate::world::FIRST_ID - 1;
/// Its township: Hongqiao street, Yuexiu, Guangzhou.
const REGION: u32 = 440_104_001;
/// How often the reader asks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the last probes may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Where probes go and are looked for.
#[derive(Clone)]
pub struct Probes {
    /// Ingest.
    pub ingest: Endpoint,
    /// Query.
    pub query: Endpoint,
    /// The secret of a caller who may scan.
    pub secret: String,
    /// The code of the one person.
    pub code: String,
    /// Probes a second.
    pub per_second: u32,
    /// How long.
    pub duration: Duration,
}

/// Makes the probes' venue.
pub async fn set_up(feed: &mut Client) -> Result<()> {
    let venue = json!({ "id": VENUE, "name": "探针", "region": REGION, "venue_type": "office", "synthetic": true });
    setup::import(feed, "/v1/venues:import", &[venue], |_, _| {}).await?;
    Ok(())
}

/// Runs probes; answers the time from acknowledgement to visibility, in milliseconds.
///
/// # Errors
/// Where a probe is refused, or an acknowledged one does not show within two minutes, or more show than were sent.
pub async fn run(probes: Probes) -> Result<Histogram<u64>> {
    let day = Timestamp::now().day_start();
    let mut reader = Client::new(probes.query.clone(), String::new());
    let before = registrations(&mut reader, day).await?;
    let waiting: Arc<Mutex<VecDeque<Instant>>> = Arc::default();
    let sending = tokio::spawn(send(probes.clone(), Arc::clone(&waiting)));
    let mut freshness = Histogram::new_with_bounds(1, 600_000, 3)?;
    let end = Instant::now() + probes.duration + PATIENCE;
    let mut seen = before;
    loop {
        tokio::time::sleep(PAUSE).await;
        let is_sent = sending.is_finished();
        let now_seen = registrations(&mut reader, day).await?;
        let arrived = Instant::now();
        let mut waiting = waiting.lock().await;
        while seen < now_seen {
            // A probe may be counted before its answer is here.
            let Some(acknowledged) = waiting.pop_front() else {
                break;
            };
            seen += 1;
            let age = arrived.saturating_duration_since(acknowledged);
            freshness.saturating_record((age.as_millis() as u64).max(1));
        }
        if is_sent && waiting.is_empty() {
            if seen != now_seen {
                bail!("{} probes are counted twice", now_seen - seen);
            }
            break;
        }
        if arrived > end {
            bail!("{} acknowledged probes do not show", waiting.len());
        }
    }
    sending.await??;
    Ok(freshness)
}

async fn send(probes: Probes, waiting: Arc<Mutex<VecDeque<Instant>>>) -> Result<()> {
    let mut client = Client::new(probes.ingest.clone(), probes.secret.clone());
    let started = Instant::now();
    let interval = Duration::from_secs(1) / probes.per_second.max(1);
    let mut planned = started;
    while planned < started + probes.duration {
        tokio::time::sleep_until(planned.into()).await;
        let now = Timestamp::now();
        let id = crate::traffic::new_id(&mut rand::rng(), now);
        let scan = json!({
            "scan_id": id, "code": probes.code, "kind": "temperature_screening", "venue": VENUE,
            "time": now.to_rfc3339(), "temperature": { "band": "normal" }, "synthetic": true,
        });
        let answer = client
            .post("/v1/scans", "application/json", scan.to_string().into())
            .await?;
        match answer.status {
            201 => waiting.lock().await.push_back(Instant::now()),
            // Shed: not acknowledged, and not to be counted.
            429 | 503 => {}
            status => bail!("a probe was answered {status}: {}", answer.text()),
        }
        planned += interval;
    }
    Ok(())
}

/// Registrations and refusals at the probes' venue since a day's start.
async fn registrations(reader: &mut Client, day: Timestamp) -> Result<u64> {
    let path = format!(
        "/v1/venues/{VENUE}/flow?from={}&to={}&step=day&traffic=all",
        encode(&day.to_rfc3339()),
        encode(&day.plus_ms(2 * DAY_MS).to_rfc3339())
    );
    let answer = reader.get(&path).await?;
    if answer.status != 200 {
        bail!("GET {path} answered {}: {}", answer.status, answer.text());
    }
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let buckets = answer["buckets"].as_array().context("buckets")?;
    let figure = |bucket: &Value, name: &str| bucket[name].as_u64().unwrap_or(0);
    Ok(buckets
        .iter()
        .map(|bucket| figure(bucket, "registrations") + figure(bucket, "refusals"))
        .sum())
}
