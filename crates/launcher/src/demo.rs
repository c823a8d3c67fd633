//! `tongxing demo`: the local deployment with a simulated day.
//!
//! Everything arrives over HTTP, as clients would send it, and is marked synthetic (X11): first the day up to now, then live
//! traffic at a steady pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use loadtest::client::{Client, Endpoint};
use loadtest::generator::{self, Live, LoadPlan};
use loadtest::profile::Profile;
use loadtest::setup::{self, Setting};
use loadtest::traffic::Traffic;
use scan_model::Timestamp;
use serde_json::Value;

use crate::cli::DemoOptions;
use crate::config::LocalConfig;
use crate::local::Deployment;
use crate::{keys, stopping};
use http_service::RenderMetrics;

/// Scans of the day up to now, for each person.
const SCANS_PER_PERSON: f64 = 1.2;
/// Scans of one batch.
const BATCH: usize = 1000;
/// Live load is planned in stretches of this length.
const STRETCH: Duration = Duration::from_secs(10);

/// Runs the demonstration until a signal.
pub async fn run(options: DemoOptions, metrics: RenderMetrics) -> Result<()> {
    let started = Instant::now();
    if !(100..=1_000_000).contains(&options.people) {
        bail!(
            "people must lie between 100 and 1000000, not {}",
            options.people
        );
    }
    let config = LocalConfig::resolve(options.local.clone())?;
    println!("starting in {} …", config.data.display());
    let deployment = Deployment::start(config.clone(), metrics).await?;
    // The simulated traffic is synthetic, which the console shows only when asked.
    println!("console     http://{}/?traffic=1", config.query_listen);
    println!(
        "ingest      http://{}   (secrets in {}/keys/api-secrets)",
        config.ingest_listen,
        config.data.display()
    );
    println!("clickhouse  http://{}", config.clickhouse_listen);
    let outcome = tokio::select! {
        outcome = show(&options, &config, started) => outcome,
        () = stopping::requested() => Ok(()),
    };
    println!("\ndraining…");
    deployment.stop().await?;
    println!("stopped; the data stays in {}", config.data.display());
    outcome
}

async fn show(options: &DemoOptions, config: &LocalConfig, started: Instant) -> Result<()> {
    let secrets = config.data.join("keys/api-secrets");
    let feed_secret = keys::read_secret(&secrets.join("synthetic-feed"))?;
    let load_secret = keys::read_secret(&secrets.join("synthetic-load"))?;
    let ingest = Endpoint::parse(&format!("http://{}", config.ingest_listen))?;
    let profile = Profile::guangdong_weekday()?;
    let mut feed = Client::new(ingest.clone(), feed_secret);
    let setting = setup::set_up(
        &mut feed,
        options.seed,
        &profile,
        options.people,
        |_, _, _| {},
    )
    .await?;
    println!(
        "{} people ({} red), {} venues, {} grids in real townships; enrolled over HTTP",
        setting.persons.len(),
        setting.red,
        setting.world.venues.len(),
        setting.world.grids.len()
    );
    let sent = fill_day(options, &profile, &setting, &ingest, &load_secret).await?;
    println!(
        "{sent} scans of today up to now sent; the console has a chart after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "live: {} lookups/s and {} check-ins/s; Ctrl-C drains and stops",
        options.lookups, options.check_ins
    );
    live(
        options,
        config,
        &profile,
        setting,
        &ingest,
        &load_secret,
        started,
    )
    .await
}

/// Sends the day up to now, unless an earlier run of today has.
async fn fill_day(
    options: &DemoOptions,
    profile: &Profile,
    setting: &Setting,
    ingest: &Endpoint,
    secret: &str,
) -> Result<usize> {
    let now = Timestamp::now();
    let seed = options.seed ^ now.0 as u64;
    let mut traffic = Traffic::new(seed, profile.clone(), &setting.world, setting.codes.clone())?;
    let wanted = (f64::from(options.people) * SCANS_PER_PERSON) as usize;
    // The whole day's scans are drawn; those that lie ahead are not sent.
    let scans: Vec<String> = (0..wanted)
        .filter_map(|_| traffic.draw_today(now))
        .map(|scan| scan.body)
        .collect();
    let mut client = Client::new(ingest.clone(), secret.to_owned());
    let mut sent = 0;
    for batch in scans.chunks(BATCH) {
        let answer = client
            .post("/v1/scans", "application/x-ndjson", batch.join("\n").into())
            .await
            .context("POST /v1/scans")?;
        if answer.status != 200 {
            bail!(
                "POST /v1/scans answered {}: {}",
                answer.status,
                answer.text()
            );
        }
        sent += batch.len();
    }
    Ok(sent)
}

/// Sends live traffic in stretches, and shows figures.
async fn live(
    options: &DemoOptions,
    config: &LocalConfig,
    profile: &Profile,
    setting: Setting,
    ingest: &Endpoint,
    secret: &str,
    started: Instant,
) -> Result<()> {
    let counters = Arc::new(Live::default());
    let until = options
        .seconds
        .map(|seconds| started + Duration::from_secs(seconds));
    let figures = tokio::spawn(show_figures(Arc::clone(&counters), config.clone()));
    let mut stretch = 0_u64;
    loop {
        let left = until.map_or(STRETCH, |until| {
            until.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            figures.abort();
            return Ok(());
        }
        stretch += 1;
        let seed = options.seed ^ Timestamp::now().0 as u64 ^ stretch;
        let traffic = Traffic::new(seed, profile.clone(), &setting.world, setting.codes.clone())?;
        let plan = LoadPlan {
            lookups_per_second: options.lookups,
            check_ins_per_second: options.check_ins,
            duration: left.min(STRETCH),
            connections: 16,
            lookups_at: None,
        };
        generator::run(&plan, ingest, secret, traffic, &counters).await?;
    }
}

/// Prints live figures once a second on one line.
async fn show_figures(live: Arc<Live>, config: LocalConfig) {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut last = (read(&live.lookups), read(&live.check_ins));
    let Ok(store) = Endpoint::parse(&format!("http://{}", config.clickhouse_listen)) else {
        return;
    };
    let Ok(query) = Endpoint::parse(&format!("http://{}", config.query_listen)) else {
        return;
    };
    let mut store = Client::new(store, String::new());
    let mut query = Client::new(query, String::new());
    let count = format!(
        "/?query=SELECT%20count()%20FROM%20{}.scans",
        config.clickhouse_database
    );
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = (read(&live.lookups), read(&live.check_ins));
        let rows = store
            .get(&count)
            .await
            .map(|a| a.text().trim().to_owned())
            .unwrap_or_default();
        let complete = query.get("/v1/freshness").await.ok().and_then(|answer| {
            let answer: Value = serde_json::from_slice(&answer.body).ok()?;
            Timestamp::parse_rfc3339(answer["complete_up_to"].as_str()?).ok()
        });
        let freshness = complete.map_or_else(
            || String::from("unknown"),
            |complete| {
                format!(
                    "{:.1} s",
                    (Timestamp::now().0 - complete.0).max(0) as f64 / 1000.0
                )
            },
        );
        print!(
            "\r{:>6} lookups/s  {:>5} check-ins/s  {rows:>9} rows in the store  freshness {freshness}  failures {}   ",
            now.0 - last.0,
            now.1 - last.1,
            read(&live.failures),
        );
        let _ = std::io::Write::flush(&mut std::io::stdout());
        last = now;
    }
}
