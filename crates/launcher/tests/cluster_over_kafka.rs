//! Claim (INV-1 in the cluster deployment): with two ingest nodes and two aggregators over a real Kafka broker and a ClickHouse
//! interface, every acknowledged scan is counted exactly once, whichever of the processes is killed under load.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;
#[path = "../../event-log/tests/kafka_support/mod.rs"]
mod kafka_support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_support::{Engine, is_long, program, seeded};
use kafka_support::{Kafka, PATIENCE};
use loadtest::client::{Client, Endpoint};
use loadtest::generator::{self, Live, LoadPlan};
use loadtest::profile::Profile;
use loadtest::traffic::Traffic;
use loadtest::{setup, verify};
use rand::Rng;
use scan_model::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

/// What every process of the cluster is told.
struct Cluster {
    kafka: Kafka,
    engine: Engine,
    folder: TempDir,
}

/// One process, started again where it was.
struct Service {
    command: Vec<String>,
    listen: String,
    child: Option<Child>,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self {
            kafka: Kafka::start(1),
            engine: Engine::start(&folder.path().join("clickhouse")),
            folder,
        };
        let created = cluster.command(&["keys", "create"]).output().unwrap();
        assert!(created.status.success(), "{created:?}");
        let topics = cluster.command(&["topics"]).output().unwrap();
        let printed = String::from_utf8_lossy(&topics.stdout);
        assert!(topics.status.success(), "{topics:?}");
        assert!(printed.contains("8 topics are as declared"), "{printed}");
        cluster
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TONGXING_KAFKA_BOOTSTRAP", &self.kafka.bootstrap)
            .env("TONGXING_KAFKA_REPLICATION", "1")
            .env("TONGXING_KAFKA_IN_SYNC", "1")
            .env("TONGXING_PARTITIONS", "4")
            .env("TONGXING_CLICKHOUSE_URL", self.engine.url())
            .env("TONGXING_LINGER_MS", "50")
            .env("RUST_BACKTRACE", "0");
        command
    }

    async fn service(&self, arguments: &[&str]) -> Service {
        let mut service = Self::stopped_service(arguments);
        service.start(self).await;
        service
    }

    /// A service with a port of its own that is yet to be started.
    fn stopped_service(arguments: &[&str]) -> Service {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        drop(free);
        let mut command: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        command.extend(["--listen".to_owned(), listen.clone()]);
        Service {
            command,
            listen,
            child: None,
        }
    }

    fn secret(&self, name: &str) -> String {
        let file = self.folder.path().join("data/keys/api-secrets").join(name);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn fresh_folder(&self, name: &str) -> String {
        Path::new(self.folder.path())
            .join(name)
            .display()
            .to_string()
    }
}

impl Service {
    fn spawn(&mut self, cluster: &Cluster) {
        let arguments: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let child = cluster.command(&arguments).stdout(Stdio::null()).spawn();
        self.child = Some(child.unwrap());
    }

    /// Starts it and waits until it is ready.
    async fn start(&mut self, cluster: &Cluster) {
        self.spawn(cluster);
        let started = Instant::now();
        let mut client = Client::new(self.endpoint(), String::new());
        while client
            .get("/readyz")
            .await
            .map_or(0, |answer| answer.status)
            != 200
        {
            assert!(
                started.elapsed() < PATIENCE,
                "{:?} is not ready",
                self.command
            );
            let child = self.child.as_mut().unwrap();
            assert!(
                child.try_wait().unwrap().is_none(),
                "{:?} ended",
                self.command
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&format!("http://{}", self.listen)).unwrap()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_whatever_is_killed_every_acknowledged_scan_is_counted_once() {
    let mut random = seeded();
    let mut cluster = Cluster::start();
    let node_folders = [
        cluster.fresh_folder("node-1"),
        cluster.fresh_folder("node-2"),
    ];
    let mut ingest = cluster
        .service(&["ingest", "--data", &node_folders[0]])
        .await;
    let other_ingest = cluster
        .service(&["ingest", "--data", &node_folders[1]])
        .await;
    let mut aggregators = [
        cluster.service(&["aggregator"]).await,
        cluster.service(&["aggregator"]).await,
    ];
    let query = cluster.service(&["query"]).await;

    let profile = Profile::guangdong_weekday().unwrap();
    let mut feed = Client::new(other_ingest.endpoint(), cluster.secret("synthetic-feed"));
    let setting = setup::set_up(&mut feed, random.random(), &profile, 500, |_, _, _| {})
        .await
        .unwrap();
    let traffic = Traffic::new(random.random(), profile, &setting.world, setting.codes).unwrap();
    let plan = LoadPlan {
        lookups_per_second: 50,
        check_ins_per_second: 300,
        duration: Duration::from_secs(if is_long() { 300 } else { 30 }),
        connections: 8,
    };
    // The people were enrolled through one node and are scanned at the other.
    let (endpoint, secret) = (ingest.endpoint(), cluster.secret("synthetic-load"));
    let live = Arc::new(Live::default());
    let duration = plan.duration;
    let load =
        tokio::spawn(
            async move { generator::run(&plan, &endpoint, &secret, traffic, &live).await },
        );

    let started = Instant::now();
    let mut kills = [0; 3];
    while started.elapsed() < duration {
        tokio::time::sleep(Duration::from_millis(random.random_range(1_000..4_000))).await;
        let victim = random.random_range(0..3);
        kills[victim] += 1;
        match victim {
            0 => {
                ingest.kill();
                ingest.start(&cluster).await;
            }
            1 => {
                let aggregator = &mut aggregators[random.random_range(0..2)];
                aggregator.kill();
                aggregator.start(&cluster).await;
            }
            _ => {
                cluster.engine.kill();
                cluster.engine.restart();
            }
        }
    }
    let outcome = load.await.unwrap().unwrap();
    println!(
        "{} scans acknowledged; killed: ingest {}, aggregators {}, engine {}",
        outcome.acknowledged.len(),
        kills[0],
        kills[1],
        kills[2]
    );
    let expected = verify::expected(&outcome.acknowledged);
    assert!(!expected.is_empty());
    verify::wait_complete(&query.endpoint(), Timestamp::now(), 2 * PATIENCE)
        .await
        .unwrap();
    let counted = verify::counted(&query.endpoint(), &expected).await.unwrap();
    let differences = verify::differences(&expected, &verify::Counts::new(), &counted);
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_refuses_topics_that_are_not_as_declared_and_says_what_is_weaker() {
    let cluster = Cluster::start();
    let refused = cluster
        .command(&["ingest", "--partitions", "5", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("partitions is 4, wanted 5"), "{said}");

    let compared = cluster
        .command(&["topics", "--compare", "--kafka-replication", "3"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stdout);
    assert!(!compared.status.success());
    assert!(said.contains("replication.factor is 1, wanted 3"), "{said}");

    let ingest = cluster.service(&["ingest"]).await;
    let mut client = Client::new(ingest.endpoint(), String::new());
    let ready: Value = serde_json::from_slice(&client.get("/readyz").await.unwrap().body).unwrap();
    let durability = ready["durability"].as_str().unwrap();
    assert!(durability.contains("weaker than INV-7"), "{durability}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_that_may_not_go_on_is_not_ready() {
    let cluster = Cluster::start();
    let first = cluster.service(&["aggregator"]).await;
    let query = cluster.service(&["query"]).await;
    // The first one gives the database its key's fingerprint.
    verify::wait_complete(&query.endpoint(), Timestamp::now(), PATIENCE)
        .await
        .unwrap();
    let other = cluster.fresh_folder("other-keys");
    let created = cluster
        .command(&["keys", "--folder", &other, "create"])
        .output();
    assert!(created.unwrap().status.success());
    let mut foreign = Cluster::stopped_service(&["aggregator", "--keys", &other]);
    foreign.spawn(&cluster);
    let mut client = Client::new(foreign.endpoint(), String::new());
    let started = Instant::now();
    while client
        .get("/readyz")
        .await
        .map_or(0, |answer| answer.status)
        != 503
    {
        assert!(started.elapsed() < PATIENCE, "it is still ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut client = Client::new(first.endpoint(), String::new());
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
}
