//! A cluster of real processes under a reconciled load: brokers, the engine behind a proxy that can fail, ingest nodes,
//! aggregators; every acknowledged scan is compared with raw and with every rollup in the end.
// Each test file uses its own share of this.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../engine_support/mod.rs"]
pub mod engine_support;
#[path = "../../../event-log/tests/kafka_support/mod.rs"]
pub mod kafka_support;
pub mod load;
pub mod people;
pub mod processes;
pub mod reconciling;
pub mod scenario;
pub mod store_proxy;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use engine_support::{DATABASE, Engine, program};
use event_log::{KafkaLog, SharedLog};
use ingest::topics::{Retention, all};
use kafka_support::Kafka;
use processes::Service;
use store_proxy::StoreProxy;
use tempfile::TempDir;
use warehouse::Store;

/// No test waits longer for something that must happen.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// How often a condition is looked at.
pub const GLANCE: Duration = Duration::from_millis(20);
/// Partitions of the person-keyed topics.
pub const PARTITIONS: u32 = 4;
/// After this long without a word from an aggregator Kafka gives its partitions to another.
pub const SESSION: Duration = Duration::from_secs(3);

/// What every process of the cluster is told.
pub struct Cluster {
    pub kafka: Kafka,
    pub engine: Engine,
    /// Stands between the aggregators and the engine.
    pub proxy: StoreProxy,
    brokers: u32,
    folder: TempDir,
}

impl Cluster {
    /// With one broker.
    pub async fn start() -> Self {
        Self::with_brokers(1).await
    }

    /// With one broker or three; with three, records are as durable as INV-7 asks for.
    pub async fn with_brokers(brokers: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kafka = std::thread::spawn(move || Kafka::start(brokers));
        let engine = Engine::start(&folder.path().join("clickhouse"));
        let kafka = kafka.join().unwrap();
        let proxy = StoreProxy::start(engine.address).await;
        let cluster = Self {
            kafka,
            engine,
            proxy,
            brokers,
            folder,
        };
        let created = cluster.command(&["keys", "create"]).output().unwrap();
        assert!(created.status.success(), "{created:?}");
        let topics = cluster.command(&["topics"]).output().unwrap();
        let printed = String::from_utf8_lossy(&topics.stdout);
        assert!(topics.status.success(), "{topics:?}");
        assert!(printed.contains("topics are as declared"), "{printed}");
        cluster
    }

    /// A `tongxing` command against this cluster, with none of the caller's own configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&program(), arguments)
    }

    /// The same with another build of the program.
    pub fn command_of(&self, program: &std::path::Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let stays = ["TONGXING_CACHE", "TONGXING_ENGINE_LIBRARY"].contains(&name.as_str());
            if name.starts_with("TONGXING_") && !stays {
                command.env_remove(name);
            }
        }
        let (replication, in_sync) = if self.brokers == 3 {
            ("3", "2")
        } else {
            ("1", "1")
        };
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TONGXING_KAFKA_BOOTSTRAP", &self.kafka.bootstrap)
            .env("TONGXING_KAFKA_REPLICATION", replication)
            .env("TONGXING_KAFKA_IN_SYNC", in_sync)
            .env("TONGXING_KAFKA_SESSION_MS", SESSION.as_millis().to_string())
            .env("TONGXING_PARTITIONS", PARTITIONS.to_string())
            .env("TONGXING_CLICKHOUSE_URL", self.engine.url())
            .env(
                "TONGXING_LOG",
                std::env::var("RUST_LOG").unwrap_or("warn".into()),
            )
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        command
    }

    /// What a tool of this cluster prints and how it ends.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// An ingest node with a data folder of its own, ready.
    pub async fn ingest(&self, name: &str) -> Service {
        let mut service = self.stopped_ingest(name);
        service.start(self).await;
        service
    }

    pub fn stopped_ingest(&self, name: &str) -> Service {
        let log = self.path(&format!("{name}.log"));
        Service::with_data(name, &["ingest"], log, self.path(name))
    }

    /// An aggregator that writes through the proxy, ready.
    pub async fn aggregator(&self, name: &str) -> Service {
        let mut service = self.stopped_aggregator(name);
        service.start(self).await;
        service
    }

    pub fn stopped_aggregator(&self, name: &str) -> Service {
        let url = self.proxy.url();
        self.stopped(name, &["aggregator", "--clickhouse-url", &url])
    }

    /// Any service, ready.
    pub async fn service(&self, name: &str, arguments: &[&str]) -> Service {
        let mut service = self.stopped(name, arguments);
        service.start(self).await;
        service
    }

    /// A service with a port of its own that is yet to be started.
    pub fn stopped(&self, name: &str, arguments: &[&str]) -> Service {
        let log = self.folder.path().join(format!("{name}.log"));
        Service::new(name, arguments, log)
    }

    pub fn secret(&self, name: &str) -> String {
        let file = self.folder.path().join("data/keys/api-secrets").join(name);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// The secret under which documents and operators are hashed.
    pub fn person_key(&self) -> scan_model::PersonKey {
        let file = self.folder.path().join("data/keys/person.key");
        let text = std::fs::read_to_string(file).unwrap();
        let byte = |n: usize| u8::from_str_radix(&text[n * 2..n * 2 + 2], 16).unwrap();
        scan_model::PersonKey::new(&std::array::from_fn(byte))
    }

    pub fn fresh_folder(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The log as another client sees it.
    pub fn log(&self) -> SharedLog {
        let topics = all(PARTITIONS, Retention::default());
        let log = KafkaLog::connect(self.kafka.options(), topics);
        std::sync::Arc::new(log.unwrap())
    }

    /// The store, past the proxy.
    pub fn store(&self) -> Store {
        self.engine.store(DATABASE)
    }

    /// Runs one of Kafka's own tools and answers what it printed.
    pub fn kafka_tool(&self, class: &str, arguments: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka.sh");
        let fetched = Command::new("bash")
            .args([script, "fetch"])
            .output()
            .unwrap();
        let archives = String::from_utf8(fetched.stdout).unwrap();
        let output = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", archives.trim()))
            .arg(class)
            .args(["--bootstrap-server", &self.kafka.bootstrap])
            .args(arguments)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class}: {printed}\n{complaint}");
        printed
    }
}

/// Waits for a condition, with the bound that every wait here has.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}
