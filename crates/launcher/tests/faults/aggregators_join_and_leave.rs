//! Claim: aggregators that join and leave under load, in order, hand their partitions over without losing or doubling a scan.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::cluster_support::scenario::{Scenario, short_or_long};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_aggregators_join_and_leave() {
    let mut scenario = Scenario::start(1, 1).await;
    let lasts = Instant::now() + short_or_long(15, 90);
    let mut others = [2, 3].map(|number| {
        let name = format!("aggregator-{number}");
        scenario.cluster.stopped_aggregator(&name)
    });
    let (mut joined, mut left) = (0, 0);
    while Instant::now() < lasts {
        let other = &mut others[scenario.random.random_range(0..2)];
        if other.is_running() {
            other.stop().await;
            left += 1;
        } else {
            other.start(&scenario.cluster).await;
            joined += 1;
        }
        let pause = scenario.random.random_range(300..2_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    println!("aggregators joined {joined} times and left {left} times");
    scenario.conclude().await;
}
