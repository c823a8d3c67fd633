//! Claims: the migrations give a cluster's schema that the real engine reads, and whose tables it makes; everything that reads,
//! inserts, proves and rebuilds does the same through it as on one server.
//!
//! The embedded engine speaks no protocol between servers, so the second claim is tried on a cluster of one server without
//! replicas, and replicated tables are made, with Keeper's stand-in in memory, but not written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::collections::BTreeSet;
use std::path::Path;

use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of};
use engine_support::{DATABASE, Engine, seeded};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scan_model::Timestamp;
use warehouse::boot_marks::BootMark;
use warehouse::ownership::Epoch;
use warehouse::scan_rows::{self, LogPlace, insert_statement, running_inserts};
use warehouse::slices::{self, Slice};
use warehouse::{Cluster, Store, Topology, completeness, replicas, retention, schema};

const PARTITIONS: u32 = 3;
/// What the engine's servers are told of themselves: it reads `config.xml` in the folder that it is started in.
const CONFIGURATION: &str = "<clickhouse>
  <tcp_port>9000</tcp_port>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  <macros><shard>01</shard><replica>a</replica></macros>
  <remote_servers><main><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></main></remote_servers>
</clickhouse>";

fn engine_of_a_cluster(folder: &Path) -> Engine {
    std::fs::write(folder.join("config.xml"), CONFIGURATION).unwrap();
    Engine::start(folder)
}

fn replicated() -> Topology {
    Topology::Cluster(Cluster::new("main").unwrap())
}

fn without_replicas() -> Topology {
    Topology::Cluster(Cluster::new("main").unwrap().without_replicas())
}

/// The first column of every row, as text.
async fn texts(store: &Store, sql: &str, parameters: &[(&str, String)]) -> Vec<String> {
    let bytes = store.read(sql, parameters, "TSVRaw").await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn every_statement_for_a_cluster_is_one_that_the_engine_reads() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.store(DATABASE).with_topology(replicated());
    let asking = engine.store("default");
    let mut statements: Vec<String> = schema::all_statements(store.topology(), DATABASE)
        .unwrap()
        .into_iter()
        .map(|shaped| shaped.sql)
        .collect();
    let on_cluster = statements
        .iter()
        .filter(|s| s.contains(" ON CLUSTER 'main'"));
    assert_eq!(on_cluster.count(), statements.len());
    statements.extend(replicas::catching_up(&store, "scans"));
    for days in [Some(97), None] {
        let period = "toMonday(toDate(event_time))";
        statements.extend(retention::statements(&store, "scans", period, days));
    }
    statements.push(insert_statement(3, Epoch::UNCLAIMED));
    for statement in statements {
        let sql = "SELECT formatQuery({statement:String})";
        let read = texts(&asking, sql, &[("statement", statement)]).await;
        assert!(!read.is_empty());
    }
}

#[tokio::test]
async fn replicated_and_distributed_tables_are_made_as_declared() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine_of_a_cluster(folder.path());
    let server = engine.store("default");
    for database in [DATABASE, "tongxing_shard"] {
        let create = format!("CREATE DATABASE {database}");
        server.execute(&create).await.unwrap();
    }
    for shaped in schema::all_statements(&replicated(), DATABASE).unwrap() {
        // The engine takes no DDL for others, and settings of a table once it is written to.
        let sql = shaped.sql.replace(" ON CLUSTER 'main'", "");
        if sql.starts_with("CREATE ") {
            let store = engine.store(&shaped.database);
            store.execute(&sql).await.unwrap();
        }
    }
    let made = texts(
        &server,
        "SELECT concat(database, '.', name, ' ', engine) FROM system.tables
         WHERE startsWith(database, 'tongxing') ORDER BY database, name",
        &[],
    )
    .await;
    assert_eq!(
        made,
        [
            "tongxing.boot_marks Distributed",
            "tongxing.completeness ReplicatedReplacingMergeTree",
            "tongxing.corrections Distributed",
            "tongxing.deployment ReplicatedReplacingMergeTree",
            "tongxing.divisions ReplicatedReplacingMergeTree",
            "tongxing.fact_history Distributed",
            "tongxing.grid_day Distributed",
            "tongxing.region_hour Distributed",
            "tongxing.scans Distributed",
            "tongxing.schema_migrations ReplicatedReplacingMergeTree",
            "tongxing.sites ReplicatedReplacingMergeTree",
            "tongxing.superseded_scans View",
            "tongxing.tester_day Distributed",
            "tongxing.venue_hour Distributed",
            "tongxing_shard.boot_marks Memory",
            "tongxing_shard.corrections ReplicatedMergeTree",
            "tongxing_shard.corrections_view MaterializedView",
            "tongxing_shard.fact_history ReplicatedReplacingMergeTree",
            "tongxing_shard.grid_day ReplicatedAggregatingMergeTree",
            "tongxing_shard.grid_day_view MaterializedView",
            "tongxing_shard.region_hour ReplicatedAggregatingMergeTree",
            "tongxing_shard.region_hour_view MaterializedView",
            "tongxing_shard.scans ReplicatedMergeTree",
            "tongxing_shard.tester_day ReplicatedAggregatingMergeTree",
            "tongxing_shard.tester_day_view MaterializedView",
            "tongxing_shard.venue_hour ReplicatedAggregatingMergeTree",
            "tongxing_shard.venue_hour_view MaterializedView",
        ]
    );
    let replicas = texts(
        &server,
        "SELECT concat(table, ' ', zookeeper_path, ' ', replica_name) FROM system.replicas
         WHERE table IN ('scans', 'sites') ORDER BY table",
        &[],
    )
    .await;
    assert_eq!(
        replicas,
        [
            "scans /clickhouse/tables/01/tongxing_shard/scans a",
            "sites /clickhouse/tables/all/tongxing/sites 01-a",
        ]
    );
}

/// Inserts random scans as the aggregator does.
async fn fill(store: &Store) -> (Counted, BTreeSet<Slice>) {
    let mut counted = Counted::default();
    let mut source = ScanSource::new(ChaCha8Rng::from_rng(&mut seeded()));
    let (mut slices, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for first in (0..1_200_u64).step_by(300) {
        let mut rows = vec![Vec::new(); PARTITIONS as usize];
        for log_offset in first..first + 300 {
            let scan = source.next();
            let log_partition = partition_of(&scan, PARTITIONS);
            counted.add(log_partition, log_offset, &scan);
            if seen.insert(scan.scan_id) {
                let place = LogPlace {
                    log_partition,
                    log_offset,
                    appended_at: Timestamp::now(),
                };
                scan_rows::encode(&mut rows[log_partition as usize], place, &scan);
                slices.insert(Slice::of(log_partition, scan.event_time));
            }
        }
        for (log_partition, rows) in (0..).zip(rows) {
            let statement = insert_statement(log_partition, Epoch::UNCLAIMED);
            store.insert(&statement, rows.into()).await.unwrap();
        }
    }
    (counted, slices)
}

#[tokio::test]
async fn a_cluster_counts_proves_and_mends_as_one_server_does() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine_of_a_cluster(folder.path());
    let store = engine.store(DATABASE).with_topology(without_replicas());
    assert!(schema::migrate(&store).await.unwrap() > 0);
    assert_eq!(schema::migrate(&store).await.unwrap(), 0);
    schema::check_fingerprint(&store, [1; 8]).await.unwrap();
    let (counted, slices) = fill(&store).await;
    // Every table through its Distributed one, corrections' view included.
    assert_eq!(counted.differences(&store).await, [""; 0]);
    assert_eq!(slices::all_slices(&store).await.unwrap(), slices);
    let first = *slices.first().unwrap();
    let touched = slices::touched_lately(&store, first.log_partition);
    assert!(touched.await.unwrap().contains(&first));

    let partition = format!("({}, toDate({}))", first.log_partition, first.monday);
    for damage in [
        format!("ALTER TABLE tongxing_shard.venue_hour DROP PARTITION {partition}"),
        format!(
            "INSERT INTO tongxing_shard.region_hour SELECT * FROM tongxing_shard.region_hour WHERE _partition_value = {partition}"
        ),
    ] {
        store.execute(&damage).await.unwrap();
    }
    let damaged = ["region_hour", "venue_hour"].map(|table| (table.to_owned(), first));
    let found = slices::find_differences(&store, &slices).await.unwrap();
    assert_eq!(found, damaged);
    let proof = slices::prove_and_repair(&store, &slices).await.unwrap();
    assert_eq!(proof.rebuilt, damaged);
    assert_eq!(counted.differences(&store).await, [""; 0]);
    let staging = "SELECT name FROM system.tables WHERE name LIKE '%staging%'";
    assert_eq!(texts(&store, staging, &[]).await, [""; 0]);

    let ours = (0..PARTITIONS).collect();
    assert_eq!(running_inserts(&store, &ours).await.unwrap(), 0);
    let instant = Timestamp(1_700_000_000_000);
    completeness::publish(&store, 1, &[(0, instant)])
        .await
        .unwrap();
    assert_eq!(completeness::read(&store).await.unwrap(), Some(instant));
}

#[tokio::test]
async fn a_restart_is_noticed_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine_of_a_cluster(folder.path());
    let store = engine.store(DATABASE).with_topology(without_replicas());
    schema::migrate(&store).await.unwrap();
    // A server must be older than its mark by more than clocks are exact.
    let mark = loop {
        let mark = BootMark::set(&store, "a").await.unwrap();
        if mark.holds(&store).await.unwrap() {
            break mark;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    mark.note_proven(&store, 1).await.unwrap();
    assert!(BootMark::is_proven(&store, 1).await.unwrap());
    assert!(!BootMark::is_proven(&store, 2).await.unwrap());
    engine.kill();
    engine.restart();
    let store = engine.store(DATABASE).with_topology(without_replicas());
    assert!(!mark.holds(&store).await.unwrap());
    assert!(!BootMark::is_proven(&store, 1).await.unwrap());
}
