//! Acknowledged = stored = counted in every rollup, once.

use std::time::Instant;

use aggregator::{GROUP, SCANS};
use event_log::{Offset, Partition, SharedLog};
use serde::Deserialize;

use super::engine_support::counted::Counted;
use super::processes::Service;
use super::{Cluster, GLANCE, PARTITIONS, PATIENCE, wait_until};

/// Waits until the aggregators have settled everything in the log, of one partition only what stands before an offset.
pub async fn wait_settled(
    cluster: &Cluster,
    ingest: &[Service],
    aggregators: &[Service],
    stands: Option<(Partition, Offset)>,
) {
    for node in ingest {
        wait_until("the spools are passed on", async || {
            node.ready_report().await["spool"]["records"] == 0
        })
        .await;
    }
    let log = cluster.log();
    let started = Instant::now();
    let mut open = u64::MAX;
    while open > 0 {
        assert!(cluster.engine.is_ready(), "the engine does not answer");
        assert!(
            started.elapsed() < PATIENCE,
            "{open} records are not settled"
        );
        for aggregator in aggregators {
            let readiness = aggregator.readiness().await;
            assert_ne!(readiness, 503, "{} has given up", aggregator.name);
        }
        tokio::time::sleep(GLANCE).await;
        open = unsettled(&log, stands).await;
    }
}

/// Waits until every partition has an aggregator that has looked after it.
pub async fn wait_taken_over(cluster: &Cluster) {
    #[derive(Deserialize)]
    struct Proven {
        partitions: u32,
    }
    let sql = "SELECT toUInt32(uniqExact(writer)) AS partitions FROM boot_marks WHERE startsWith(writer, 'rollups of ')";
    wait_until("every partition is taken over", async || {
        let proven = cluster.store().row::<Proven>(sql, &[]).await;
        proven.is_ok_and(|proven| proven.partitions == PARTITIONS)
    })
    .await;
}

/// Records whose place in the store is not yet certain; a pending range counts whole.
pub async fn unsettled(log: &SharedLog, stands: Option<(Partition, Offset)>) -> u64 {
    let mut open = 0;
    for partition in 0..PARTITIONS {
        let Ok(bounds) = log.bounds(SCANS, partition).await else {
            return u64::MAX;
        };
        let Ok(committed) = log.committed(GROUP, SCANS, partition).await else {
            return u64::MAX;
        };
        let end = stands
            .filter(|(standing, _)| *standing == partition)
            .map_or(bounds.end, |(_, offset)| offset);
        open += end - committed.map_or(bounds.start, |committed| committed.offset);
    }
    open
}

/// Asserts that raw holds exactly what was acknowledged, that every rollup comes to it, and that `tongxing check` agrees.
pub async fn assert_counted_once(cluster: &Cluster, counted: &Counted) {
    let differences = counted.differences(&cluster.store()).await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let checked = cluster.run(&["check"]);
    assert!(checked.status.success(), "{checked:?}");
}
