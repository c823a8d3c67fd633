//! Claim: where the store inserts and then answers 500, or says nothing, the aggregator finds the rows and sends none twice.

use std::time::Duration;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::store_proxy::Mode;
use crate::cluster_support::wait_until;

/// Inserts that are done and not confirmed, at least, in each phase that fails.
const SPOILED: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_store_answers_500_after_inserting() {
    let scenario = Scenario::start(1, 1).await;
    let phase = short_or_long(4, 30);
    for mode in [
        Mode::Pass,
        Mode::AnswerErrorAfterInserting,
        Mode::CutAfterInserting,
        Mode::AnswerErrorAfterInserting,
    ] {
        let proxy = &scenario.cluster.proxy;
        let enough = proxy.spoiled() + SPOILED;
        proxy.set(mode);
        tokio::time::sleep(phase).await;
        if mode != Mode::Pass {
            wait_until("the store fails under inserts", async || {
                proxy.spoiled() >= enough
            })
            .await;
        }
    }
    scenario.cluster.proxy.set(Mode::Pass);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spoiled = scenario.cluster.proxy.spoiled();
    println!("{spoiled} inserts were done and not confirmed");
    scenario.conclude().await;
}
