//! Claim: an aggregator that stands still past its session timeout is replaced, and when it goes on with what it was doing it
//! neither doubles what its successor has counted nor holds it up.

use std::time::Duration;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::{SESSION, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_aggregator_stopped_past_its_session() {
    let mut scenario = Scenario::start(1, 2).await;
    let stops = short_or_long(3, 12).as_secs();
    for number in 0..stops {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Every other time an insert is under way: done in the store, its answer on the way to the frozen process.
        let held = match number % 2 {
            0 => Some(scenario.cluster.proxy.hold_next_insert().await),
            _ => None,
        };
        let frozen = &scenario.aggregators[(number % 2) as usize];
        frozen.freeze();
        drop(held);
        tokio::time::sleep(SESSION * 2).await;
        // The other one has taken over, and goes on inserting.
        let inserts = scenario.cluster.proxy.inserts();
        wait_until("the other aggregator goes on", async || {
            scenario.cluster.proxy.inserts() > inserts + 4
        })
        .await;
        frozen.thaw();
    }
    // Both still work.
    tokio::time::sleep(SESSION).await;
    for aggregator in &mut scenario.aggregators {
        assert!(aggregator.is_running());
        aggregator.wait_ready().await;
    }
    scenario.conclude().await;
}
