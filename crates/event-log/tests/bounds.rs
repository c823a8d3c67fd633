//! Claim: every bound is an error that says what to do, given before anything is written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use event_log::local::LocalOptions;
use event_log::{Cleanup, EventLog, LocalLog, LogError, Record, TopicConfig};
use support::{
    TOPIC, append, append_numbered, append_to, open, open_error, open_with_report, options,
    partition_folder, read_all, read_from,
};
use tokio::task::JoinSet;

fn keeping(partitions: u32) -> TopicConfig {
    support::topic(partitions, Cleanup::KEEP, 1 << 20)
}

fn open_bounded(folder: &Path, queue_bytes: usize, append_bytes: usize) -> LocalLog {
    let options = LocalOptions {
        queue_bytes,
        append_bytes,
        ..options()
    };
    LocalLog::open(folder, vec![keeping(2)], &options)
        .unwrap()
        .0
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_keeps_what_it_took_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open_bounded(folder.path(), 64 << 10, 64 << 10));
    let (mut taken, mut refused) = (Vec::new(), 0);
    // A hundred times what the queue holds, asked for at once.
    let mut appends = JoinSet::new();
    for number in 0..640 {
        let log = Arc::clone(&log);
        appends.spawn(async move {
            let mut value = format!("{number}/").into_bytes();
            value.resize(10 << 10, b'.');
            let record = Record::unkeyed(value);
            (
                log.append(TOPIC, number % 2, vec![record.clone()]).await,
                number,
                record,
            )
        });
    }
    while let Some(done) = appends.join_next().await {
        let (outcome, number, record) = done.unwrap();
        match outcome {
            Ok(appended) => taken.push((number % 2, appended.first, record)),
            Err(error) => {
                assert!(
                    matches!(error, LogError::Full) && error.is_retryable(),
                    "{error}"
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0 && !taken.is_empty(),
        "{refused} refused, {} taken",
        taken.len()
    );
    assert_eq!(refused + taken.len(), 640);
    let mut found = Vec::new();
    for partition in 0..2 {
        for stored in read_from(&log, partition, 0).await.unwrap() {
            found.push((partition, stored.offset, stored.record));
        }
    }
    taken.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    assert_eq!(found, taken, "what was refused was not written");
    // The queue is empty again and takes as much as at first.
    append_to(&log, 0, Record::unkeyed(vec![b'.'; 60 << 10])).await;
}

#[tokio::test]
async fn an_append_larger_than_the_bound_is_refused_whether_by_one_record_or_by_many() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_bounded(folder.path(), 1 << 20, 10_000);
    let one = vec![Record::unkeyed(vec![0; 10_000])];
    let many = vec![Record::keyed("key", vec![0; 1000]); 10];
    let in_headers = vec![Record {
        headers: vec![("name".into(), vec![0; 10_000].into())],
        ..Record::default()
    }];
    for records in [one, many, in_headers] {
        let error = log.append(TOPIC, 0, records).await.unwrap_err();
        assert!(!error.is_retryable());
        let LogError::TooLarge { bytes, limit } = error else {
            panic!("{error}")
        };
        assert!(bytes > limit && limit == 10_000);
    }
    assert_eq!(log.bounds(TOPIC, 0).await.unwrap().end, 0);
    let largest = Record::unkeyed(vec![0; 10_000 - Record::default().encoded_size()]);
    assert_eq!(append(&log, largest).await, 0);
}

#[tokio::test]
async fn an_append_that_the_queue_could_never_hold_is_too_large_and_not_worth_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_bounded(folder.path(), 10_000, 1 << 20);
    let error = log
        .append(TOPIC, 0, vec![Record::unkeyed(vec![0; 20_000])])
        .await
        .unwrap_err();
    assert!(
        matches!(error, LogError::TooLarge { limit: 10_000, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn records_come_back_as_they_went_in_whatever_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let headers = (0..255_u8)
        .map(|n| (format!("name-{n}"), vec![n; n.into()].into()))
        .collect();
    let records = vec![
        Record::default(),
        Record::keyed("", ""),
        Record {
            key: Some("key".into()),
            value: None,
            headers: Vec::new(),
        },
        Record {
            key: None,
            value: Some(vec![0xFF; 3 << 20].into()),
            headers,
        },
        Record::unkeyed("TXB1"),
    ];
    let log = open(folder.path(), &keeping(1));
    let appended = log.append(TOPIC, 0, records.clone()).await.unwrap();
    assert_eq!((appended.partition, appended.first), (0, 0));
    let expected: Vec<_> = (0..).zip(records).collect();
    assert_eq!(read_all(&log).await, expected);
    drop(log);
    assert_eq!(read_all(&open(folder.path(), &keeping(1))).await, expected);
}

#[tokio::test]
async fn an_append_of_nothing_writes_no_record_and_harms_no_segment() {
    let folder = tempfile::tempdir().unwrap();
    // Segments so small that appends of nothing fill one.
    let config = support::topic(1, Cleanup::KEEP, 40);
    let log = open(folder.path(), &config);
    let mut records = Vec::new();
    for number in 0..3 {
        for _ in 0..3 {
            let nothing = log.append(TOPIC, 0, Vec::new()).await.unwrap();
            assert_eq!(nothing.first, number);
        }
        let record = Record::unkeyed(format!("{number}"));
        records.push((append(&log, record.clone()).await, record));
        assert_eq!(read_all(&log).await, records);
    }
    drop(log);
    let (log, report) = open_with_report(folder.path(), &config);
    assert_eq!(report.cuts, []);
    assert_eq!(read_all(&log).await, records);
}

#[tokio::test]
async fn a_folder_in_use_is_locked_until_its_log_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(1));
    let records = append_numbered(&log, 3, 10).await;
    let error = open_error(folder.path(), &keeping(1));
    assert!(
        matches!(&error, LogError::Locked(path) if path == folder.path()),
        "{error}"
    );
    // The refused open has disturbed nothing.
    assert_eq!(append(&log, Record::unkeyed("more")).await, 3);
    drop(log);
    let log = open(folder.path(), &keeping(1));
    assert_eq!(read_all(&log).await[..3], records);
}

#[test]
fn a_folder_is_free_as_soon_as_its_log_is_dropped() {
    // Several at once, so that threads which a closed store leaves behind are slow to end.
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..40 {
                    let folder = tempfile::tempdir().unwrap();
                    for _ in 0..3 {
                        open(folder.path(), &keeping(1));
                    }
                }
            });
        }
    });
}

#[tokio::test]
async fn a_changed_partition_count_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let records = append_numbered(&open(folder.path(), &keeping(3)), 5, 10).await;
    for wanted in [1, 2, 4, 100] {
        let error = open_error(folder.path(), &keeping(wanted));
        let LogError::PartitionCount {
            topic,
            found: 3,
            wanted: is,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((&**topic, *is), (TOPIC, wanted));
        assert!(!partition_folder(folder.path(), 3).exists());
    }
    assert_eq!(read_all(&open(folder.path(), &keeping(3))).await, records);
}

#[tokio::test]
async fn a_first_start_that_ended_halfway_does_not_count_as_a_partition_count() {
    let folder = tempfile::tempdir().unwrap();
    // Left by a start with another count, which made some of the folders.
    let unfinished = folder.path().join(format!("{TOPIC}.unfinished"));
    std::fs::create_dir_all(unfinished.join("00007")).unwrap();
    let log = open(folder.path(), &keeping(3));
    assert!(!unfinished.exists());
    assert_eq!(log.partitions(TOPIC).unwrap(), 3);
    drop(log);
    open(folder.path(), &keeping(3));
}

#[tokio::test]
async fn a_topic_that_is_not_declared_is_unknown_to_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(2));
    let records = vec![Record::unkeyed("value")];
    let errors = [
        log.append("other", 0, records).await.err(),
        log.bounds("other", 0).await.err(),
        log.read("other", 0, 0).await.err(),
        log.subscribe("group", "other").await.err(),
        log.committed("group", "other", 0).await.err(),
        log.partitions("other").err(),
    ];
    for error in errors {
        let error = error.expect("it is refused");
        assert!(
            matches!(&error, LogError::UnknownTopic(name) if name == "other"),
            "{error}"
        );
    }
    assert!(!folder.path().join("other").exists());
}

#[tokio::test]
async fn a_partition_that_the_topic_has_not_is_unknown_to_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(2));
    for beyond in [2, u32::MAX] {
        let errors = [
            log.append(TOPIC, beyond, vec![Record::unkeyed("value")])
                .await
                .err(),
            log.bounds(TOPIC, beyond).await.err(),
            log.read(TOPIC, beyond, 0).await.err(),
            log.committed("group", TOPIC, beyond).await.err(),
        ];
        for error in errors {
            let error = error.expect("it is refused");
            let LogError::UnknownPartition { topic, partition } = &error else {
                panic!("{error}");
            };
            assert_eq!((&**topic, *partition), (TOPIC, beyond));
        }
    }
}

#[tokio::test]
async fn topics_are_answered_as_declared() {
    let folder = tempfile::tempdir().unwrap();
    let declared = vec![
        TopicConfig::new("a", 1, Cleanup::KEEP),
        TopicConfig::new("b", 5, Cleanup::KEEP),
    ];
    let reversed = declared.iter().rev().cloned().collect();
    let (log, _) = LocalLog::open(folder.path(), reversed, &options()).unwrap();
    assert_eq!(log.topics(), declared);
    assert_eq!(log.partitions("b").unwrap(), 5);
}
