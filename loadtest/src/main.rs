//! The `loadtest` tool.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use loadtest::client::{Client, Endpoint};
use loadtest::freshness::{self, Probes};
use loadtest::generator::{self, Live, LoadPlan};
use loadtest::processor::{Process, Watch};
use loadtest::profile::Profile;
use loadtest::setup;
use loadtest::traffic::Traffic;
use loadtest::{report, verify};
use scan_model::Timestamp;

/// Loads a running deployment on this machine: synthetic people look up and check in at a fixed pace, latency counts from the
/// planned send time, and at the end every acknowledged scan must be counted exactly once.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Ingest's address; loopback only.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    ingest: String,
    /// Query's address; loopback only.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    query: String,
    /// The folder of API secrets, as `tongxing up` makes it.
    #[arg(long, default_value = "data/keys/api-secrets")]
    secrets: PathBuf,
    /// A load profile (TOML); the built-in weekday of Guangdong without it.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Synthetic people.
    #[arg(long, default_value_t = 20_000)]
    people: u32,
    /// Lookups a second.
    #[arg(long, default_value_t = 5_000)]
    lookups: u32,
    /// Send the lookups to another server, which is to answer every path, and the check-ins to ingest as before: what the same load
    /// meets elsewhere on the same machine. Loopback only.
    #[arg(long, value_name = "URL")]
    lookups_at: Option<String>,
    /// Check-ins a second.
    #[arg(long, default_value_t = 1_000)]
    check_ins: u32,
    /// How long, in seconds; at most an hour.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Connections for lookups, and as many for check-ins.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Freshness probes a second, beside the check-ins; 0 sends none.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    probes: u32,
    /// Load ingest and ask nothing of query: no freshness, and no comparison of what was counted.
    #[arg(long)]
    ingest_only: bool,
    /// Show how many cores a process of this machine used under the load, name=pid; may be given several times.
    #[arg(long = "process", value_name = "NAME=PID")]
    processes: Vec<Process>,
    /// Seed of everything drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let ingest = Endpoint::parse(&arguments.ingest)?;
    let query = Endpoint::parse(&arguments.query)?;
    let lookups_at = arguments.lookups_at.as_deref();
    let lookups_at = lookups_at.map(Endpoint::parse).transpose()?;
    let secret = |name: &str| {
        let path = arguments.secrets.join(name);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let profile = match &arguments.profile {
        None => Profile::guangdong_weekday()?,
        Some(path) => Profile::parse(&std::fs::read_to_string(path)?)?,
    };
    let mut feed = Client::new(ingest.clone(), secret("synthetic-feed")?);
    eprintln!(
        "seed {}; enrolling {} people",
        arguments.seed, arguments.people
    );
    let setting = setup::set_up(
        &mut feed,
        arguments.seed,
        &profile,
        arguments.people,
        |what, done, of| {
            eprint!("\r{what}: {done} of {of} ");
        },
    )
    .await?;
    eprintln!();
    freshness::set_up(&mut feed).await?;
    // Scan ids must differ from an earlier run's.
    let run_seed = arguments.seed ^ Timestamp::now().0 as u64;
    let probe_code = setting
        .codes
        .first()
        .context("nobody was enrolled")?
        .clone();
    let traffic = Traffic::new(run_seed, profile, &setting.world, setting.codes)?;
    let plan = LoadPlan {
        lookups_per_second: arguments.lookups,
        check_ins_per_second: arguments.check_ins,
        duration: Duration::from_secs(arguments.seconds),
        connections: usize::from(arguments.connections),
        lookups_at,
    };
    let before = if arguments.ingest_only {
        verify::Counts::new()
    } else {
        let started = Timestamp::now();
        let hour = started.hour_start().0;
        let venues = setting.world.venues.iter();
        let hours: verify::Counts = venues.map(|venue| ((venue.id, hour), (0, 0))).collect();
        verify::wait_complete(&query, started, Duration::from_secs(60)).await?;
        verify::counted(&query, &hours).await?
    };
    let live = Arc::new(Live::default());
    let progress = tokio::spawn(show_progress(Arc::clone(&live)));
    let load_secret = secret("synthetic-load")?;
    let probes = (arguments.probes > 0 && !arguments.ingest_only).then(|| {
        tokio::spawn(freshness::run(Probes {
            ingest: ingest.clone(),
            query: query.clone(),
            secret: load_secret.clone(),
            code: probe_code,
            per_second: arguments.probes,
            duration: plan.duration,
        }))
    });
    let watch = Watch::begin(&arguments.processes)?;
    let outcome = generator::run(&plan, &ingest, &load_secret, traffic, &live).await?;
    let cores = watch.cores()?;
    progress.abort();
    eprintln!();
    print!("{}", report::to_table(&outcome));
    print!("{}", report::cores_line(&cores));
    let freshness = match probes {
        None => None,
        Some(probes) => Some(probes.await?.context("freshness probes")?),
    };
    if let Some(freshness) = &freshness {
        print!("{}", report::freshness_line(freshness));
    }
    let differences = if arguments.ingest_only {
        None
    } else {
        verify::wait_complete(&query, Timestamp::now(), Duration::from_secs(120)).await?;
        let expected = verify::expected(&outcome.acknowledged);
        let after = verify::counted(&query, &expected).await?;
        Some(verify::differences(&expected, &before, &after))
    };
    let mut result = report::to_json(&outcome);
    result["freshness_ms"] = freshness.as_ref().map(report::freshness_to_json).into();
    result["cores"] = report::cores_to_json(&cores);
    result["seed"] = arguments.seed.into();
    result["differences"] = differences.clone().into();
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{result:#}\n"))
            .with_context(|| format!("write {}", path.display()))?;
    }
    let Some(differences) = differences else {
        println!("{} scans acknowledged", outcome.acknowledged.len());
        return Ok(());
    };
    for difference in differences.iter().take(20) {
        println!("  {difference}");
    }
    if !differences.is_empty() {
        bail!(
            "{} venue hours differ from what was acknowledged",
            differences.len()
        );
    }
    println!(
        "every one of {} acknowledged scans is counted once",
        outcome.acknowledged.len()
    );
    Ok(())
}

async fn show_progress(live: Arc<Live>) {
    let mut last = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = (
            live.lookups.load(Ordering::Relaxed),
            live.check_ins.load(Ordering::Relaxed),
        );
        let failures = live.failures.load(Ordering::Relaxed);
        eprint!(
            "\r{} lookups/s, {} check-ins/s, {failures} failures ",
            now.0 - last.0,
            now.1 - last.1
        );
        last = now;
    }
}
