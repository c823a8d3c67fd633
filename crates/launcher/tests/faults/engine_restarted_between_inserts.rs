//! Claim: an engine that is restarted between two inserts, unnoticed by any request, makes the aggregator prove what it wrote
//! last, and nothing is lost or doubled.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::store_proxy::Mode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_engine_restarted_between_inserts() {
    let mut scenario = Scenario::start(1, 1).await;
    let lasts = Instant::now() + short_or_long(15, 90);
    let mut restarts = 0;
    while Instant::now() < lasts {
        let pause = scenario.random.random_range(200..1_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // One insert is done and its answer waits; whatever comes behind it is held until the engine is back. The writer sees
        // two good inserts with a restart between them.
        let held = scenario.cluster.proxy.hold_next_insert().await;
        scenario.cluster.proxy.set(Mode::Pause);
        scenario.cluster.engine.kill();
        scenario.cluster.engine.restart();
        scenario.cluster.proxy.set(Mode::Pass);
        drop(held);
        restarts += 1;
    }
    println!("the engine was restarted {restarts} times");
    scenario.conclude().await;
}
