//! Claim: a slow store delays the statistics and nothing else: nothing is lost, doubled or refused.

use std::time::Duration;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::store_proxy::Mode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_store_slow() {
    let scenario = Scenario::start(1, 2).await;
    for delay_ms in [50, 400, 2_500] {
        let delay = Duration::from_millis(delay_ms);
        scenario.cluster.proxy.set(Mode::Slow(delay));
        tokio::time::sleep(short_or_long(5, 30)).await;
    }
    scenario.cluster.proxy.set(Mode::Pass);
    tokio::time::sleep(Duration::from_secs(2)).await;
    scenario.conclude().await;
}
