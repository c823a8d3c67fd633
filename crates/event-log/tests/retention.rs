//! Claim: retention removes whole old segments by size or age, and whoever asks for what is gone is told where the rest begins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Barrier;
use std::time::Duration;

use event_log::{
    Cleanup, Committed, ConsumerEvent, EventLog, LocalLog, LogError, Offset, Record, TopicConfig,
};
use support::{
    PATIENCE, TOPIC, append, append_numbered, next, open, read_all, segment_files, size_of,
    wait_until,
};

const SEGMENT_BYTES: u64 = 1500;

fn retaining(retention: Option<Duration>, retention_bytes: Option<u64>) -> TopicConfig {
    support::topic(
        1,
        Cleanup::Delete {
            retention,
            retention_bytes,
        },
        SEGMENT_BYTES,
    )
}

fn by_size(bytes: u64) -> TopicConfig {
    retaining(None, Some(bytes))
}

async fn start_of(log: &LocalLog) -> Offset {
    log.bounds(TOPIC, 0).await.unwrap().start
}

/// Runs housekeeping until nothing but the active segment is left, which takes a clock tick at most.
fn retire_all_closed(log: &LocalLog, folder: &std::path::Path) {
    wait_until("all closed segments are retired", || {
        log.run_housekeeping().unwrap();
        segment_files(folder).len() == 1
    });
}

#[track_caller]
fn assert_out_of_range(error: &LogError, asked: Offset, expected_start: Offset) {
    let LogError::OutOfRange {
        topic,
        partition,
        offset,
        start,
        end,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (&**topic, *partition, *offset, *start),
        (TOPIC, 0, asked, expected_start)
    );
    assert!(end >= start);
}

#[tokio::test]
async fn a_partition_is_held_to_its_size_by_whole_segments() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &by_size(6000));
    let records = append_numbered(&log, 100, 90).await;
    let before = segment_files(folder.path());
    let removed = log.run_housekeeping().unwrap();
    let after = segment_files(folder.path());
    assert_eq!(after, before[removed..], "the oldest go");
    let bytes: u64 = after.iter().map(|file| size_of(file)).sum();
    assert!(
        bytes <= 6000 && bytes + SEGMENT_BYTES + 200 > 6000,
        "{bytes}"
    );
    let start = start_of(&log).await;
    assert!(start > 0);
    assert_eq!(read_all(&log).await, records[start as usize..]);
    assert_eq!(log.run_housekeeping().unwrap(), 0);
}

#[tokio::test]
async fn an_age_of_zero_retires_every_closed_segment_and_never_the_active_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &retaining(Some(Duration::ZERO), None));
    let records = append_numbered(&log, 100, 90).await;
    retire_all_closed(&log, folder.path());
    let bounds = log.bounds(TOPIC, 0).await.unwrap();
    assert!(0 < bounds.start && bounds.start < bounds.end);
    assert_eq!(bounds.end, 100);
    assert_eq!(read_all(&log).await, records[bounds.start as usize..]);
}

#[tokio::test]
async fn a_long_age_and_no_bound_keep_everything() {
    for config in [
        retaining(Some(Duration::from_hours(1)), None),
        retaining(None, None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), &config);
        let records = append_numbered(&log, 100, 90).await;
        assert_eq!(log.run_housekeeping().unwrap(), 0);
        assert_eq!(read_all(&log).await, records);
    }
}

#[tokio::test]
async fn housekeeping_by_several_threads_at_once_retires_no_more_than_one_would() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), &by_size(6000));
        append_numbered(&log, 100, 90).await;
        let before = segment_files(folder.path());
        let together = Barrier::new(4);
        let removed: usize = std::thread::scope(|threads| {
            let run = || {
                together.wait();
                log.run_housekeeping().expect("housekeeping goes well")
            };
            let running: Vec<_> = (0..4).map(|_| threads.spawn(run)).collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        let after = segment_files(folder.path());
        let bytes: u64 = after.iter().map(|file| size_of(file)).sum();
        assert_eq!(after.len(), before.len() - removed);
        assert!(
            bytes + SEGMENT_BYTES + 200 > 6000,
            "only {bytes} bytes are left"
        );
    }
}

#[tokio::test]
async fn offsets_go_on_after_retention_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = retaining(Some(Duration::ZERO), None);
    let mut start = 0;
    for round in 0..3 {
        let log = open(folder.path(), &config);
        assert_eq!(
            start_of(&log).await,
            start,
            "a start does not move the start"
        );
        let records = append_numbered(&log, 50, 90).await;
        assert_eq!(records[0].0, round * 50);
        retire_all_closed(&log, folder.path());
        start = start_of(&log).await;
        assert!(start > round * 50);
    }
}

#[tokio::test]
async fn an_expired_offset_is_out_of_range_and_the_error_says_where_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &by_size(3000));
    append_numbered(&log, 100, 90).await;
    log.run_housekeeping().unwrap();
    let start = start_of(&log).await;
    for expired in [0, 1, start - 1] {
        let error = log
            .read(TOPIC, 0, expired)
            .await
            .err()
            .expect("it is expired");
        assert_out_of_range(&error, expired, start);
    }
    let mut reader = log.read(TOPIC, 0, start).await.unwrap();
    assert_eq!(next(&mut reader, 1).await.unwrap()[0].offset, start);
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_out_of_range_and_the_end_itself_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &by_size(3000));
    append_numbered(&log, 10, 90).await;
    let error = log
        .read(TOPIC, 0, 11)
        .await
        .err()
        .expect("it is beyond the end");
    assert_out_of_range(&error, 11, 0);
    let mut reader = log.read(TOPIC, 0, 10).await.unwrap();
    assert!(next(&mut reader, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_that_retention_overtakes_is_told_and_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &by_size(3000));
    // Nothing is in the reader's memory yet.
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    append_numbered(&log, 100, 90).await;
    log.run_housekeeping().unwrap();
    let start = start_of(&log).await;
    for _ in 0..2 {
        let error = next(&mut reader, 1).await.unwrap_err();
        assert_out_of_range(&error, 0, start);
        assert_eq!(reader.position(), 0);
    }
}

#[tokio::test]
async fn a_group_whose_position_has_expired_is_told_and_can_go_on_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &by_size(3000));
    let mut consumer = log.subscribe("group", TOPIC).await.unwrap();
    let assigned = consumer.poll(PATIENCE).await.unwrap();
    assert!(matches!(assigned, ConsumerEvent::Assigned(partitions) if partitions == [0]));
    let early = Committed {
        offset: 3,
        metadata: "early".into(),
    };
    consumer.seek(0, 0).await.unwrap();
    consumer.commit(0, early.clone()).await.unwrap();
    append_numbered(&log, 100, 90).await;
    log.run_housekeeping().unwrap();
    let start = start_of(&log).await;

    // The consumer stood at 0 when its records went.
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    assert_out_of_range(&error, 0, start);
    // Retention leaves the committed position alone.
    assert_eq!(log.committed("group", TOPIC, 0).await.unwrap(), Some(early));
    let error = consumer.seek(0, 3).await.unwrap_err();
    assert_out_of_range(&error, 3, start);

    consumer.seek(0, start).await.unwrap();
    let ConsumerEvent::Records(0, records) = consumer.poll(PATIENCE).await.unwrap() else {
        panic!("records are there");
    };
    assert_eq!(records[0].offset, start);
}

#[tokio::test]
async fn retention_and_compaction_do_not_mix() {
    // A compacted topic keeps the only record of a key, however old and however large the partition.
    let folder = tempfile::tempdir().unwrap();
    let compact = Cleanup::Compact {
        delete_retention: Duration::ZERO,
    };
    let log = open(folder.path(), &support::topic(1, compact, SEGMENT_BYTES));
    let records = append_numbered(&log, 100, 90).await;
    assert_eq!(log.run_housekeeping().unwrap(), 0);
    assert_eq!(read_all(&log).await, records);
    assert_eq!(append(&log, Record::unkeyed("more")).await, 100);
}
