//! Claim: an ingest node that is killed at random moments loses nothing that it acknowledged, and nothing that was sent again
//! to it or to another node is counted twice.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::cluster_support::scenario::{Scenario, short_or_long};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_ingest_killed() {
    let mut scenario = Scenario::start(2, 1).await;
    let lasts = Instant::now() + short_or_long(15, 120);
    let mut kills = 0;
    while Instant::now() < lasts {
        let pause = scenario.random.random_range(500..2_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let victim = &mut scenario.ingest[scenario.random.random_range(0..2)];
        // What was sent to the node is on its way to the other until it is back.
        scenario.load.outage_begins();
        victim.kill();
        victim.start(&scenario.cluster).await;
        scenario.load.outage_ends();
        kills += 1;
    }
    println!("ingest killed {kills} times");
    scenario.conclude().await;
}
