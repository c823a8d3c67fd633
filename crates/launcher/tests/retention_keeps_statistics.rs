//! Claim: raw scans leave by whole slices when they are old enough, and the statistics that were counted from them stay: no
//! proof takes out of a rollup what raw no longer holds, not even after raw is to be kept for ever again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use engine_support::scans::ScanSource;
use engine_support::{DATABASE, Engine, PATIENCE, seeded};
use query::corrected;
use query::period::{Period, Step};
use query::scope::Records;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scan_model::Timestamp;
use scan_model::time::DAY_MS;
use serde::Deserialize;
use warehouse::ownership::Epoch;
use warehouse::retention::{self, Retention};
use warehouse::scan_rows::{self, LogPlace, insert_statement};
use warehouse::slices::{self, Slice};
use warehouse::{Store, schema};

const RECENT: u64 = 400;
const OLD: u64 = 400;

/// Registrations of old and of recent scans in a table.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Counts {
    old: u64,
    recent: u64,
}

async fn counts(store: &Store, table: &str, time: &str) -> Counts {
    let value = if table == "scans" {
        "registration"
    } else {
        "registrations"
    };
    let is_old = format!("toDate({time}) < today() - 50");
    let sql = format!(
        "SELECT sumIf({value}, {is_old}) AS old, sumIf({value}, NOT ({is_old})) AS recent FROM {table}"
    );
    store.row(&sql, &[]).await.unwrap()
}

/// Scans of now and of a hundred days ago.
async fn fill(store: &Store) -> BTreeSet<Slice> {
    let mut source = ScanSource::new(ChaCha8Rng::from_rng(&mut seeded()));
    let (mut rows, mut slices) = (Vec::new(), BTreeSet::new());
    for log_offset in 0..RECENT + OLD {
        let mut scan = source.next();
        let age = if log_offset < OLD { 100 * DAY_MS } else { 0 };
        scan.event_time = Timestamp(Timestamp::now().0 - age);
        let place = LogPlace {
            log_partition: 0,
            log_offset,
            appended_at: Timestamp::now(),
        };
        scan_rows::encode(&mut rows, place, &scan);
        slices.insert(Slice::of(0, scan.event_time));
    }
    let statement = insert_statement(0, Epoch::UNCLAIMED);
    store.insert(&statement, rows.into()).await.unwrap();
    slices
}

#[tokio::test]
async fn x8_inv5_statistics_outlive_the_raw_scans_that_left() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.store(DATABASE);
    schema::migrate(&store).await.unwrap();
    let slices = fill(&store).await;
    let before = counts(&store, "region_hour", "hour").await;
    assert!(before.old > 0 && before.recent > 0, "{before:?}");

    let kept = Retention::new(60, 0).unwrap();
    let changed = retention::apply(&store, kept).await.unwrap();
    assert_eq!(changed, ["corrections", "fact_history", "scans"]);
    assert_eq!(retention::apply(&store, kept).await.unwrap(), [""; 0]);
    let started = Instant::now();
    let raw = loop {
        store.execute("OPTIMIZE TABLE scans FINAL").await.unwrap();
        let raw = counts(&store, "scans", "event_time").await;
        if raw.old == 0 {
            break raw;
        }
        assert!(started.elapsed() < PATIENCE, "raw does not leave: {raw:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(raw.recent > 0, "recent raw scans stay: {raw:?}");

    let proof = slices::prove_and_repair(&store, &slices).await.unwrap();
    assert_eq!((proof.rebuilt, proof.beyond_retention), (Vec::new(), 1));
    assert_eq!(counts(&store, "region_hour", "hour").await, before);
    let differences = slices::find_differences(&store, &slices).await.unwrap();
    assert_eq!(differences, []);

    refuses_corrected(&store).await;

    // Kept for ever again: what has left is not proven either.
    let for_ever = Retention::default();
    let changed = retention::apply(&store, for_ever).await.unwrap();
    assert_eq!(changed, ["corrections", "fact_history", "scans"]);
    let proof = slices::prove_and_repair(&store, &slices).await.unwrap();
    assert_eq!((proof.rebuilt, proof.beyond_retention), (Vec::new(), 1));
    assert_eq!(counts(&store, "region_hour", "hour").await, before);
    refuses_corrected(&store).await;
}

/// Corrected figures are refused where raw scans have left, and answered where they have not.
async fn refuses_corrected(store: &Store) {
    let day = |age: i64| Timestamp::now().plus_ms(-age * DAY_MS).to_rfc3339();
    let check = async |age: i64, records| {
        let now = Timestamp::now();
        let period = Period::read(Some(&day(age)), Some(&day(age - 1)), Step::Day, now).unwrap();
        corrected::check(store, period, records).await
    };
    let refused = check(100, Records::Corrected).await.unwrap_err();
    let refused = serde_json::to_string(&refused).unwrap();
    assert!(refused.contains("raw_kept"), "{refused}");
    assert!(check(100, Records::All).await.is_ok());
    assert!(check(10, Records::Corrected).await.is_ok());
}

#[tokio::test]
async fn inv5_statistics_leave_too_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.store(DATABASE);
    schema::migrate(&store).await.unwrap();
    fill(&store).await;
    let kept = Retention::new(60, 60).unwrap();
    retention::apply(&store, kept).await.unwrap();
    let started = Instant::now();
    loop {
        let optimize = "OPTIMIZE TABLE region_hour FINAL";
        store.execute(optimize).await.unwrap();
        let left = counts(&store, "region_hour", "hour").await;
        if left.old == 0 {
            assert!(left.recent > 0, "{left:?}");
            return;
        }
        assert!(started.elapsed() < PATIENCE, "they do not leave: {left:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
