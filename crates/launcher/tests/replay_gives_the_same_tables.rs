//! Claims: `tongxing replay` builds from the log what the aggregator built (INV-5, X3), dead letters, copies and corrections
//! included; it refuses beside a running deployment and stops at what it does not know (INV-10); killed at any moment, the
//! live tables are whole, and replaying again ends well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use aggregator::{AggregatorConfig, AggregatorError, DEAD_LETTERS, SCANS, fact_history, names};
use engine_support::counted::Counted;
use engine_support::digests::{Digest, digests, views};
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::{
    AggregatorRun, DATABASE, Engine, PATIENCE, drained, is_long, program, runtime, seeded,
};
use event_log::local::LocalOptions;
use event_log::{LocalLog, Partition, Record, SharedLog};
use ingest::topics::{self, Retention};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use registry::Site;
use registry::command::{Body, Command as RegistryCommand};
use scan_model::{
    Category, Fact, PersonId, Scan, SiteId, SiteKind, SiteRef, Timestamp, VenueType, codec,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use warehouse::schema;

const PARTITIONS: u32 = 3;
/// Drawn scans visit grids 1 to 5; this one is dissolved.
const DISSOLVED: SiteId = SiteId(3);

/// A data folder like that of `tongxing up`.
struct World {
    runtime: Runtime,
    folder: TempDir,
    source: ScanSource,
    random: ChaCha8Rng,
    counted: Counted,
}

/// Its log and its engine, while they are open.
struct Open<'a> {
    world: &'a mut World,
    log: SharedLog,
    engine: Engine,
}

impl World {
    fn new() -> Self {
        let random = seeded();
        let world = Self {
            runtime: runtime(),
            folder: tempfile::tempdir().unwrap(),
            source: ScanSource::new(random.clone()),
            random,
            counted: Counted::default(),
        };
        let keys = world.data().join("keys");
        let created = Command::new(program())
            .args(["keys", "--folder"])
            .arg(keys)
            .arg("create")
            .output();
        assert!(created.unwrap().status.success());
        world
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn fingerprint(&self) -> [u8; 8] {
        let output = Command::new(program())
            .args(["keys", "--folder"])
            .arg(self.data().join("keys"))
            .arg("fingerprint")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let byte = |index: usize| u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    fn open(&mut self) -> Open<'_> {
        let topics = topics::all(PARTITIONS, Retention::default());
        let started = Instant::now();
        // A log closed a moment ago may still be letting go of its files.
        let log = loop {
            let folder = self.data().join("log");
            match LocalLog::open(&folder, topics.clone(), &LocalOptions::default()) {
                Ok((log, _)) => break log,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let engine = Engine::start(&self.data().join("clickhouse"));
        let fingerprint = self.fingerprint();
        self.runtime.block_on(async {
            let store = engine.migrated_store().await;
            schema::check_fingerprint(&store, fingerprint)
                .await
                .unwrap();
            names::write_divisions(&store).await.unwrap();
        });
        Open {
            world: self,
            log: std::sync::Arc::new(log),
            engine,
        }
    }

    /// What every table holds, as whoever opens the database next sees it.
    fn digests(&mut self) -> BTreeMap<String, Digest> {
        let open = self.open();
        let store = open.engine.store(DATABASE);
        open.world.runtime.block_on(digests(&store))
    }

    /// The command, and where its engine will answer.
    fn replay_command(&self) -> (Command, String) {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        let mut command = Command::new(program());
        command
            .args(["replay", "local", "--data"])
            .arg(self.data())
            .args(["--partitions", &PARTITIONS.to_string()])
            .args(["--clickhouse-listen", &address])
            .env("TONGXING_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        (command, address)
    }

    fn replay(&self) -> Output {
        self.replay_command().0.output().unwrap()
    }

    fn assert_replayed(&self) -> String {
        let output = self.replay();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        print!("{text}");
        text
    }
}

impl Open<'_> {
    fn append(&mut self, partition: Partition, record: Record) -> u64 {
        let append = self.log.append(SCANS, partition, vec![record]);
        self.world.runtime.block_on(append).unwrap().first
    }

    fn append_scan(&mut self, scan: &Scan) {
        let partition = partition_of(scan, PARTITIONS);
        let offset = self.append(partition, record_of(scan));
        self.world.counted.add(partition, offset, scan);
    }

    fn append_scans(&mut self, count: usize) {
        for _ in 0..count {
            let scan = self.world.source.next();
            self.append_scan(&scan);
        }
    }

    fn command(&mut self, body: Body) {
        let command = RegistryCommand {
            id: uuid::Uuid::now_v7().as_u128(),
            time: Timestamp::now(),
            rule_version: 1,
            body,
        };
        let record = Record::unkeyed(codec::encode(&command).unwrap());
        let append = self.log.append(registry::TOPIC, 0, vec![record]);
        self.world.runtime.block_on(append).unwrap();
    }

    fn import_grids(&mut self) {
        let grid = |id| Site {
            site: SiteRef {
                kind: SiteKind::Grid,
                id: SiteId(id),
            },
            name: format!("grid {id}"),
            region: 440_106,
            venue_type: VenueType::Unspecified,
            address: String::new(),
            checkpoints: vec![],
            synthetic: false,
        };
        self.command(Body::ImportSites((1..6).map(grid).collect()));
    }

    fn aggregate(&self) -> AggregatorRun {
        let config = AggregatorConfig {
            batch_records: 150,
            linger: Duration::from_millis(5),
            insert_deadline: Duration::from_millis(200),
            // Copies come from far outside of it.
            window_capacity: 40,
            ..AggregatorConfig::default()
        };
        AggregatorRun::start(&self.log, &self.engine, &config)
    }

    fn drain(&self, run: &AggregatorRun) {
        self.world.runtime.block_on(drained(&self.log, run));
    }

    /// The rows that still lead to a dissolved grid.
    fn rows_of(&self, grid: SiteId) -> u64 {
        #[derive(serde::Deserialize)]
        struct Count {
            rows: u64,
        }
        let id = grid.0;
        let sql = format!(
            "SELECT (SELECT count() FROM scans WHERE site_kind = 'grid' AND site = {id})
                  + (SELECT count() FROM grid_day WHERE grid = {id})
                  + (SELECT count() FROM sites WHERE site_kind = 'grid' AND site = {id}) AS rows"
        );
        let store = self.engine.store(DATABASE);
        let count = store.row::<Count>(&sql, &[]);
        self.world.runtime.block_on(count).unwrap().rows
    }

    /// Appends changes of facts, and has them stored.
    fn change_facts(&mut self, count: u64) {
        for number in 0..count {
            let fact = Fact {
                person: PersonId(number % 5 + 1),
                category: Category::Confirmed,
                source: "cdc".into(),
                reference: number.to_string(),
                effective: Timestamp::now(),
                expiry: (number % 2 == 0).then(Timestamp::now),
                recorded_at: Timestamp::now(),
                supplied_by: 1,
                note: String::new(),
                change: number as u16,
            };
            let partition = event_log::partition_for(fact.person.0, PARTITIONS);
            let record = Record::unkeyed(codec::encode(&fact).unwrap());
            let append = self
                .log
                .append(fact_history::TOPIC, partition, vec![record]);
            self.world.runtime.block_on(append).unwrap();
        }
        let store = self.engine.store(DATABASE);
        let rows = async || -> u64 {
            #[derive(serde::Deserialize)]
            struct Count {
                rows: u64,
            }
            let sql = "SELECT count() AS rows FROM fact_history FINAL";
            store.row::<Count>(sql, &[]).await.unwrap().rows
        };
        let follower = fact_history::follow(std::sync::Arc::clone(&self.log), store.clone());
        let follower = self.world.runtime.spawn(follower);
        let began = Instant::now();
        while self.world.runtime.block_on(rows()) < count {
            assert!(began.elapsed() < PATIENCE, "not stored");
            std::thread::sleep(Duration::from_millis(20));
        }
        follower.abort();
    }

    fn dead_letters(&self) -> u64 {
        let bounds = self.log.bounds(DEAD_LETTERS, 0);
        self.world.runtime.block_on(bounds).unwrap().end
    }

    /// Follows names as a deployment does, until the aggregator is done.
    fn aggregate_everything(&mut self) -> Result<(), AggregatorError> {
        let names = self.world.runtime.spawn(names::follow_sites(
            std::sync::Arc::clone(&self.log),
            self.engine.store(DATABASE),
        ));
        let run = self.aggregate();
        self.drain(&run);
        let began = Instant::now();
        while self.rows_of(DISSOLVED) > 0 {
            assert!(!run.has_ended() && began.elapsed() < PATIENCE, "not erased");
            std::thread::sleep(Duration::from_millis(20));
        }
        names.abort();
        run.stop()
    }
}

/// Copies near and far, conflicts, corrections, late scans, dead letters, an erasure in the middle, killed aggregators.
fn eventful(scans: usize) -> World {
    let mut world = World::new();
    let kills = world.random.random_range(2..5);
    let mut open = world.open();
    open.import_grids();
    open.change_facts(100);
    let first: Vec<Scan> = (0..60).map(|_| open.world.source.next()).collect();
    for scan in &first {
        open.append_scan(scan);
    }
    for kill in 0..=kills {
        open.append_scans(scans / 2 / (kills + 1));
        let partition = open.world.random.random_range(0..PARTITIONS);
        open.append(partition, Record::unkeyed(vec![1, 2, 3]));
        let run = open.aggregate();
        if kill < kills {
            let pause = open.world.random.random_range(0..120);
            std::thread::sleep(Duration::from_millis(pause));
            run.crash();
        } else {
            open.drain(&run);
            run.stop().unwrap();
        }
    }
    open.command(Body::DissolveGrid(DISSOLVED));
    open.append_scans(scans / 2);
    // The first ones again, far behind everything that is remembered.
    for scan in &first {
        open.append_scan(scan);
    }
    open.aggregate_everything().unwrap();
    assert_eq!(open.rows_of(DISSOLVED), 0);
    drop(open);
    world
}

#[test]
fn inv5_a_replay_gives_the_same_tables_with_erasures_honoured_and_no_dead_letter_twice() {
    let scans = if is_long() { 60_000 } else { 6_000 };
    let mut world = eventful(scans);
    let before = world.digests();
    let (letters, views_before) = {
        let open = world.open();
        let store = open.engine.store(DATABASE);
        (
            open.dead_letters(),
            open.world.runtime.block_on(views(&store)),
        )
    };
    assert!(letters > 2 && world.counted.duplicates > 60);
    assert!(before["scans"].rows > 0 && before["grid_day"].rows > 0 && before["sites"].rows == 4);
    assert_eq!(before["fact_history"].rows, 100);
    for _ in 0..2 {
        world.assert_replayed();
        assert_eq!(world.digests(), before);
    }
    let mut open = world.open();
    let store = open.engine.store(DATABASE);
    let views_after = open.world.runtime.block_on(views(&store));
    assert_eq!(views_after, views_before, "the views feed these tables");
    assert_eq!(open.rows_of(DISSOLVED), 0);
    assert_eq!(open.dead_letters(), letters);
    // The aggregator goes on where the replay ended, into the tables that the replay built.
    open.append_scans(500);
    open.aggregate_everything().unwrap();
    drop(open);
    let after = world.digests();
    assert!(after["scans"].rows > before["scans"].rows);
    world.assert_replayed();
    assert_eq!(world.digests(), after);
}

#[test]
fn a_log_without_positions_is_replayed_to_its_end() {
    let mut world = eventful(1_000);
    let before = world.digests();
    std::fs::remove_dir_all(world.data().join("log/positions")).unwrap();
    std::fs::remove_dir_all(world.data().join("clickhouse")).unwrap();
    world.assert_replayed();
    assert_eq!(world.digests(), before);
    let mut open = world.open();
    open.append_scans(100);
    open.aggregate_everything().unwrap();
}

#[test]
fn inv10_a_replay_stops_at_a_newer_record_and_swaps_nothing() {
    let mut world = eventful(500);
    {
        let mut open = world.open();
        // Behind the position the aggregator pauses; a replay up to that position never meets it.
        let newer = open.append(0, Record::unkeyed(vec![9, 1]));
        assert!(newer > 0);
        open.append_scans(20);
    }
    let before = world.digests();
    world.assert_replayed();
    assert_eq!(world.digests(), before);
    // Without positions it is to be read.
    std::fs::remove_dir_all(world.data().join("log/positions")).unwrap();
    let output = world.replay();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        error.contains("version 9") && error.contains("scans/0"),
        "{error}"
    );
    assert_eq!(world.digests(), before);
}

#[test]
fn a_replay_refuses_beside_a_running_deployment() {
    let mut world = World::new();
    let open = world.open();
    let output = open.world.replay();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains("stop `tongxing up` first"), "{error}");
}

/// When a replay is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After so long.
    After(Duration),
    /// So long after a database appeared.
    Database(&'static str, Duration),
}

/// The databases that an engine has; none while it does not answer.
fn databases(address: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(
            b"GET /?query=SHOW%20DATABASES HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

/// Runs a replay and kills it at a moment; answers how long it took where it ended before.
fn kill_at(world: &World, moment: Moment) -> Option<Duration> {
    let (mut command, address) = world.replay_command();
    let began = Instant::now();
    let mut replay = command.spawn().unwrap();
    let mut appeared = None;
    loop {
        if let Some(status) = replay.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return Some(began.elapsed());
        }
        let is_due = match moment {
            Moment::After(pause) => began.elapsed() >= pause,
            Moment::Database(name, pause) => {
                if appeared.is_none() && databases(&address).lines().any(|line| line == name) {
                    appeared = Some(Instant::now());
                }
                appeared.is_some_and(|at| at.elapsed() >= pause)
            }
        };
        if is_due {
            replay.kill().unwrap();
            replay.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(serde::Deserialize)]
struct Name {
    name: String,
}

#[test]
fn inv5_a_replay_killed_at_any_moment_leaves_whole_tables_and_ends_well_when_run_again() {
    let kills = if is_long() { 60 } else { 12 };
    let mut world = eventful(2_000);
    let before = world.digests();
    let began = Instant::now();
    world.assert_replayed();
    let mut whole = began.elapsed();
    assert_eq!(world.digests(), before);
    let mut killed = 0;
    for round in 0..kills {
        let share = world.random.random_range(0.0..1.0);
        let few = Duration::from_secs(1).mul_f64(share * share);
        let moment = match round % 3 {
            0 => Moment::After(whole.mul_f64(share)),
            1 => Moment::Database("tongxing_former", few),
            _ => Moment::Database("tongxing_replay", whole.mul_f64(share)),
        };
        match kill_at(&world, moment) {
            None => killed += 1,
            Some(ended) => whole = whole.min(ended),
        }
        println!("round {round}: {moment:?}, {killed} killed");
        if world.random.random_bool(0.5) {
            assert_eq!(world.digests(), before, "round {round}");
        }
    }
    assert!(killed > kills / 3);
    world.assert_replayed();
    assert_eq!(world.digests(), before);
    let mut open = world.open();
    open.append_scans(300);
    open.aggregate_everything().unwrap();
    let store = open.engine.store(DATABASE);
    let left: Vec<Name> = open
        .world
        .runtime
        .block_on(store.rows(
            "SELECT name FROM system.databases WHERE startsWith(name, 'tongxing')",
            &[],
        ))
        .unwrap();
    let left: Vec<_> = left.into_iter().map(|found| found.name).collect();
    assert_eq!(left, [DATABASE]);
}
