//! Claim (INV-1): the store refuses an insert under any claim but the newest of its log partition, whenever it arrives, and takes those
//! of other partitions and of the owner.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use engine_support::scans::ScanSource;
use engine_support::{DATABASE, Engine, seeded};
use scan_model::Timestamp;
use serde::Deserialize;
use warehouse::ownership::{Epoch, claim};
use warehouse::scan_rows::{self, LogPlace, insert_statement};
use warehouse::{Store, StoreError};

/// Claims meet within a millisecond, and not in every round.
const ROUNDS: u32 = 8;

#[derive(Deserialize)]
struct Count {
    rows: u64,
}

async fn insert(store: &Store, partition: u32, epoch: Epoch) -> Result<(), StoreError> {
    insert_with(store, partition, &insert_statement(partition, epoch)).await
}

async fn insert_with(store: &Store, partition: u32, statement: &str) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    let place = LogPlace {
        log_partition: partition,
        log_offset: 0,
        appended_at: Timestamp::now(),
    };
    scan_rows::encode(&mut rows, place, &ScanSource::new(seeded()).next());
    store.insert(statement, rows.into()).await
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
    insert(&store, 4, Epoch::UNCLAIMED).await.unwrap();

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
    for partition in 0..ROUNDS {
        let mut claims = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            claims.spawn(async move { claim(&store, partition).await.unwrap() });
        }
        let epochs: Vec<Epoch> = claims.join_all().await;
        let newest = epochs.iter().max();
        for epoch in &epochs {
            let inserted = insert(&store, partition, *epoch).await;
            match inserted {
                Ok(()) => assert_eq!(Some(epoch), newest),
                Err(StoreError::Fenced(_)) => assert_ne!(Some(epoch), newest),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_a_claim_of_a_taken_turn_changes_nothing_however_late_it_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(folder.path());
    let store = engine.migrated_store().await;

    let owner = claim(&store, 0).await.unwrap();
    // Of somebody who looked for the newest turn before the owner had taken this one, and was stopped.
    let late = "INSERT INTO claims (place, log_partition, turn, claimant) VALUES (65536, 0, 1, 1)";
    store.execute(late).await.unwrap();
    let latecomer = insert_statement(0, owner).replace(&owner.to_string(), "1.1");
    for restart in [false, true] {
        if restart {
            engine.kill();
            engine.restart();
        }
        let store = engine.store(DATABASE);
        insert(&store, 0, owner).await.unwrap();
        let refused = insert_with(&store, 0, &latecomer).await;
        assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    }
}

/// Builds that know migration 0008 alone write the newest claim's time into `owners`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_claims_of_builds_of_two_schemas_refuse_each_others_inserts() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    let store = engine.migrated_store().await;
    let claim_as_before = async |epoch: u64| {
        let claim = format!("INSERT INTO owners VALUES (0, {epoch})");
        store.execute(&claim).await.unwrap();
        format!(
            "INSERT INTO scans SETTINGS log_comment = '{epoch} log partition 0' FORMAT RowBinary"
        )
    };

    let former = claim_as_before(1_795_825_497_342_337).await;
    insert_with(&store, 0, &former).await.unwrap();
    let owner = claim(&store, 0).await.unwrap();
    let refused = insert_with(&store, 0, &former).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    insert(&store, 0, owner).await.unwrap();

    let next = claim_as_before(1_795_825_497_400_000).await;
    let refused = insert(&store, 0, owner).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    insert_with(&store, 0, &next).await.unwrap();

    let last = claim(&store, 0).await.unwrap();
    let refused = insert_with(&store, 0, &next).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    insert(&store, 0, last).await.unwrap();
}
