//! Claim: an aggregator whose group's positions were deleted, pending ranges with them, refuses to count again, and says so; once
//! `tongxing positions restore` has set them by what the store holds, everything is counted once.

use std::collections::BTreeMap;
use std::time::Duration;

use aggregator::{GROUP, SCANS};
use serde::Deserialize;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::{Cluster, PARTITIONS, wait_until};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

#[derive(Deserialize, Debug, PartialEq, Eq)]
struct Stored {
    partition: u32,
    next: u64,
    rows: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_group_offsets_deleted() {
    let mut scenario = Scenario::start(1, 2).await;
    tokio::time::sleep(short_or_long(4, 30)).await;
    // Killed in the middle of an insert, so that what was pending is known to the deleted positions alone.
    let held = scenario.cluster.proxy.hold_next_insert().await;
    for aggregator in &mut scenario.aggregators {
        aggregator.kill();
    }
    drop(held);
    wait_until("the killed members are forgotten", async || {
        is_empty(&scenario.cluster)
    })
    .await;
    let before = stored(&scenario).await;
    assert_eq!(before.len(), PARTITIONS as usize, "{before:?}");
    let cluster = &scenario.cluster;
    let deleted = cluster.kafka_tool(
        GROUPS,
        &["--group", GROUP, "--topic", SCANS, "--delete-offsets"],
    );
    let log = cluster.log();
    for partition in 0..PARTITIONS {
        let committed = log.committed(GROUP, SCANS, partition).await.unwrap();
        assert_eq!(committed, None, "{deleted}");
    }
    for aggregator in &mut scenario.aggregators {
        aggregator.spawn(cluster);
    }
    // It is shared out by two: each refuses as soon as it has a partition, and its peers get what it had.
    wait_until("each says that it must not go on", async || {
        scenario.aggregators[0].readiness().await == 503
            && scenario.aggregators[1].readiness().await == 503
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stored(&scenario).await, before, "nothing was counted again");
    for aggregator in &mut scenario.aggregators {
        let log = aggregator.log();
        assert!(log.contains("beyond the group's position"), "{log}");
        aggregator.kill();
    }
    wait_until("the killed members are forgotten", async || {
        is_empty(cluster)
    })
    .await;
    let restored = cluster.run(&["positions", "restore"]);
    assert!(restored.status.success(), "{restored:?}");
    for aggregator in &mut scenario.aggregators {
        aggregator.start(cluster).await;
    }
    tokio::time::sleep(short_or_long(4, 30)).await;
    scenario.conclude().await;
}

/// Whether the group has no members.
fn is_empty(cluster: &Cluster) -> bool {
    let described = cluster.kafka_tool(GROUPS, &["--group", GROUP, "--describe", "--state"]);
    described.contains("Empty")
}

/// Up to where raw has each partition, and how many rows.
async fn stored(scenario: &Scenario) -> Vec<Stored> {
    let sql = "SELECT log_partition AS partition, max(log_offset) + 1 AS next, count() AS rows
               FROM scans GROUP BY log_partition ORDER BY log_partition";
    let rows: Vec<Stored> = scenario.cluster.store().rows(sql, &[]).await.unwrap();
    let partitions: BTreeMap<u32, u64> = rows.iter().map(|row| (row.partition, row.next)).collect();
    assert_eq!(partitions.len(), rows.len());
    rows
}
