//! Claim: of three brokers any one may be killed and come back: nothing acknowledged is lost, nothing is counted twice.

use std::time::Duration;

use rand::Rng;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::wait_until;

/// Until a killed broker's partitions have other leaders and the clients know them.
const FAILOVER: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_one_broker_killed() {
    let mut scenario = Scenario::with_brokers(3, 2, 2).await;
    let kills = short_or_long(1, 4).as_secs();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let broker = scenario.random.random_range(1..=3);
        scenario.load.outage_begins();
        scenario.cluster.kafka.kill(broker);
        tokio::time::sleep(FAILOVER).await;
        scenario.load.outage_ends();
        // Two of three go on by themselves.
        let before = scenario.load.acknowledged();
        wait_until("scans are taken", async || {
            scenario.load.acknowledged() > before + 3_000
        })
        .await;
        scenario.load.outage_begins();
        scenario.cluster.kafka.start_again(broker);
        tokio::time::sleep(FAILOVER).await;
        scenario.load.outage_ends();
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    scenario.conclude().await;
}
