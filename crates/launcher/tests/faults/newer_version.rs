//! Claim (INV-10): a record of a newer version pauses its partition alone and alarms, whoever owns the partition; what stands
//! before it is counted, what stands behind it stays in the log.

use std::time::Duration;

use aggregator::SCANS;
use event_log::{Partition, Record};
use scan_model::codec::WireRecord;
use scan_model::{Scan, codec};

use crate::cluster_support::reconciling::assert_counted_once;
use crate::cluster_support::scenario::{Scenario, short_or_long};
use crate::cluster_support::wait_until;

const PAUSED: Partition = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv10_newer_version() {
    let mut scenario = Scenario::start(1, 2).await;
    let log = scenario.cluster.log();
    tokio::time::sleep(short_or_long(4, 30)).await;
    let newer = Record::unkeyed(vec![Scan::VERSION + 1, 1, 2, 3]);
    let stands_at = log.append(SCANS, PAUSED, vec![newer]).await.unwrap().first;
    for victim in [None, Some(0), Some(1)] {
        if let Some(victim) = victim {
            let aggregator = &mut scenario.aggregators[victim];
            aggregator.kill();
            tokio::time::sleep(Duration::from_secs(1)).await;
            aggregator.start(&scenario.cluster).await;
        }
        wait_until("the partition is paused, and it is said", async || {
            let mut paused = 0.0;
            for aggregator in &scenario.aggregators {
                let metric = aggregator.metric("aggregator_paused_partitions");
                paused += metric.await.unwrap_or(0.0);
            }
            paused >= 1.0
        })
        .await;
        tokio::time::sleep(short_or_long(2, 20)).await;
    }
    let (cluster, taken) = scenario.settle(Some((PAUSED, stands_at))).await;
    // The log has everything that was acknowledged for the paused partition; what stands before the record is counted.
    let mut counted = taken.counted;
    let acknowledged = counted.take_partition(PAUSED);
    let mut open = acknowledged.clone();
    let end = log.bounds(SCANS, PAUSED).await.unwrap().end;
    let mut reader = log.read(SCANS, PAUSED, 0).await.unwrap();
    while reader.position() < end {
        for stored in reader.next(4 << 20, Duration::from_secs(1)).await.unwrap() {
            let value = stored.record.value.unwrap();
            let Ok(scan) = codec::decode::<Scan>(&value) else {
                assert_eq!(stored.offset, stands_at);
                continue;
            };
            open.remove(&(scan.person.0, scan.scan_id.0));
            if stored.offset < stands_at {
                counted.add_acknowledged(crate::cluster_support::PARTITIONS, &scan);
            }
        }
    }
    assert!(
        open.is_empty(),
        "{} acknowledged scans are not in the log",
        open.len()
    );
    println!(
        "{} scans of the paused partition are in the log",
        acknowledged.len()
    );
    assert_counted_once(&cluster, &counted).await;
}
