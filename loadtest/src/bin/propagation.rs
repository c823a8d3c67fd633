//! The `propagation` tool: how soon an acknowledged fact decides the answers of every node (X2).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use loadtest::client::{Client, Endpoint};
use loadtest::profile::Profile;
use loadtest::propagation::{self, Plan};
use loadtest::setup;

/// Supplies facts to the first node at a fixed pace, and measures from the acknowledgement of further ones until every node's
/// answers show them. Fails where the 99th percentile of a node is beyond the objective.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// A node's address; loopback only. Give each; the first one takes the facts.
    #[arg(
        long = "node",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    nodes: Vec<String>,
    /// The folder of API secrets, as `tongxing up` makes it.
    #[arg(long, default_value = "data/keys/api-secrets")]
    secrets: PathBuf,
    /// Facts a second beside the probes.
    #[arg(long, default_value_t = 10_000)]
    facts: u32,
    /// Probes a second, at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    probes: u32,
    /// Synthetic people.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(100..))]
    people: u32,
    /// How long, in seconds; at most an hour.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// What the 99th percentile may be, in milliseconds; nothing is demanded without it.
    #[arg(long)]
    objective_ms: Option<f64>,
    /// Seed of everything drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("propagation: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let nodes = arguments.nodes.iter().map(|url| Endpoint::parse(url));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let secret = |name: &str| {
        let path = arguments.secrets.join(name);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let plan = Plan {
        nodes: nodes.clone(),
        feed_secret: secret("synthetic-feed")?,
        lookup_secret: secret("synthetic-load")?,
        facts_per_second: arguments.facts,
        probes_per_second: arguments.probes,
        duration: Duration::from_secs(arguments.seconds),
    };
    let mut feed = Client::new(nodes[0].clone(), plan.feed_secret.clone());
    let profile = Profile::guangdong_weekday()?;
    let setting = setup::set_up(
        &mut feed,
        arguments.seed,
        &profile,
        arguments.people,
        |what, done, of| eprint!("\r{what}: {done} of {of} "),
    )
    .await?;
    eprintln!();
    let persons: Vec<_> = setting.persons.into_iter().zip(setting.codes).collect();
    let measured = propagation::run(&plan, &persons).await?;
    println!(
        "{:.0} facts/s beside the probes",
        measured.facts as f64 / measured.elapsed.as_secs_f64()
    );
    let mut worst = 0.0_f64;
    for (url, histogram) in arguments.nodes.iter().zip(&measured.nodes) {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        println!(
            "{url}: {} probes, from acknowledgement to effect p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
            histogram.len(),
            ms(0.5),
            ms(0.99),
            histogram.max() as f64 / 1000.0
        );
        worst = worst.max(ms(0.99));
    }
    match arguments.objective_ms {
        Some(objective) if worst > objective => {
            bail!("p99 {worst:.1} ms is beyond the objective of {objective} ms")
        }
        _ => Ok(()),
    }
}
