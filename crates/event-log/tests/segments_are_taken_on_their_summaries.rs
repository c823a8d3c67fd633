//! Claim: a start reads no closed segment that its summary describes, and whatever a summary cannot vouch for is read and verified.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::{self, File};
use std::path::Path;

use event_log::{Cleanup, EventLog, LogError, Offset, Record, TopicConfig};
use support::{
    BATCH_HEADER, TOPIC, append_numbered, append_to, batches, files, flip, next, open,
    open_with_report, read_all, read_from, segment_files,
};
use tempfile::TempDir;

fn keeping() -> TopicConfig {
    support::topic(1, Cleanup::KEEP, 1500)
}

fn compacting() -> TopicConfig {
    let delete_retention = support::PATIENCE;
    support::topic(1, Cleanup::Compact { delete_retention }, 1500)
}

async fn written() -> (TempDir, Vec<(Offset, Record)>) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let records = append_numbered(&log, 60, 90).await;
    drop(log);
    assert!(segment_files(folder.path()).len() > 4);
    (folder, records)
}

/// Alters a byte as a failing disk would: nothing but reading it can tell.
fn rot(file: &Path, position: u64) {
    let before = fs::metadata(file).unwrap().modified().unwrap();
    flip(file, position, 0x20);
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(before).unwrap();
}

#[tokio::test]
async fn a_start_takes_every_closed_segment_and_reads_the_same_from_every_offset() {
    let (folder, records) = written().await;
    let closed = segment_files(folder.path()).len() - 1;
    let (log, report) = open_with_report(folder.path(), &keeping());
    assert_eq!((report.taken, report.segments), (closed, 1));
    for from in 0..=60 {
        let read = read_from(&log, 0, from).await.unwrap();
        let read: Vec<_> = read
            .into_iter()
            .map(|stored| (stored.offset, stored.record))
            .collect();
        assert_eq!(read, records[from as usize..]);
    }
}

#[tokio::test]
async fn a_missing_or_spoilt_summary_costs_one_reading_and_is_written_again() {
    let (folder, records) = written().await;
    let summary = files(folder.path(), "summary")[1].clone();
    let whole = fs::read(&summary).unwrap();
    let mut spoilt: Vec<_> = (0..whole.len())
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    spoilt.extend([Vec::new(), whole[..20].to_vec(), [&*whole, &[0]].concat()]);
    for bytes in spoilt.into_iter().map(Some).chain([None]) {
        match bytes {
            Some(bytes) => fs::write(&summary, bytes).unwrap(),
            None => fs::remove_file(&summary).unwrap(),
        }
        let (log, report) = open_with_report(folder.path(), &keeping());
        assert_eq!(report.segments, 2, "the active one and the one in question");
        assert_eq!(read_all(&log).await, records);
        drop(log);
        assert_eq!(fs::read(&summary).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_summary_of_another_segment_is_not_taken() {
    let (folder, records) = written().await;
    let summaries = files(folder.path(), "summary");
    fs::copy(&summaries[0], &summaries[1]).unwrap();
    let (log, report) = open_with_report(folder.path(), &keeping());
    assert_eq!(report.segments, 2);
    assert_eq!(read_all(&log).await, records);
}

#[tokio::test]
async fn what_a_disk_altered_in_a_segment_taken_on_its_summary_is_damage_to_its_reader() {
    let (folder, records) = written().await;
    let file = &segment_files(folder.path())[2];
    let hit = &batches(file)[1];
    rot(file, hit.position + BATCH_HEADER + 5);
    let (log, report) = open_with_report(folder.path(), &keeping());
    assert_eq!(report.segments, 1, "nothing told the start");
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    let mut seen = Vec::new();
    let error = loop {
        match next(&mut reader, usize::MAX).await {
            Ok(read) => seen.extend(read.into_iter().map(|read| (read.offset, read.record))),
            Err(error) => break error,
        }
    };
    let LogError::Damaged { file, position, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((file, *position), (&hit.file, hit.position));
    assert!(records[..hit.base as usize].starts_with(&seen));
}

#[tokio::test]
async fn compaction_and_retention_leave_a_summary_for_each_closed_segment_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &compacting());
    for number in 0..200 {
        let key = format!("{}", number % 7);
        append_to(&log, 0, Record::keyed(key, format!("{number:090}"))).await;
    }
    assert!(log.run_housekeeping().unwrap() > 3);
    let records = read_all(&log).await;
    drop(log);
    assert_summaries(folder.path());
    let (log, report) = open_with_report(folder.path(), &compacting());
    assert_eq!(report.segments, 1);
    assert_eq!(read_all(&log).await, records);
    drop(log);

    let folder = tempfile::tempdir().unwrap();
    let bounded = support::topic(
        1,
        Cleanup::Delete {
            retention: None,
            retention_bytes: Some(3000),
        },
        1500,
    );
    let log = open(folder.path(), &bounded);
    append_numbered(&log, 60, 90).await;
    assert!(log.run_housekeeping().unwrap() > 1);
    assert_summaries(folder.path());
}

fn assert_summaries(folder: &Path) {
    let segments = segment_files(folder);
    let closed: Vec<_> = segments[..segments.len() - 1]
        .iter()
        .map(|segment| segment.with_extension("summary"))
        .collect();
    assert_eq!(files(folder, "summary"), closed);
}

#[tokio::test]
async fn housekeeping_does_not_look_again_at_what_an_earlier_process_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &compacting());
    for number in 0..60 {
        let key = format!("{number}");
        append_to(&log, 0, Record::keyed(key, format!("{number:090}"))).await;
    }
    assert_eq!(log.run_housekeeping().unwrap(), 0);
    drop(log);
    // Whoever reads this segment meets damage.
    let file = &segment_files(folder.path())[2];
    rot(file, batches(file)[1].position + BATCH_HEADER + 5);
    let log = open(folder.path(), &compacting());
    assert_eq!(log.run_housekeeping().unwrap(), 0);
    drop(log);
    let looked = support::partition_folder(folder.path(), 0).join("looked");
    for spoilt in [&b""[..], &[0; 36][..35], &[7; 36]] {
        fs::write(&looked, spoilt).unwrap();
        let log = open(folder.path(), &compacting());
        let error = log.run_housekeeping().unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    }
}
