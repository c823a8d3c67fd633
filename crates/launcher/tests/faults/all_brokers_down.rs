//! Claim: while no broker answers, scans are taken to the nodes' disks, also by a node that is killed and starts meanwhile;
//! when the brokers are back everything that was acknowledged is counted, once.

use std::time::Duration;

use crate::cluster_support::scenario::{Scenario, short_or_long};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_all_brokers_down() {
    let mut scenario = Scenario::start(2, 2).await;
    // A node that has stopped in order has a snapshot.
    scenario.load.outage_begins();
    scenario.ingest[0].stop().await;
    scenario.ingest[0].start(&scenario.cluster).await;
    scenario.load.outage_ends();
    tokio::time::sleep(Duration::from_secs(3)).await;
    scenario.cluster.kafka.kill(1);
    let away = short_or_long(10, 60);
    tokio::time::sleep(away / 2).await;
    // Without brokers it starts with what it has on its disk.
    scenario.load.outage_begins();
    let victim = &mut scenario.ingest[0];
    victim.kill();
    victim.start(&scenario.cluster).await;
    scenario.load.outage_ends();
    tokio::time::sleep(away / 2).await;
    scenario.cluster.kafka.start_again(1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let taken = scenario.conclude().await;
    assert!(taken.spooled > 10_000, "{} from a spool", taken.spooled);
}
