//! Claims: migrations are applied once and never under false pretences; the proof of rollups finds any damage and mends it,
//! and leaves alone what is whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::collections::BTreeSet;

use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of};
use engine_support::{DATABASE, Engine, seeded};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scan_model::{PersonKey, Timestamp};
use serde::Deserialize;
use tempfile::TempDir;
use warehouse::ownership::Epoch;
use warehouse::scan_rows::{self, LogPlace};
use warehouse::schema::{self, SchemaError};
use warehouse::slices::{self, Slice};
use warehouse::{Store, StoreError};

const PARTITIONS: u32 = 2;
/// The rollups that statistics and the console read.
const ROLLUPS: [&str; 5] = [
    "corrections",
    "grid_day",
    "region_hour",
    "tester_day",
    "venue_hour",
];

/// Migrations of this build.
const MIGRATIONS: u32 = 10;

async fn engine_with_schema() -> (TempDir, Engine, Store) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.migrated_store().await;
    (folder, engine, store)
}

/// The first column of every row, as text.
async fn texts(store: &Store, sql: &str) -> Vec<String> {
    let bytes = store.read(sql, &[], "TSVRaw").await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.store(DATABASE);
    let contents = "SELECT name, uuid, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name";
    let applied =
        "SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version";
    assert_eq!(schema::migrate(&store).await.unwrap(), MIGRATIONS);
    let before = (texts(&store, contents).await, texts(&store, applied).await);
    assert_eq!(before.1.len(), MIGRATIONS as usize);
    assert_eq!(schema::migrate(&store).await.unwrap(), 0);
    assert_eq!(
        (texts(&store, contents).await, texts(&store, applied).await),
        before
    );
}

#[tokio::test]
async fn an_interrupted_migration_is_run_again() {
    let (_folder, _engine, store) = engine_with_schema().await;
    let forget =
        "ALTER TABLE schema_migrations DELETE WHERE version >= 2 SETTINGS mutations_sync = 1";
    store.execute(forget).await.unwrap();
    store
        .execute("DROP VIEW tester_day_view SYNC")
        .await
        .unwrap();
    store.execute("DROP TABLE tester_day SYNC").await.unwrap();
    assert_eq!(schema::migrate(&store).await.unwrap(), MIGRATIONS - 1);
    assert_eq!(texts(&store, "EXISTS tester_day_view").await, ["1"]);
}

#[tokio::test]
async fn a_migration_that_was_applied_with_other_contents_is_refused() {
    let (_folder, _engine, store) = engine_with_schema().await;
    let edit = "ALTER TABLE schema_migrations UPDATE checksum = checksum + 1 WHERE version = 2 SETTINGS mutations_sync = 1";
    store.execute(edit).await.unwrap();
    let refused = schema::migrate(&store).await;
    assert!(
        matches!(&refused, Err(SchemaError::Changed(name)) if name == "0002_rollups"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_database_of_a_newer_build_is_refused() {
    let (_folder, _engine, store) = engine_with_schema().await;
    let newer =
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (99, '0099_later', 1)";
    store.execute(newer).await.unwrap();
    let refused = schema::migrate(&store).await;
    assert!(
        matches!(
            refused,
            Err(SchemaError::Newer {
                found: 99,
                known: MIGRATIONS
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_database_made_under_another_person_key_is_refused() {
    let (_folder, _engine, store) = engine_with_schema().await;
    let [ours, other] = [1, 2].map(|byte| PersonKey::new(&[byte; 32]).fingerprint());
    schema::check_fingerprint(&store, ours).await.unwrap();
    schema::check_fingerprint(&store, ours).await.unwrap();
    let refused = schema::check_fingerprint(&store, other).await;
    assert!(
        matches!(&refused, Err(SchemaError::ForeignKey { found, ours }) if found != ours),
        "{refused:?}"
    );
    schema::check_fingerprint(&store, ours).await.unwrap();
}

#[tokio::test]
async fn the_documented_tables_exist_and_outlive_a_power_cut() {
    let (_folder, _engine, store) = engine_with_schema().await;
    let views = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView' ORDER BY name";
    assert_eq!(
        texts(&store, views).await,
        ROLLUPS.map(|table| format!("{table}_view"))
    );
    for table in ROLLUPS.into_iter().chain(["scans", "fact_history"]) {
        let definition = texts(&store, &format!("SHOW CREATE TABLE {table}"))
            .await
            .join("\n");
        // What comes from the log is synced with the insert; a rollup is proven against raw (docs/decisions/0004).
        let is_synced = !ROLLUPS.contains(&table);
        let synced = u8::from(is_synced);
        for setting in [
            format!("fsync_after_insert = {synced}"),
            format!("fsync_part_directory = {synced}"),
            "min_rows_to_fsync_after_merge = 1".to_owned(),
            format!("old_parts_lifetime = {}", if is_synced { 480 } else { 60 }),
        ] {
            assert!(
                definition.contains(&setting),
                "{table} lacks {setting}: {definition}"
            );
        }
        assert!(
            definition.contains("PARTITION BY (log_partition, toMonday("),
            "{definition}"
        );
    }
}

/// Inserts random scans as the aggregator does.
async fn fill(store: &Store, random: &mut ChaCha8Rng) -> (Counted, BTreeSet<Slice>) {
    let mut counted = Counted::default();
    let mut source = ScanSource::new(rand::SeedableRng::from_rng(random));
    let mut slices = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for first in (0..1_200_u64).step_by(300) {
        let mut rows = Vec::new();
        for log_offset in first..first + 300 {
            let scan = source.next();
            let log_partition = partition_of(&scan, PARTITIONS);
            counted.add(log_partition, log_offset, &scan);
            if seen.insert(scan.scan_id) {
                let appended_at = Timestamp::now();
                let place = LogPlace {
                    log_partition,
                    log_offset,
                    appended_at,
                };
                scan_rows::encode(&mut rows, place, &scan);
                slices.insert(Slice::of(log_partition, scan.event_time));
            }
        }
        store
            .insert(
                &scan_rows::insert_statement(0, Epoch::UNCLAIMED),
                rows.into(),
            )
            .await
            .unwrap();
    }
    assert_eq!(slices.len(), 2 * PARTITIONS as usize);
    assert_eq!(slices::all_slices(store).await.unwrap(), slices);
    (counted, slices)
}

fn partition_expression(slice: Slice) -> String {
    format!("({}, toDate({}))", slice.log_partition, slice.monday)
}

#[tokio::test]
async fn any_damage_to_a_rollup_is_found_and_mended() {
    let mut random = seeded();
    let (_folder, _engine, store) = engine_with_schema().await;
    let (counted, slices) = fill(&store, &mut random).await;
    assert_eq!(counted.differences(&store).await, [""; 0]);
    let all: Vec<Slice> = slices.iter().copied().collect();
    let mut damaged = Vec::new();
    for (number, table) in ROLLUPS.into_iter().enumerate() {
        let slice = all[random.random_range(0..all.len())];
        let partition = partition_expression(slice);
        let copy = format!(
            "INSERT INTO {table} SELECT * FROM {table} WHERE _partition_value = {partition}"
        );
        // A share that is gone, one row twice, all rows twice.
        let damage = match (number + random.random_range(0..2)) % 3 {
            0 => format!("ALTER TABLE {table} DROP PARTITION {partition}"),
            1 => format!("{copy} LIMIT 1"),
            _ => copy,
        };
        store.execute(&damage).await.unwrap();
        damaged.push((table.to_owned(), slice));
        println!("{damage}");
    }
    let in_order = |mut found: Vec<(String, Slice)>| {
        found.sort();
        found
    };
    let found = slices::find_differences(&store, &slices).await.unwrap();
    assert_eq!(in_order(found), damaged);
    let proof = slices::prove_and_repair(&store, &slices).await.unwrap();
    assert_eq!(in_order(proof.rebuilt), damaged);
    assert_eq!(counted.differences(&store).await, [""; 0]);
    let staging = "SELECT name FROM system.tables WHERE name LIKE '%staging%'";
    assert_eq!(texts(&store, staging).await, [""; 0]);
}

#[tokio::test]
async fn rollup_rows_without_raw_rows_are_taken_out() {
    let mut random = seeded();
    let (_folder, _engine, store) = engine_with_schema().await;
    let (counted, mut slices) = fill(&store, &mut random).await;
    // A week, or a log partition, that raw knows nothing of.
    let from = slices.first().copied().unwrap();
    let elsewhere = Slice {
        log_partition: PARTITIONS,
        ..from
    };
    let copy = format!(
        "INSERT INTO grid_day SELECT * REPLACE ({PARTITIONS} AS log_partition) FROM grid_day WHERE _partition_value = {}",
        partition_expression(from)
    );
    store.execute(&copy).await.unwrap();
    slices.insert(elsewhere);
    let proof = slices::prove_and_repair(&store, &slices).await.unwrap();
    assert_eq!(proof.rebuilt, [("grid_day".to_owned(), elsewhere)]);
    assert_eq!(counted.differences(&store).await, [""; 0]);
}

#[tokio::test]
async fn a_whole_slice_is_left_alone() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct Part {
        table: String,
        name: String,
        modification_time: String,
    }
    async fn parts(store: &Store) -> Result<Vec<Part>, StoreError> {
        let sql =
            "SELECT table, name, toString(modification_time) AS modification_time FROM system.parts
                   WHERE database = currentDatabase() AND active ORDER BY table, name";
        store.rows(sql, &[]).await
    }
    let mut random = seeded();
    let (_folder, _engine, store) = engine_with_schema().await;
    let (counted, slices) = fill(&store, &mut random).await;
    // Merges would change the parts as well.
    for table in ROLLUPS.into_iter().chain(["scans"]) {
        store
            .execute(&format!("SYSTEM STOP MERGES {table}"))
            .await
            .unwrap();
    }
    let before = parts(&store).await.unwrap();
    let proof = slices::prove_and_repair(&store, &slices).await.unwrap();
    assert_eq!(proof.proven, ROLLUPS.len() * slices.len());
    assert_eq!(proof.rebuilt, []);
    assert_eq!(parts(&store).await.unwrap(), before);
    assert_eq!(counted.differences(&store).await, [""; 0]);
}
