//! Claim (INV-2, INV-7): lookups and check-ins need no store. While the engine is killed again and again, none of them
//! fails, and afterwards every figure is there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use loadtest::generator::{self, Live, LoadPlan};
use loadtest::profile::Profile;
use loadtest::setup;
use loadtest::traffic::Traffic;
use loadtest::verify;
use support::{Place, seeded, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv2_no_lookup_and_no_check_in_fails_while_the_engine_is_killed_again_and_again() {
    let (seed, _) = seeded("engine crash");
    let place = Place::with(&["--linger-ms", "20"]);
    let service = place.start().await;
    let profile = Profile::guangdong_weekday().unwrap();
    let mut feed = place.caller("synthetic-feed");
    let setting = setup::set_up(&mut feed, seed, &profile, 300, |_, _, _| {})
        .await
        .unwrap();
    let traffic = Traffic::new(seed, profile, &setting.world, setting.codes.clone()).unwrap();
    let plan = LoadPlan {
        lookups_per_second: 200,
        check_ins_per_second: 50,
        duration: Duration::from_secs(if support::is_long() { 120 } else { 10 }),
        connections: 4,
        lookups_at: None,
    };
    let (ingest, secret) = (place.ingest(), place.secret("synthetic-load"));
    let live = Arc::new(Live::default());
    let load =
        tokio::spawn(async move { generator::run(&plan, &ingest, &secret, traffic, &live).await });
    let answers = async || place.engine_answers().await;
    let mut kills = 0;
    while !load.is_finished() {
        wait_until("the engine answers", answers).await;
        let killed = service.kill_engine().await;
        kills += 1;
        let is_back = async || service.engine_pid().is_some_and(|pid| pid != killed);
        wait_until("the engine is started again", is_back).await;
    }
    let outcome = load.await.unwrap().unwrap();
    println!(
        "{kills} kills; lookups {:?}, check-ins {:?}",
        outcome.lookups.statuses, outcome.check_ins.statuses
    );
    assert!(kills >= 3, "the engine was killed {kills} times");
    assert_eq!((outcome.lookups.broken, outcome.check_ins.broken), (0, 0));
    assert!(
        outcome.lookups.statuses.keys().eq([&200]),
        "{:?}",
        outcome.lookups.statuses
    );
    let is_acknowledged = |status: &u16| matches!(status, 201 | 403);
    assert!(outcome.check_ins.statuses.keys().all(is_acknowledged));
    assert!(outcome.lookups.statuses[&200] > 1000 && outcome.acknowledged.len() > 250);

    place.wait_counted().await;
    wait_until("the engine answers", answers).await;
    let rows = place
        .sql("SELECT count(), uniqExact(scan_id) FROM scans")
        .await;
    assert_eq!(rows, format!("{0}\t{0}", outcome.acknowledged.len()));
    let expected = verify::expected(&outcome.acknowledged);
    let counted = verify::counted(&place.query(), &expected).await.unwrap();
    let differences = verify::differences(&expected, &verify::Counts::new(), &counted);
    assert!(differences.is_empty(), "{differences:#?}");
    place.assert_rollups_whole();
    assert!(service.terminate().await.success());
}
