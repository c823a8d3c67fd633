//! `tongxing replay`: builds every table anew from the log, beside the live database, and swaps.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aggregator::replay::{self, Progress, ReplayOptions};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use event_log::{LogError, SharedLog};
use warehouse::Store;

use crate::cli::StoreOptions;
use crate::cluster_options::LogOptions;
use crate::config::{LocalConfig, LocalOptions};
use crate::{cluster, keys, local, stores};

/// How often progress is printed where it does not stay on one line.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Which deployment is replayed.
#[derive(Subcommand)]
pub enum Deployment {
    /// The local deployment, while `tongxing up` is stopped. Starts the embedded engine itself.
    Local(LocalReplayOptions),
    /// A cluster, while its aggregators are stopped. Ingest and query go on.
    Cluster(ClusterReplayOptions),
}

/// Options of both.
#[derive(Args)]
pub struct Choices {
    /// Let scans go that the live database holds and the log no longer does.
    #[arg(long)]
    pub forget_older: bool,
    /// How many seconds to wait for aggregators to leave their group, 1 to 600; a killed one leaves with its session.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub wait_seconds: u64,
}

/// Options of `replay local`: those of `up`.
#[derive(Args)]
pub struct LocalReplayOptions {
    #[command(flatten)]
    pub local: LocalOptions,
    #[command(flatten)]
    pub choices: Choices,
}

/// Options of `replay cluster`: where Kafka and ClickHouse are.
#[derive(Args)]
pub struct ClusterReplayOptions {
    #[command(flatten)]
    pub log: LogOptions,
    #[command(flatten)]
    pub store: StoreOptions,
    /// The folder of keys: the person key's fingerprint must be the database's.
    #[arg(long, env = "TONGXING_KEYS", default_value = "data/keys")]
    pub keys: PathBuf,
    #[command(flatten)]
    pub choices: Choices,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs `tongxing replay`.
pub async fn run(deployment: Deployment) -> Result<()> {
    match deployment {
        Deployment::Local(options) => in_place(options).await,
        Deployment::Cluster(options) => on_cluster(options).await,
    }
}

async fn in_place(options: LocalReplayOptions) -> Result<()> {
    let config = LocalConfig::resolve(options.local)?;
    let fingerprint = keys::read(&config.data.join("keys"))?.person.fingerprint();
    let opened = local::open_log(&config).await;
    let log = opened.map_err(|error| match error.downcast_ref::<LogError>() {
        Some(LogError::Locked(_)) => error.context("stop `tongxing up` first"),
        _ => error,
    })?;
    let engine = local::start_engine(&config).await?;
    let store = Store::new(&local::store_config(&config)?);
    let outcome = async {
        stores::wait_for(&store).await?;
        replay(&log, &store, fingerprint, &options.choices).await
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome,
        () = crate::stopping::requested() => Err(anyhow::anyhow!("interrupted; replay again")),
    };
    if let Some(engine) = engine {
        engine.stop().await;
    }
    outcome
}

async fn on_cluster(options: ClusterReplayOptions) -> Result<()> {
    let fingerprint = keys::read(&options.keys)?.person.fingerprint();
    let store = stores::store_of(options.store)?;
    let log = cluster::open_log(&options.log, "tongxing-replay").await?;
    stores::wait_for(&store).await?;
    replay(&log, &store, fingerprint, &options.choices).await
}

async fn replay(
    log: &SharedLog,
    store: &Store,
    fingerprint: [u8; 8],
    choices: &Choices,
) -> Result<()> {
    let options = ReplayOptions {
        forget_older: choices.forget_older,
        fence_patience: Duration::from_secs(choices.wait_seconds),
        ..ReplayOptions::default()
    };
    let report = replay::run(log, store, fingerprint, &options, printer())
        .await
        .context("replay")?;
    let seconds = report.building.as_secs_f64();
    println!(
        "{} records read, {} rows stored in {seconds:.1} s ({:.0} records/s); {} duplicates, {} dead letters ({} written now)",
        report.records,
        report.rows,
        report.records as f64 / seconds.max(0.001),
        report.duplicates,
        report.dead_letters,
        report.dead_letters_written,
    );
    println!("{} changes of facts stored", report.fact_changes);
    println!(
        "{} slices proven in every rollup in {:.1} s; the built tables are live",
        report.slices,
        report.proving.as_secs_f64()
    );
    Ok(())
}

/// Prints how far it is: on one line of a terminal, now and then a line elsewhere.
fn printer() -> impl FnMut(&Progress) + Send {
    let is_terminal = std::io::stderr().is_terminal();
    let mut printed = Instant::now();
    move |progress| {
        let Progress {
            records,
            of,
            rows,
            partitions_done,
            partitions,
            elapsed,
        } = progress;
        let is_done = partitions_done == partitions;
        if !is_terminal && !is_done && printed.elapsed() < LINE_INTERVAL {
            return;
        }
        printed = Instant::now();
        let rate = *records as f64 / elapsed.as_secs_f64().max(0.001);
        let left = of.saturating_sub(*records) as f64 / rate.max(1.0);
        let line = format!(
            "{records} of {of} records, {rows} rows, {partitions_done} of {partitions} partitions, {rate:.0} records/s, ends in {left:.0} s"
        );
        if is_terminal {
            eprint!("\r{line}  ");
            if is_done {
                eprintln!();
            }
        } else {
            eprintln!("{line}");
        }
    }
}
