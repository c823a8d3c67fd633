//! Claim: a node whose disk is full while Kafka is away refuses scans instead of acknowledging what it cannot keep; with room on
//! the disk it takes them again, and everything that it acknowledged is counted once.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::wait_until;

/// The node's disk.
const DISK_BYTES: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_disk_full_under_the_spool() {
    let scenario = Scenario::prepared(1, 1, 2, |node| node.give_a_disk(DISK_BYTES)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scenario.cluster.kafka.kill(1);
    wait_until("scans are spooled", async || {
        scenario.load.spooled() > 5_000
    })
    .await;
    let node = &scenario.ingest[0];
    let filler = node.disk().join("filler");
    scenario.load.outage_begins();
    let mut file = File::create(&filler).unwrap();
    let block = vec![7; 1 << 20];
    while file.write_all(&block).is_ok() {}
    // To the last byte.
    while file.write_all(&block[..512]).is_ok() {}
    drop(file);
    wait_until("nothing more is taken", async || {
        let before = scenario.load.acknowledged();
        tokio::time::sleep(Duration::from_millis(500)).await;
        scenario.load.acknowledged() == before
    })
    .await;
    assert_eq!(node.readiness().await, 200, "lookups go on");
    tokio::time::sleep(short_or_long(3, 30)).await;
    std::fs::remove_file(&filler).unwrap();
    let before = scenario.load.acknowledged();
    wait_until("scans are taken again", async || {
        scenario.load.acknowledged() > before + 5_000
    })
    .await;
    scenario.load.outage_ends();
    tokio::time::sleep(Duration::from_secs(2)).await;
    scenario.cluster.kafka.start_again(1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let taken = scenario.conclude().await;
    assert!(taken.spooled > 10_000, "{} from a spool", taken.spooled);
}
