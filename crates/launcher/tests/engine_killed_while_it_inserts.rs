//! Claim (INV-1): however often the engine is killed while it inserts, every acknowledged scan ends up in raw exactly
//! once and counted exactly once in every rollup. Without the proof of rollups it does not: the second test shows that the
//! first one can see the fault.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aggregator::{AggregatorConfig, DEAD_LETTERS, GROUP, SCANS};
use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::{
    AggregatorRun, DATABASE, Engine, drained, is_long, open_log, runtime, seeded, unsettled,
};
use event_log::SharedLog;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const PARTITIONS: u32 = 2;
/// Kills before the data are compared and a new folder is begun, so that starts stay quick.
const KILLS_A_ROUND: usize = 75;
/// The long form's kills, for each of the two tests.
const LONG_KILLS: usize = 1_500;

/// When the engine is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// This long after a pending range was recorded, when its inserts are under way.
    AfterPending(Duration),
    /// This long after it became ready, when the last kill's damage is being mended.
    AfterReady(Duration),
}

impl Moment {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        if random.random_bool(0.5) {
            Self::AfterPending(Duration::from_micros(random.random_range(0..80_000)))
        } else {
            Self::AfterReady(Duration::from_micros(random.random_range(0..400_000)))
        }
    }
}

/// A log, an engine and an aggregator, with scans appended all the time.
struct Round {
    runtime: Runtime,
    log: SharedLog,
    engine: Engine,
    config: AggregatorConfig,
    aggregator: Option<AggregatorRun>,
    counted: Arc<tokio::sync::Mutex<Counted>>,
    stop_appending: Arc<AtomicBool>,
    appending: Option<JoinHandle<()>>,
    kills: usize,
    aggregator_restarts: usize,
    _folder: TempDir,
}

impl Round {
    fn start(random: &mut ChaCha8Rng, repair: bool) -> Self {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(&folder.path().join("log"), PARTITIONS);
        let engine = Engine::start(&folder.path().join("clickhouse"));
        runtime.block_on(engine.migrated_store());
        let config = AggregatorConfig {
            writer: "killed".into(),
            batch_records: random.random_range(50..500),
            linger: Duration::from_millis(random.random_range(1..20)),
            backlog_records: random.random_range(50..5_000),
            batch_bytes: 1 << random.random_range(14..20),
            // The short ones send many an id to raw.
            window: Duration::from_millis([500, 600_000][random.random_range(0..2)]),
            window_capacity: [100, 500_000][random.random_range(0..2)],
            window_total: 1 << 22,
            insert_deadline: Duration::from_millis(200),
            parallel_inserts: random.random_range(1..4),
            drain: Duration::from_secs(10),
            publish_completeness: None,
            repair,
        };
        let aggregator = Some(AggregatorRun::start(&log, &engine, &config));
        let mut round = Self {
            runtime,
            log,
            engine,
            config,
            aggregator,
            counted: Arc::default(),
            stop_appending: Arc::default(),
            appending: None,
            kills: 0,
            aggregator_restarts: 0,
            _folder: folder,
        };
        round.append(random);
        round
    }

    /// Appends all the time, as long as not too much waits to be settled.
    fn append(&mut self, random: &mut ChaCha8Rng) {
        let mut source = ScanSource::new(ChaCha8Rng::from_rng(random));
        let mut random = ChaCha8Rng::from_rng(random);
        let backlog = 2 * self.config.batch_records as u64;
        let (log, counted) = (Arc::clone(&self.log), Arc::clone(&self.counted));
        let stop = Arc::clone(&self.stop_appending);
        self.appending = Some(self.runtime.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if unsettled(&log).await > backlog {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                let mut scans = vec![Vec::new(); PARTITIONS as usize];
                for _ in 0..random.random_range(1..60) {
                    let scan = source.next();
                    scans[partition_of(&scan, PARTITIONS) as usize].push(scan);
                }
                for (partition, scans) in (0..).zip(scans).filter(|(_, scans)| !scans.is_empty()) {
                    let records = scans.iter().map(record_of).collect();
                    let appended = log.append(SCANS, partition, records).await.unwrap();
                    let mut counted = counted.lock().await;
                    for (offset, scan) in (appended.first..).zip(&scans) {
                        counted.add(partition, offset, scan);
                    }
                }
            }
        }));
    }

    /// The pending ranges as they are recorded beside the group's positions.
    fn pending(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let mut pending = Vec::new();
            for partition in 0..PARTITIONS {
                let committed = self.log.committed(GROUP, SCANS, partition).await.unwrap();
                pending.push(committed.map_or_else(String::new, |committed| committed.metadata));
            }
            pending
        })
    }

    /// Kills the engine or the aggregator or both, and starts them again at once.
    fn kill(&mut self, random: &mut ChaCha8Rng) {
        let delay = match Moment::draw(random) {
            Moment::AfterPending(delay) => {
                let before = self.pending();
                let started = Instant::now();
                while started.elapsed() < Duration::from_secs(10) {
                    let now = self.pending();
                    if now
                        .iter()
                        .zip(&before)
                        .any(|(now, before)| !now.is_empty() && now != before)
                    {
                        break;
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
                delay
            }
            Moment::AfterReady(delay) => delay,
        };
        std::thread::sleep(delay);
        assert!(self.engine.is_alive(), "the engine ended by itself");
        // Mostly the engine alone; now and then the aggregator first, last, or alone.
        let victims = random.random_range(0..20);
        if matches!(victims, 0 | 1) {
            self.cut_off_aggregator();
        }
        if victims != 1 {
            self.engine.kill();
            self.kills += 1;
        }
        if victims == 2 {
            self.cut_off_aggregator();
        }
        if victims != 1 {
            self.engine.restart();
        }
        self.keep_aggregator();
    }

    fn cut_off_aggregator(&mut self) {
        if let Some(aggregator) = self.aggregator.take() {
            aggregator.crash();
        }
    }

    /// Starts the aggregator again where it was cut off; one that ended by itself says why.
    fn keep_aggregator(&mut self) {
        if let Some(ended) = self.aggregator.take_if(|aggregator| aggregator.has_ended()) {
            panic!("the aggregator ended: {:?}", ended.outcome());
        }
        if self.aggregator.is_none() {
            self.aggregator_restarts += 1;
            self.aggregator = Some(AggregatorRun::start(&self.log, &self.engine, &self.config));
        }
    }

    /// Stops appending, lets everything be settled, kills the engine once more, and compares. Appending does not go on.
    fn differences(&mut self) -> Vec<String> {
        self.stop_appending.store(true, Ordering::Relaxed);
        if let Some(appending) = self.appending.take() {
            self.runtime.block_on(appending).unwrap();
        }
        let aggregator = self.aggregator.take().unwrap();
        self.runtime.block_on(drained(&self.log, &aggregator));
        aggregator.stop().expect("the aggregator stops in order");
        self.engine.kill();
        self.engine.restart();
        self.runtime.block_on(async {
            let store = self.engine.store(DATABASE);
            let mut differences = self.counted.lock().await.differences(&store).await;
            let letters = self.log.bounds(DEAD_LETTERS, 0).await.unwrap().end;
            if letters > 0 {
                differences.push(format!("{letters} dead letters"));
            }
            differences
        })
    }

    fn counts(&self) -> (u64, u64) {
        let counted = self.runtime.block_on(self.counted.lock());
        (counted.appended, counted.duplicates)
    }
}

/// One test at a time: both want the machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A generator for each round, and its seed, so that a round can be run again alone.
fn round_seed(random: &mut ChaCha8Rng) -> (u64, ChaCha8Rng) {
    let seed = random.random();
    (seed, ChaCha8Rng::seed_from_u64(seed))
}

#[test]
fn whenever_the_engine_is_killed_every_scan_is_stored_once_and_counted_once() {
    let _alone = alone();
    let mut random = seeded();
    let kills = if is_long() { LONG_KILLS } else { 15 };
    let (started, mut killed, mut restarts) = (Instant::now(), 0, 0);
    let (mut appended, mut duplicates) = (0, 0);
    while killed < kills {
        let (seed, mut random) = round_seed(&mut random);
        let mut round = Round::start(&mut random, true);
        let round_kills = KILLS_A_ROUND.min(kills - killed);
        while round.kills < round_kills {
            round.kill(&mut random);
        }
        killed += round.kills;
        let differences = round.differences();
        assert!(
            differences.is_empty(),
            "round {seed}, {:?}, after {killed} kills: {differences:#?}",
            round.config
        );
        let (round_appended, round_duplicates) = round.counts();
        appended += round_appended;
        duplicates += round_duplicates;
        restarts += round.aggregator_restarts;
        println!(
            "{killed} kills in {:.1?}, {appended} scans appended",
            started.elapsed()
        );
    }
    assert!(appended > 0 && duplicates > 0);
    println!(
        "{kills} kills in {:.1?} ({:.0} a minute), {restarts} restarts of the aggregator: {appended} scans appended, {duplicates} of them copies, nothing lost or doubled",
        started.elapsed(),
        kills as f64 * 60.0 / started.elapsed().as_secs_f64(),
    );
}

#[test]
fn without_repair_the_loss_is_seen() {
    const KILLS_BETWEEN_COMPARISONS: usize = 1;
    let _alone = alone();
    let mut random = seeded();
    let most = if is_long() { LONG_KILLS } else { 300 };
    let (started, mut killed) = (Instant::now(), 0);
    while killed < most {
        let (_, mut random) = round_seed(&mut random);
        let mut round = Round::start(&mut random, false);
        while round.kills < KILLS_BETWEEN_COMPARISONS {
            round.kill(&mut random);
        }
        killed += round.kills;
        let differences = round.differences();
        // Raw is right with or without the proof: the loss is in a rollup.
        assert!(
            !differences.iter().any(|text| text.starts_with("scans")),
            "{differences:#?}"
        );
        if !differences.is_empty() {
            println!(
                "seen after {killed} kills in {:.1?}: {differences:#?}",
                started.elapsed()
            );
            return;
        }
    }
    panic!(
        "{killed} kills in {:.1?} without a loss: the kills miss the insert",
        started.elapsed()
    );
}
