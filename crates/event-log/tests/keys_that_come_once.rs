//! Claim: housekeeping reads a partition for what newer records supersede only when enough of it can be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use event_log::{Cleanup, LogError, Record, TopicConfig};
use support::{BATCH_HEADER, append, batches, flip, open, read_all, segment_files};

fn topic() -> TopicConfig {
    let delete_retention = Duration::from_hours(1);
    support::topic(1, Cleanup::Compact { delete_retention }, 2000)
}

fn record(key: usize) -> Record {
    Record::keyed(format!("key-{key}"), format!("{key:080}"))
}

#[tokio::test]
async fn a_partition_of_keys_that_come_once_is_not_read_and_one_of_keys_that_come_again_is() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &topic());
    for key in 0..100 {
        append(&log, record(key)).await;
    }
    let hit = batches(&segment_files(folder.path())[1]).remove(0);
    // Who reads it, meets the damage.
    flip(&hit.file, hit.position + BATCH_HEADER, 1);
    assert_eq!(log.run_housekeeping().unwrap(), 0);
    for key in 0..20 {
        append(&log, record(key)).await;
    }
    assert_eq!(log.run_housekeeping().unwrap(), 0, "a sixth is superseded");
    for key in 0..60 {
        append(&log, record(key)).await;
    }
    let error = log.run_housekeeping().unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    flip(&hit.file, hit.position + BATCH_HEADER, 1);
    assert!(log.run_housekeeping().unwrap() > 0);
    let rest = read_all(&log).await;
    assert!(rest.len() < 140, "{} of 180 records, 100 keys", rest.len());
}

#[tokio::test]
async fn what_an_earlier_process_appended_is_read_once_and_known_then() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &topic());
    for key in 0..100 {
        append(&log, record(key)).await;
    }
    drop(log);
    let log = open(folder.path(), &topic());
    let hit = batches(&segment_files(folder.path())[1]).remove(0);
    flip(&hit.file, hit.position + BATCH_HEADER, 1);
    let error = log.run_housekeeping().unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    flip(&hit.file, hit.position + BATCH_HEADER, 1);
    assert_eq!(log.run_housekeeping().unwrap(), 0);
    flip(&hit.file, hit.position + BATCH_HEADER, 1);
    for key in 100..300 {
        append(&log, record(key)).await;
    }
    assert_eq!(log.run_housekeeping().unwrap(), 0, "nothing is superseded");
    for key in 0..200 {
        append(&log, record(key)).await;
    }
    assert!(log.run_housekeeping().is_err(), "the damage is met again");
}
