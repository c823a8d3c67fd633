//! Claim (INV-1): the store refuses an insert under an older claim than the newest of its log partition, whenever it arrives, and
//! takes those of other partitions and of the owner.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use engine_support::scans::ScanSource;
use engine_support::{DATABASE, Engine, seeded};
use scan_model::Timestamp;
use serde::Deserialize;
use warehouse::ownership::{Epoch, claim};
use warehouse::scan_rows::{self, LogPlace, insert_statement};
use warehouse::{Store, StoreError};

#[derive(Deserialize)]
struct Count {
    rows: u64,
}

async fn insert(store: &Store, partition: u32, epoch: Epoch) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    let place = LogPlace {
        log_partition: partition,
        log_offset: 0,
        appended_at: Timestamp::now(),
    };
    scan_rows::encode(&mut rows, place, &ScanSource::new(seeded()).next());
    store
        .insert(&insert_statement(partition, epoch), rows.into())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_an_insert_under_an_older_claim_is_refused_and_inserts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(folder.path());
    let store = engine.migrated_store().await;

    let former = claim(&store, 3).await.unwrap();
    insert(&store, 3, former).await.unwrap();
    let owner = claim(&store, 3).await.unwrap();
    assert!(owner > former);
    let refused = insert(&store, 3, former).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    insert(&store, 3, owner).await.unwrap();
    insert(&store, 4, Epoch(0)).await.unwrap();

    // A claim outlives the engine.
    drop(store);
    engine.kill();
    engine.restart();
    let store = engine.store(DATABASE);
    let refused = insert(&store, 3, former).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    let count: Count = store
        .row("SELECT count() AS rows FROM scans", &[])
        .await
        .unwrap();
    assert_eq!(count.rows, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_of_claims_at_once_one_is_the_newest_and_the_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.migrated_store().await;
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        claims.spawn(async move { claim(&store, 0).await.unwrap() });
    }
    let epochs: Vec<Epoch> = claims.join_all().await;
    let mut taken = 0;
    for epoch in &epochs {
        match insert(&store, 0, *epoch).await {
            Ok(()) => {
                taken += 1;
                assert_eq!(Some(epoch), epochs.iter().max());
            }
            Err(StoreError::Fenced(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(taken, 1);
}
