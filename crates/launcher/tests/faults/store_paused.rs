//! Claim: a store that stands still for longer than its statements may take, and then carries out what had reached it before,
//! doubles nothing and loses nothing.

use std::time::Duration;

use crate::cluster_support::engine_support::is_long;
use crate::cluster_support::scenario::Scenario;
use crate::cluster_support::store_proxy::Mode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_store_paused() {
    let scenario = Scenario::start(1, 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The process itself is frozen: statements that are in its sockets run when it goes on, although nobody waits for them
    // any more. Beyond half a minute the aggregators have given them up.
    scenario.cluster.engine.freeze();
    let pause = if is_long() { 65 } else { 35 };
    tokio::time::sleep(Duration::from_secs(pause)).await;
    scenario.cluster.engine.thaw();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Connections are taken and nothing is answered.
    scenario.cluster.proxy.set(Mode::Pause);
    let pause = if is_long() { 60 } else { 5 };
    tokio::time::sleep(Duration::from_secs(pause)).await;
    scenario.cluster.proxy.set(Mode::Pass);
    tokio::time::sleep(Duration::from_secs(2)).await;
    scenario.conclude().await;
}
