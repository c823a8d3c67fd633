//! Claim: an aggregator whose group's positions were deleted refuses to count again, and says so; once the positions are set
//! to what the store holds, everything is counted once.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use aggregator::{GROUP, SCANS};
use serde::Deserialize;

use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::{PARTITIONS, wait_until};

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
    for aggregator in &mut scenario.aggregators {
        aggregator.stop().await;
    }
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
    // All was settled when the aggregators stopped, so each partition goes on behind its newest row.
    let positions = before.iter().fold(String::new(), |mut text, stored| {
        let _ = writeln!(text, "{SCANS},{},{}", stored.partition, stored.next);
        text
    });
    let file = cluster.path("positions.csv");
    std::fs::write(&file, positions).unwrap();
    let file = file.display().to_string();
    let group_is_empty = async || {
        let described = cluster.kafka_tool(GROUPS, &["--group", GROUP, "--describe", "--state"]);
        described.contains("Empty")
    };
    wait_until("the killed members are forgotten", group_is_empty).await;
    let reset = [
        "--group",
        GROUP,
        "--reset-offsets",
        "--from-file",
        &file,
        "--execute",
    ];
    cluster.kafka_tool(GROUPS, &reset);
    for aggregator in &mut scenario.aggregators {
        aggregator.start(cluster).await;
    }
    tokio::time::sleep(short_or_long(4, 30)).await;
    scenario.conclude().await;
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
