//! A deployment whose log is replayed: its data folder, what is appended to its log, and what its tables then hold.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use aggregator::{AggregatorConfig, AggregatorError, DEAD_LETTERS, SCANS, fact_history, names};
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

use crate::engine_support::counted::Counted;
use crate::engine_support::digests::{Digest, digests};
use crate::engine_support::scans::{ScanSource, partition_of, record_of};
use crate::engine_support::{
    AggregatorRun, DATABASE, Engine, PATIENCE, drained, program, runtime, seeded,
};

pub const PARTITIONS: u32 = 3;
/// Drawn scans visit grids 1 to 5; this one is dissolved.
pub const DISSOLVED: SiteId = SiteId(3);

/// A data folder like that of `tongxing up`.
pub struct World {
    pub runtime: Runtime,
    pub folder: TempDir,
    pub source: ScanSource,
    pub random: ChaCha8Rng,
    pub counted: Counted,
}

/// Its log and its engine, while they are open.
pub struct Open<'a> {
    pub world: &'a mut World,
    pub log: SharedLog,
    pub engine: Engine,
}

impl World {
    pub fn new() -> Self {
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

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn fingerprint(&self) -> [u8; 8] {
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

    pub fn open(&mut self) -> Open<'_> {
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
    pub fn digests(&mut self) -> BTreeMap<String, Digest> {
        let open = self.open();
        let store = open.engine.store(DATABASE);
        open.world.runtime.block_on(digests(&store))
    }

    /// The command, and where its engine will answer.
    pub fn replay_command(&self) -> (Command, String) {
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

    pub fn replay(&self) -> Output {
        self.replay_command().0.output().unwrap()
    }

    pub fn assert_replayed(&self) -> String {
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
    pub fn append(&mut self, partition: Partition, record: Record) -> u64 {
        let append = self.log.append(SCANS, partition, vec![record]);
        self.world.runtime.block_on(append).unwrap().first
    }

    pub fn append_scan(&mut self, scan: &Scan) {
        let partition = partition_of(scan, PARTITIONS);
        let offset = self.append(partition, record_of(scan));
        self.world.counted.add(partition, offset, scan);
    }

    pub fn append_scans(&mut self, count: usize) {
        for _ in 0..count {
            let scan = self.world.source.next();
            self.append_scan(&scan);
        }
    }

    pub fn command(&mut self, body: Body) {
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

    pub fn import_grids(&mut self) {
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

    pub fn aggregate(&self) -> AggregatorRun {
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

    pub fn drain(&self, run: &AggregatorRun) {
        self.world.runtime.block_on(drained(&self.log, run));
    }

    /// The rows that still lead to a dissolved grid.
    pub fn rows_of(&self, grid: SiteId) -> u64 {
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
    pub fn change_facts(&mut self, count: u64) {
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

    pub fn dead_letters(&self) -> u64 {
        let bounds = self.log.bounds(DEAD_LETTERS, 0);
        self.world.runtime.block_on(bounds).unwrap().end
    }

    /// Follows names as a deployment does, until the aggregator is done.
    pub fn aggregate_everything(&mut self) -> Result<(), AggregatorError> {
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
pub fn eventful(scans: usize) -> World {
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
