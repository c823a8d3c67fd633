//! Claim: a clock that steps back under an ingest node or an aggregator loses and doubles nothing: what bounds and waits measure
//! is the monotonic clock, and what is kept for long is measured by the log's.

use std::path::PathBuf;

use crate::cluster_support::processes::Service;
use crate::cluster_support::scenario::{Scenario, short_or_long};

/// How far the wall clock of one process is off, in milliseconds.
struct Clock(PathBuf);

impl Clock {
    /// Gives a process that is yet to start a clock that can be set.
    fn give(service: &mut Service) -> Self {
        let clock = Self(service.file("clock"));
        clock.set(0);
        service.set("TONGXING_TEST_CLOCK", &clock.0.display().to_string());
        clock
    }

    fn set(&self, seconds: i64) {
        // In one step, because the process reads the file at any moment.
        let new = self.0.with_extension("new");
        std::fs::write(&new, (seconds * 1000).to_string()).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_clock_steps_back() {
    let mut clocks = Vec::new();
    let mut scenario =
        Scenario::prepared(1, 2, 2, |service| clocks.push(Clock::give(service))).await;
    let (ingest, aggregators) = clocks.split_at(2);
    let pause = short_or_long(3, 20);
    tokio::time::sleep(pause).await;
    // Less than the skew that a client's ids may have.
    ingest[0].set(-120);
    tokio::time::sleep(pause).await;
    aggregators[0].set(-3600);
    tokio::time::sleep(pause).await;
    // What one of them left pending is settled by another whose clock is behind, or ahead.
    let held = scenario.cluster.proxy.hold_next_insert().await;
    for aggregator in &mut scenario.aggregators {
        aggregator.kill();
    }
    drop(held);
    aggregators[1].set(-7200);
    for aggregator in &mut scenario.aggregators {
        aggregator.start(&scenario.cluster).await;
    }
    tokio::time::sleep(pause).await;
    ingest[1].set(-200);
    ingest[0].set(0);
    aggregators[0].set(3600);
    tokio::time::sleep(pause).await;
    scenario.conclude().await;
}
