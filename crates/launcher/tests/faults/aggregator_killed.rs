//! Claim: an aggregator that is killed at any moment, also between an insert and its commit, neither loses nor doubles a scan.

use std::time::Duration;

use rand::Rng;

use crate::cluster_support::engine_support::is_long;
use crate::cluster_support::scenario::Scenario;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_aggregator_killed() {
    let kills = if is_long() { 50 } else { 9 };
    let mut scenario = Scenario::start(1, 2).await;
    let (mut before_answer, mut before_commit) = (0, 0);
    for number in 0..kills {
        // Whose insert it is shows only in what it leaves behind, so both are killed now and then.
        let mut victims: Vec<usize> = (0..2).collect();
        if scenario.random.random_bool(0.7) {
            victims.remove(scenario.random.random_range(0..2));
        }
        let kill = |scenario: &mut Scenario| {
            for victim in &victims {
                scenario.aggregators[*victim].kill();
            }
        };
        match number % 3 {
            // The insert is done, and its writer does not know.
            0 => {
                let held = scenario.cluster.proxy.hold_next_insert().await;
                kill(&mut scenario);
                drop(held);
                before_answer += 1;
            }
            // The insert is done, its writer knows, and the commit is under way or about to be.
            1 => {
                let held = scenario.cluster.proxy.hold_next_insert().await;
                drop(held);
                let pause = scenario.random.random_range(0..8_000);
                tokio::time::sleep(Duration::from_micros(pause)).await;
                kill(&mut scenario);
                before_commit += 1;
            }
            _ => {
                let pause = scenario.random.random_range(0..1_000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                kill(&mut scenario);
            }
        }
        let pause = scenario.random.random_range(0..1_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        for victim in victims {
            scenario.aggregators[victim].start(&scenario.cluster).await;
        }
    }
    println!(
        "aggregators killed {kills} times: {before_answer} before an insert's answer, {before_commit} before its commit"
    );
    scenario.conclude().await;
}
