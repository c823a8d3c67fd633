//! Claim: while nobody listens at the store's address scans are acknowledged all the same, and counted once when it is back.

use std::time::Duration;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::store_proxy::Mode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_store_refusing() {
    let scenario = Scenario::start(1, 2).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scenario.cluster.proxy.set(Mode::Refuse);
    let before = scenario.load.acknowledged();
    tokio::time::sleep(short_or_long(10, 60)).await;
    assert!(scenario.load.acknowledged() > before);
    scenario.cluster.proxy.set(Mode::Pass);
    tokio::time::sleep(Duration::from_secs(3)).await;
    scenario.conclude().await;
}
