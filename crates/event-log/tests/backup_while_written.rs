//! Claim (X15): a copy made while the log is appended to, compacted and retired opens without damage, and holds every record
//! that was acknowledged before it was begun.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_log::local::{LocalOptions, backup};
use event_log::{Cleanup, EventLog, LocalLog, Record, TopicConfig};
use parking_lot::Mutex;

const PARTITIONS: u32 = 2;
const KEYS: u64 = 40;

fn topics() -> Vec<TopicConfig> {
    let compacted = Cleanup::Compact {
        delete_retention: Duration::from_hours(1),
    };
    let mut topics = vec![
        TopicConfig::new("kept", PARTITIONS, Cleanup::KEEP),
        TopicConfig::new("compacted", PARTITIONS, compacted),
    ];
    for topic in &mut topics {
        topic.segment_bytes = 4 << 10;
    }
    topics
}

fn open(folder: &Path) -> LocalLog {
    let (log, report) = LocalLog::open(folder, topics(), &LocalOptions::default()).unwrap();
    assert_eq!(report.cuts, [], "a copy ends with a whole batch");
    log
}

/// The newest value of each key, and how many records there are.
async fn contents(log: &LocalLog, topic: &str, partition: u32) -> (BTreeMap<u64, u64>, u64) {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let mut reader = log.read(topic, partition, bounds.start).await.unwrap();
    let (mut newest, mut count) = (BTreeMap::new(), 0);
    while reader.position() < bounds.end {
        for record in reader.next(1 << 20, Duration::from_secs(1)).await.unwrap() {
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let key = number(&record.record.key.unwrap());
            newest.insert(key, number(&record.record.value.unwrap()));
            count += 1;
        }
    }
    (newest, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x15_a_copy_of_a_log_at_work_holds_everything_acknowledged_before() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("log");
    let log = Arc::new(open(&source));
    let stop = Arc::new(AtomicBool::new(false));
    // The newest acknowledged value.
    let acknowledged = Arc::new(Mutex::new(0_u64));
    let writing = tokio::spawn({
        let (log, stop, acknowledged) = (
            Arc::clone(&log),
            Arc::clone(&stop),
            Arc::clone(&acknowledged),
        );
        async move {
            let mut value = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                for topic in ["kept", "compacted"] {
                    for partition in 0..PARTITIONS {
                        let key = (value % KEYS).to_le_bytes().to_vec();
                        let bytes = [value.to_le_bytes().as_slice(), &[0; 56]].concat();
                        let records = vec![Record::keyed(key, bytes)];
                        log.append(topic, partition, records).await.unwrap();
                    }
                }
                *acknowledged.lock() = value;
            }
        }
    });
    let tidying = tokio::task::spawn_blocking({
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        move || {
            let mut changed = 0;
            while !stop.load(Ordering::Relaxed) {
                changed += log.run_housekeeping().unwrap();
            }
            changed
        }
    });
    for round in 0..15 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = *acknowledged.lock();
        let target = folder.path().join(format!("copy-{round}"));
        std::fs::create_dir(&target).unwrap();
        let copied = tokio::task::spawn_blocking({
            let (source, target) = (source.clone(), target.clone());
            move || backup::copy(&source, &target, &["kept", "compacted"])
        });
        let copied = copied.await.unwrap().unwrap();
        assert!(copied.segments >= 4);
        let copy = open(&target);
        for partition in 0..PARTITIONS {
            let (_, count) = contents(&copy, "kept", partition).await;
            assert!(count >= before, "{count} records, {before} acknowledged");
            let (newest, _) = contents(&copy, "compacted", partition).await;
            for value in before.saturating_sub(KEYS - 1).max(1)..=before {
                let found = newest.get(&(value % KEYS)).copied();
                assert!(
                    found.is_some_and(|found| found >= value),
                    "{value}: {found:?}"
                );
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    assert!(
        tidying.await.unwrap() > 0,
        "segments were compacted meanwhile"
    );
}

#[tokio::test]
async fn x15_damage_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("log");
    {
        let log = open(&source);
        for value in 0..20_u64 {
            let bytes = value.to_le_bytes().to_vec();
            let record = Record::keyed(bytes.clone(), bytes);
            log.append("kept", 0, vec![record]).await.unwrap();
        }
    }
    let file = source.join("kept/00000/00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let target = folder.path().join("copy");
    std::fs::create_dir(&target).unwrap();
    let refused = backup::copy(&source, &target, &["kept"]).unwrap_err();
    assert!(
        refused.to_string().contains("00000000000000000000.log"),
        "{refused}"
    );
}
