//! `tongxing positions`: how far the aggregator has counted, and positions that were lost set right.

use aggregator::pending::Pending;
use aggregator::positions::{self, LEAST_MARGIN, MARGIN, Standing, State};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use event_log::{LogError, SharedLog};
use scan_model::Timestamp;
use warehouse::Store;
use warehouse::engine::EngineProcess;

use crate::cli::PositionsOptions;
use crate::local::engine_of_stopped;
use crate::stores::store_of;

/// What is to be done.
#[derive(Subcommand)]
pub enum Action {
    /// Show each partition's log, position, pending range, newest offset in the store, and lag.
    Show,
    /// Set positions that are behind the store to a range that is counted again: what the store lacks of it is sent.
    Restore {
        /// How far before the newest offset in the store the range begins.
        #[arg(long, default_value_t = MARGIN, value_parser = clap::value_parser!(u64).range(LEAST_MARGIN..))]
        margin: u64,
        /// Say what would be set, and set nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Does it.
pub async fn run(options: PositionsOptions) -> Result<()> {
    let log = options.log.open("tongxing-positions").await?;
    let (engine, store) = open_store(&options).await?;
    let outcome = act(&log, &store, &options.action).await;
    if let Some(engine) = engine {
        engine.stop().await;
    }
    outcome
}

/// The store of the same deployment; a local one's engine is started for it.
async fn open_store(options: &PositionsOptions) -> Result<(Option<EngineProcess>, Store)> {
    if let Some(data) = &options.log.data
        && data.join("clickhouse").is_dir()
    {
        let (engine, store) = engine_of_stopped(data).await?;
        return Ok((Some(engine), store));
    }
    Ok((None, store_of(options.store.clone())?))
}

async fn act(log: &SharedLog, store: &Store, action: &Action) -> Result<()> {
    let standings = positions::survey(log, store).await?;
    show(&standings);
    match action {
        Action::Show => Ok(()),
        Action::Restore { margin, dry_run } => restore(log, &standings, *margin, *dry_run).await,
    }
}

fn show(standings: &[Standing]) {
    println!(
        "{:>9}  {:>20}  {:>10}  {:>20}  {:>10}  {:>10}  state",
        "partition", "log", "position", "pending", "in store", "lag"
    );
    let number = |offset: Option<u64>| offset.map_or_else(|| "-".into(), |o| o.to_string());
    for standing in standings {
        let Standing {
            partition,
            bounds,
            position,
            pending,
            newest,
        } = standing;
        let log = format!("{}..{}", bounds.start, bounds.end);
        let pending = pending.map_or_else(|| "-".into(), |p| format!("{}..{}", p.first, p.next));
        let state = match standing.state() {
            State::Sound => "sound",
            State::Behind => "behind the store: lost or reset",
            State::BeyondLog => "beyond the log: another log's position",
            State::StoreBeyondLog => "the store is beyond the log: they do not belong together",
        };
        println!(
            "{partition:>9}  {log:>20}  {:>10}  {pending:>20}  {:>10}  {:>10}  {state}",
            number(*position),
            number(*newest),
            standing.lag()
        );
    }
}

/// Works everything out before it sets anything.
async fn restore(
    log: &SharedLog,
    standings: &[Standing],
    margin: u64,
    is_dry_run: bool,
) -> Result<()> {
    let now = Timestamp::now();
    let mut ranges: Vec<(u32, Pending)> = Vec::new();
    for standing in standings {
        if let Some(pending) = standing.restored(margin, now)? {
            ranges.push((standing.partition, pending));
        }
    }
    for (partition, pending) in &ranges {
        if !is_dry_run {
            let outcome = positions::restore(log, *partition, *pending).await;
            if let Err(LogError::GroupInUse(group)) = outcome {
                bail!(
                    "group {group} has members, which would go on from positions of their own: stop every aggregator first, and wait \
                     10 seconds for one that was killed"
                );
            }
            outcome.with_context(|| format!("partition {partition}"))?;
        }
        let (first, next) = (pending.first, pending.next);
        let done = if is_dry_run { "would be" } else { "is" };
        println!(
            "partition {partition}: {first}..{next} {done} counted again when the aggregator starts"
        );
    }
    if ranges.is_empty() {
        println!("nothing to restore");
    }
    if let Some(beyond) = standings.iter().find(|s| s.state() == State::BeyondLog) {
        bail!(
            "partition {}: the position is beyond the log's end, and what the store lacks cannot be told from it; is this the log?",
            beyond.partition
        );
    }
    Ok(())
}
