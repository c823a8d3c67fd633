//! Claim: compaction drops superseded records and nothing else, whoever reads meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_log::local::LocalOptions;
use event_log::{EventLog, LocalLog, Record};
use rand::Rng;
use support::compacting::{
    SEGMENT_BYTES, active_base, append_mixed, compacted, everything_from, keyed, small, survivors,
};
use support::{
    PATIENCE, TOPIC, append, next, open, open_with_report, options, read_all, read_from, read_to,
    seeded, segment_files, size_of, wait_until,
};

const fn tombstone(key: &'static str) -> Record {
    Record {
        key: Some(bytes_of(key)),
        value: None,
        headers: Vec::new(),
    }
}

const fn bytes_of(text: &'static str) -> bytes::Bytes {
    bytes::Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn the_newest_record_of_each_key_stays_at_its_offset() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    let mut records = vec![(append(&log, keyed(99, 0, 80)).await, keyed(99, 0, 80))];
    let unkeyed = Record::unkeyed("no key, so never replaced");
    records.push((append(&log, unkeyed.clone()).await, unkeyed));
    for number in 0..200 {
        let mut record = keyed(number % 7, number, 80);
        record
            .headers
            .push(("number".into(), number.to_string().into()));
        records.push((append(&log, record.clone()).await, record));
    }
    let before = log.bounds(TOPIC, 0).await.unwrap();
    let bytes_before: u64 = segment_files(folder.path())
        .iter()
        .map(|file| size_of(file))
        .sum();
    assert!(log.run_housekeeping().unwrap() > 1);
    assert_eq!(
        log.bounds(TOPIC, 0).await.unwrap(),
        before,
        "bounds are as before"
    );
    let bytes: u64 = segment_files(folder.path())
        .iter()
        .map(|file| size_of(file))
        .sum();
    assert!(bytes < bytes_before / 2, "{bytes} of {bytes_before}");
    assert_eq!(
        read_all(&log).await,
        survivors(&records, active_base(folder.path()))
    );
    assert_eq!(
        log.run_housekeeping().unwrap(),
        0,
        "nothing is left to compact"
    );
}

#[tokio::test]
async fn more_keys_than_are_held_in_memory_leave_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let few = LocalOptions {
        compaction_keys: 50,
        ..options()
    };
    let (log, _) = LocalLog::open(folder.path(), vec![small()], &few).unwrap();
    let mut records = Vec::new();
    for number in 0..800 {
        let record = keyed(number % 80, number, 40);
        records.push((append(&log, record.clone()).await, record));
    }
    assert!(log.run_housekeeping().unwrap() > 1);
    let kept = survivors(&records, active_base(folder.path()));
    assert!(kept.len() < 200, "{}", kept.len());
    assert_eq!(read_all(&log).await, kept);
}

#[tokio::test]
async fn append_times_outlive_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    append_mixed(&log, 200, 7, 80).await;
    let before: HashMap<_, _> = read_from(&log, 0, 0)
        .await
        .unwrap()
        .into_iter()
        .map(|stored| (stored.offset, stored.append_time_ms))
        .collect();
    log.run_housekeeping().unwrap();
    let after = read_from(&log, 0, 0).await.unwrap();
    assert!(
        after
            .iter()
            .all(|stored| before[&stored.offset] == stored.append_time_ms)
    );
}

#[tokio::test]
async fn what_is_hardly_superseded_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    let mut records = Vec::new();
    for number in 0..100 {
        let record = keyed(number % 80, number, 80);
        records.push((append(&log, record.clone()).await, record));
    }
    assert_eq!(log.run_housekeeping().unwrap(), 0);
    assert_eq!(read_all(&log).await, records);
}

#[tokio::test]
async fn tombstones_hide_at_once_and_vanish_after_their_retention() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    append_mixed(&log, 30, 3, 80).await;
    let mut deleted = Vec::new();
    for key in ["key-0", "key-1", "key-2"] {
        deleted.push((append(&log, tombstone(key)).await, tombstone(key)));
    }
    // Another key closes the segment that holds the tombstones.
    let kept = keyed(50, 0, SEGMENT_BYTES as usize);
    let kept = (append(&log, kept.clone()).await, kept);
    append(&log, keyed(51, 0, 80)).await;
    let last = (kept.0 + 1, keyed(51, 0, 80));

    assert!(log.run_housekeeping().unwrap() > 0);
    let with_tombstones = [deleted, vec![kept.clone(), last.clone()]].concat();
    assert_eq!(
        read_all(&log).await,
        with_tombstones,
        "a reader has time to see the tombstones"
    );
    let end = log.bounds(TOPIC, 0).await.unwrap().end;
    drop(log);

    let log = open(folder.path(), &compacted(SEGMENT_BYTES, Duration::ZERO));
    assert_eq!(read_all(&log).await, with_tombstones);
    wait_until("the tombstones are older than no time at all", || {
        log.run_housekeeping().unwrap() > 0
    });
    assert_eq!(read_all(&log).await, [kept, last]);
    assert_eq!(log.bounds(TOPIC, 0).await.unwrap().end, end);
}

#[tokio::test]
async fn a_reader_reads_on_from_every_offset_after_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    let records = append_mixed(&log, 200, 7, 80).await;
    log.run_housekeeping().unwrap();
    let kept = survivors(&records, active_base(folder.path()));
    for from in 0..=200 {
        let expected: Vec<_> = kept
            .iter()
            .filter(|(offset, _)| *offset >= from)
            .cloned()
            .collect();
        assert_eq!(everything_from(&log, from).await, expected, "from {from}");
    }
}

#[tokio::test]
async fn a_reader_reads_record_by_record_past_ranges_that_hold_none() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    // Each closed segment holds one record that stays, amid others that the last one supersedes.
    for segment in 1..5 {
        for number in 0..10 {
            append(
                &log,
                keyed(if number == 4 { segment } else { 0 }, number, 180),
            )
            .await;
        }
    }
    let last = append(&log, keyed(0, 1000, 180)).await;
    let records = everything_from(&log, 0).await;
    log.run_housekeeping().unwrap();
    let kept = survivors(&records, active_base(folder.path()));
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    let mut seen = Vec::new();
    while reader.position() <= last {
        let read = next(&mut reader, 1).await.unwrap();
        seen.extend(
            read.into_iter()
                .map(|stored| (stored.offset, stored.record)),
        );
    }
    assert_eq!(seen, kept);
}

#[tokio::test]
async fn readers_under_way_anywhere_continue_in_order_without_duplicates() {
    let folder = tempfile::tempdir().unwrap();
    // More than a reader takes into memory at once.
    let config = compacted(128 << 10, Duration::from_hours(1));
    let log = open(folder.path(), &config);
    let mut records = append_mixed(&log, 400, 20, 10_000).await;
    let mut random = seeded();
    let mut readers = Vec::new();
    for from in (0..=400).step_by(9) {
        let mut reader = log.read(TOPIC, 0, from).await.unwrap();
        let goal = random.random_range(from..=400);
        let mut seen = Vec::new();
        while reader.position() < goal {
            seen.extend(next(&mut reader, 25_000).await.unwrap());
        }
        readers.push((from, reader, seen));
    }
    for round in 0..3 {
        assert!(log.run_housekeeping().unwrap() > 0, "round {round}");
        let more: Vec<_> = append_mixed(&log, 100, 20, 10_000).await;
        records.extend(more);
        for (_, reader, seen) in &mut readers {
            let goal = random.random_range(reader.position()..=records.len() as u64);
            while reader.position() < goal {
                seen.extend(next(reader, 25_000).await.unwrap());
            }
        }
    }
    log.run_housekeeping().unwrap();
    let end = records.len() as u64;
    let kept = everything_from(&log, 0).await;
    assert_eq!(kept, survivors(&records, active_base(folder.path())));
    for (from, mut reader, mut seen) in readers {
        seen.extend(read_to(&mut reader, end).await.unwrap());
        let seen: Vec<_> = seen
            .into_iter()
            .map(|stored| (stored.offset, stored.record))
            .collect();
        assert!(
            seen.is_sorted_by(|a, b| a.0 < b.0),
            "from {from}: in order, each once"
        );
        assert!(
            seen.iter()
                .all(|(offset, record)| records[*offset as usize].1 == *record)
        );
        let missed = kept
            .iter()
            .filter(|kept| kept.0 >= from && !seen.contains(kept))
            .count();
        assert_eq!(missed, 0, "from {from}");
    }
}

#[tokio::test]
async fn a_compacted_log_opens_again_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..4 {
        let (log, report) = open_with_report(folder.path(), &small());
        assert_eq!(report.cuts, []);
        assert_eq!(read_all(&log).await, expected, "round {round}");
        let appended = append_mixed(&log, 120, 5 + round, 80).await;
        assert_eq!(
            appended[0].0,
            round as u64 * 120,
            "offsets are never reused"
        );
        expected.extend(appended);
        assert!(log.run_housekeeping().unwrap() > 0);
        expected = survivors(&expected, active_base(folder.path()));
        assert_eq!(read_all(&log).await, expected, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn housekeeping_by_several_threads_at_once_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let eager = LocalOptions {
        housekeeping_interval: Duration::from_micros(1),
        ..LocalOptions::default()
    };
    for round in 0..3 {
        let (log, _) = LocalLog::open(folder.path(), vec![small()], &eager).unwrap();
        let mut records = read_all(&log).await;
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        log.run_housekeeping().expect("housekeeping goes well");
                    }
                });
            }
            let appended = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(append_mixed(&log, 400, 7, 80))
            });
            records.extend(appended);
            done.store(true, Ordering::Relaxed);
        });
        drop(log);
        let log = open(folder.path(), &small());
        log.run_housekeeping().unwrap();
        let kept = survivors(&records, active_base(folder.path()));
        let found = read_all(&log).await;
        let missing: Vec<_> = kept
            .iter()
            .filter(|record| !found.contains(record))
            .collect();
        assert!(missing.is_empty(), "round {round}: {missing:?}");
    }
}

#[tokio::test]
async fn a_reader_asleep_during_compaction_wakes_to_the_next_record() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    append_mixed(&log, 100, 3, 80).await;
    let mut reader = log.read(TOPIC, 0, 100).await.unwrap();
    let reading = reader.next(usize::MAX, PATIENCE);
    let (read, ()) = tokio::join!(reading, async {
        log.run_housekeeping().unwrap();
        append(&log, keyed(9, 9, 80)).await;
    });
    let offsets: Vec<_> = read.unwrap().iter().map(|stored| stored.offset).collect();
    assert_eq!(offsets, [100]);
}
