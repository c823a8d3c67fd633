//! Claims: what `tongxing dead-letters` and `tongxing replay` promise of a local log they keep over a Kafka cluster: a letter whose
//! store was mended is sent again and counts once (INV-1); a replay refuses beside a running aggregator, builds the same tables
//! while ingest's topic goes on growing, and the aggregator goes on where it ended (INV-5).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster_support;

use std::process::Output;

use aggregator::SCANS;
use cluster_support::engine_support::counted::Counted;
use cluster_support::engine_support::digests::digests;
use cluster_support::engine_support::scans::{ScanSource, partition_of, record_of};
use cluster_support::engine_support::seeded;
use cluster_support::processes::Service;
use cluster_support::reconciling::{assert_counted_once, wait_settled, wait_taken_over};
use cluster_support::{Cluster, PARTITIONS};
use event_log::SharedLog;
use scan_model::{PersonId, Scan};

/// A person whose scans the store refuses while it is broken.
const REFUSED: PersonId = PersonId(0xDEAD);

struct World {
    cluster: Cluster,
    log: SharedLog,
    source: ScanSource,
    counted: Counted,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        Self {
            log: cluster.log(),
            cluster,
            source: ScanSource::new(seeded()),
            counted: Counted::default(),
        }
    }

    async fn append(&mut self, scan: &Scan) -> u64 {
        let partition = partition_of(scan, PARTITIONS);
        let append = self.log.append(SCANS, partition, vec![record_of(scan)]);
        append.await.unwrap().first
    }

    /// Appends drawn scans and counts them.
    async fn append_scans(&mut self, count: usize) {
        let scans: Vec<Scan> = (0..count).map(|_| self.source.next()).collect();
        self.append_counted(&scans).await;
    }

    async fn append_counted(&mut self, scans: &[Scan]) {
        for partition in 0..PARTITIONS {
            let scans = scans
                .iter()
                .filter(|scan| partition_of(scan, PARTITIONS) == partition);
            let scans: Vec<&Scan> = scans.collect();
            if scans.is_empty() {
                continue;
            }
            let records = scans.iter().map(|scan| record_of(scan)).collect();
            let appended = self.log.append(SCANS, partition, records).await.unwrap();
            // Nobody else appends, so the offsets follow each other.
            for (offset, scan) in (appended.first..).zip(scans) {
                self.counted.add(partition, offset, scan);
            }
        }
    }

    async fn settled(&self, aggregator: &Service) {
        wait_settled(&self.cluster, &[], std::slice::from_ref(aggregator), None).await;
    }

    async fn execute(&self, sql: &str) {
        self.cluster.store().execute(sql).await.unwrap();
    }

    /// Runs a tool that must succeed, and answers what it printed.
    async fn said(&self, arguments: &[&str]) -> String {
        let (succeeded, printed) = self.tool(arguments).await;
        assert!(succeeded, "{printed}");
        printed
    }

    /// Whether a tool succeeded, and what it printed, errors behind the rest.
    async fn tool(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.cluster.command(arguments);
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let Output {
            status,
            stdout,
            stderr,
        } = run.await.unwrap();
        let printed = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
        (status.success(), printed.into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_a_letter_is_sent_again_over_kafka_and_counts_once() {
    let mut world = World::new().await;
    let aggregator = world.cluster.aggregator("aggregator").await;
    wait_taken_over(&world.cluster).await;
    world.append_scans(200).await;
    world.settled(&aggregator).await;
    // Stands for whatever a store may refuse: an insert with this person fails as a whole.
    let guard = format!(
        "ALTER TABLE scans ADD COLUMN guard UInt8 MATERIALIZED throwIf(person = {})",
        REFUSED.0
    );
    world.execute(&guard).await;
    let mut scan = world.source.next();
    (scan.person, scan.corrects) = (REFUSED, None);
    let offset = world.append(&scan).await;
    world.append_scans(200).await;
    world.settled(&aggregator).await;
    assert_counted_once(&world.cluster, &world.counted).await;

    let listed = world.said(&["dead-letters", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    let letters = listed.as_array().unwrap();
    assert_eq!(letters.len(), 1, "{listed}");
    assert_eq!(letters[0]["offset"], offset);
    assert_eq!(letters[0]["state"], "open");

    world.execute("ALTER TABLE scans DROP COLUMN guard").await;
    let sent = world.said(&["dead-letters", "redrive", "--all"]).await;
    assert!(sent.contains("1 sent again, 0 not"), "{sent}");
    let listed = world.said(&["dead-letters", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    let as_offset = listed[0]["redriven"][0]["as_offset"].as_u64().unwrap();
    let partition = partition_of(&scan, PARTITIONS);
    world.counted.add(partition, as_offset, &scan);
    world.settled(&aggregator).await;
    assert_counted_once(&world.cluster, &world.counted).await;

    // Sent once more, it is recognised.
    world
        .said(&["dead-letters", "redrive", "--all", "--again"])
        .await;
    world.append_scans(50).await;
    world.settled(&aggregator).await;
    assert_counted_once(&world.cluster, &world.counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv5_a_replay_over_kafka_gives_the_same_tables_and_the_aggregator_goes_on() {
    let mut world = World::new().await;
    let mut aggregator = world.cluster.aggregator("aggregator").await;
    wait_taken_over(&world.cluster).await;
    let first: Vec<Scan> = (0..50).map(|_| world.source.next()).collect();
    world.append_counted(&first).await;
    world.append_scans(2_000).await;
    // Copies count once, in the live tables and in those that are built.
    world.append_counted(&first).await;
    world.settled(&aggregator).await;
    assert_counted_once(&world.cluster, &world.counted).await;

    let (succeeded, refused) = world
        .tool(&["replay", "cluster", "--wait-seconds", "5"])
        .await;
    assert!(
        !succeeded && refused.contains("stop every aggregator"),
        "{refused}"
    );
    let before = digests(&world.cluster.store()).await;

    aggregator.stop().await;
    // What comes meanwhile waits for the aggregator.
    world.append_scans(300).await;
    let replayed = world.said(&["replay", "cluster"]).await;
    assert!(replayed.contains("the built tables are live"), "{replayed}");
    assert_eq!(digests(&world.cluster.store()).await, before);

    aggregator.start(&world.cluster).await;
    world.settled(&aggregator).await;
    assert_counted_once(&world.cluster, &world.counted).await;
}
