//! Claim: an insert that is still under way is seen, under its log partition, by whoever settles that partition; others' are not
//! waited for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use engine_support::scans::ScanSource;
use engine_support::{DATABASE, Engine, PATIENCE, seeded};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scan_model::Timestamp;
use warehouse::ownership::Epoch;
use warehouse::scan_rows::{self, LogPlace, insert_statement, running_inserts};

/// Enough that the insert takes a while.
const ROWS: u64 = 300_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_under_way_is_seen_under_its_partition_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.migrated_store().await;
    let mut source = ScanSource::new(ChaCha8Rng::from_rng(&mut seeded()));
    let mut rows = Vec::new();
    let mut scan = source.next();
    for log_offset in 0..ROWS {
        if log_offset % 100 == 0 {
            scan = source.next();
        }
        let place = LogPlace {
            log_partition: 3,
            log_offset,
            appended_at: Timestamp::now(),
        };
        scan_rows::encode(&mut rows, place, &scan);
    }
    let inserting = tokio::spawn({
        let store = engine.store(DATABASE);
        async move {
            store
                .insert(&insert_statement(3, Epoch::UNCLAIMED), rows.into())
                .await
        }
    });
    let count = async |partition| {
        let partitions = BTreeSet::from([partition]);
        running_inserts(&store, &partitions).await.unwrap()
    };
    let started = Instant::now();
    while count(3).await == 0 {
        assert!(!inserting.is_finished(), "the insert was not seen");
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((count(4).await, count(30).await), (0, 0));
    inserting.await.unwrap().unwrap();
    assert_eq!(count(3).await, 0);
}
