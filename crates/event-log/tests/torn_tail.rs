//! Claim: what a crash leaves half written above the durable offset is cut and reported, and takes nothing along.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use event_log::local::Cut;
use event_log::{Cleanup, Offset, Record, TopicConfig};
use rand::{Rng, RngCore};
use support::{
    BATCH_HEADER, append, append_numbered, last_batch, mark_path, open, open_with_report, read_all,
    seeded, segment_files, segment_path, size_of,
};

fn keeping() -> TopicConfig {
    support::topic(1, Cleanup::KEEP, 1500)
}

fn add_to(file: &Path, bytes: &[u8]) {
    File::options()
        .append(true)
        .open(file)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

/// Opens the log, which must cut `bytes` bytes at a place, keep `records`, and take more; the start after it is clean.
async fn assert_cut(
    folder: &Path,
    at: (&Path, u64, Offset),
    bytes: u64,
    records: &[(Offset, Record)],
) {
    let (log, report) = open_with_report(folder, &keeping());
    let [
        Cut {
            file,
            position,
            offset,
            bytes: cut,
            reason,
        },
    ] = &report.cuts[..]
    else {
        panic!("{report:?}");
    };
    assert_eq!(
        (&**file, *position, *offset, *cut),
        (at.0, at.1, at.2, bytes)
    );
    assert!(!reason.is_empty());
    assert_eq!(size_of(at.0), at.1);
    assert_eq!(read_all(&log).await, records);
    let more = Record::keyed("more", format!("after {bytes} bytes were cut"));
    let offset = append(&log, more.clone()).await;
    assert_eq!(offset, records.len() as u64);
    drop(log);
    let (log, report) = open_with_report(folder, &keeping());
    assert_eq!(report.cuts, []);
    assert_eq!(read_all(&log).await, [records, &[(offset, more)]].concat());
}

#[tokio::test]
async fn garbage_behind_the_last_batch_is_cut_and_appends_go_on() {
    let mut random = seeded();
    for length in [1, 3, 4, 47, 48, 49, 200, 5000] {
        for begins_like_a_batch in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let records = append_numbered(&open(folder.path(), &keeping()), 25, 90).await;
            let mut garbage = vec![0; length];
            random.fill_bytes(&mut garbage);
            let magic = b"TXB1".len().min(length);
            if begins_like_a_batch {
                garbage[..magic].copy_from_slice(&b"TXB1"[..magic]);
            }
            let active = segment_files(folder.path()).pop().unwrap();
            let end = size_of(&active);
            add_to(&active, &garbage);
            assert_cut(folder.path(), (&active, end, 25), length as u64, &records).await;
        }
    }
}

#[tokio::test]
async fn zeros_behind_the_last_batch_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let records = append_numbered(&open(folder.path(), &keeping()), 3, 90).await;
    let active = segment_files(folder.path()).pop().unwrap();
    let end = size_of(&active);
    // As a file system leaves it that made the length durable before the bytes.
    File::options()
        .write(true)
        .open(&active)
        .unwrap()
        .set_len(end + 4096)
        .unwrap();
    assert_cut(folder.path(), (&active, end, 3), 4096, &records).await;
}

#[tokio::test]
async fn a_batch_written_in_part_is_cut_wherever_the_write_ended() {
    let mut random = seeded();
    let random_ends: Vec<u64> = (0..10).map(|_| random.random_range(1..138)).collect();
    for kept in [1, 4, 8, BATCH_HEADER - 1, BATCH_HEADER, BATCH_HEADER + 1]
        .into_iter()
        .chain(random_ends)
    {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), &keeping());
        let records = append_numbered(&log, 20, 90).await;
        // The mark as it is before the next append is durable.
        let mark = fs::read(mark_path(folder.path())).unwrap();
        append(&log, Record::unkeyed(vec![b'x'; 90])).await;
        drop(log);
        let last = last_batch(folder.path());
        assert!(last.base == 20 && last.length > kept);
        fs::write(mark_path(folder.path()), mark).unwrap();
        File::options()
            .write(true)
            .open(&last.file)
            .unwrap()
            .set_len(last.position + kept)
            .unwrap();
        assert_cut(
            folder.path(),
            (&last.file, last.position, 20),
            kept,
            &records,
        )
        .await;
    }
}

#[tokio::test]
async fn a_tail_whose_pages_reached_the_disk_out_of_order_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let records = append_numbered(&log, 20, 90).await;
    let mark = fs::read(mark_path(folder.path())).unwrap();
    append(&log, Record::unkeyed(vec![b'x'; 9000])).await;
    drop(log);
    let last = last_batch(folder.path());
    fs::write(mark_path(folder.path()), mark).unwrap();
    // The batch's end is there, a page in its middle is not.
    let mut bytes = fs::read(&last.file).unwrap();
    bytes[last.position as usize + 2000..][..4096].fill(0);
    fs::write(&last.file, bytes).unwrap();
    assert_cut(
        folder.path(),
        (&last.file, last.position, 20),
        last.length,
        &records,
    )
    .await;
}

#[tokio::test]
async fn a_whole_batch_above_the_mark_is_kept_and_durable_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut records = append_numbered(&log, 20, 90).await;
    let mark = fs::read(mark_path(folder.path())).unwrap();
    let last = Record::unkeyed("written, not answered");
    records.push((append(&log, last.clone()).await, last));
    drop(log);
    fs::write(mark_path(folder.path()), mark).unwrap();
    let (log, report) = open_with_report(folder.path(), &keeping());
    assert_eq!(report.cuts, []);
    assert_eq!(read_all(&log).await, records);
    drop(log);
    // Now that it has been seen, losing it is damage.
    let last = last_batch(folder.path());
    File::options()
        .write(true)
        .open(&last.file)
        .unwrap()
        .set_len(last.position)
        .unwrap();
    let error = support::open_error(folder.path(), &keeping());
    assert!(
        matches!(error, event_log::LogError::Damaged { offset: 20, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_fresh_segment_torn_in_its_first_batch_is_cut_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let records = append_numbered(&open(folder.path(), &keeping()), 20, 90).await;
    let fresh = segment_path(folder.path(), 20);
    fs::write(&fresh, b"TXB1 and no more").unwrap();
    assert_cut(folder.path(), (&fresh, 0, 20), 16, &records).await;
}

#[tokio::test]
async fn a_segment_left_empty_by_a_crash_is_no_cut() {
    let folder = tempfile::tempdir().unwrap();
    let records = append_numbered(&open(folder.path(), &keeping()), 20, 90).await;
    fs::write(segment_path(folder.path(), 20), b"").unwrap();
    let (log, report) = open_with_report(folder.path(), &keeping());
    assert_eq!(report.cuts, []);
    assert_eq!(read_all(&log).await, records);
    assert_eq!(append(&log, Record::unkeyed("more")).await, 20);
}

#[tokio::test]
async fn an_older_batch_repeated_at_the_end_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let records = append_numbered(&open(folder.path(), &keeping()), 20, 90).await;
    let last = last_batch(folder.path());
    let bytes = fs::read(&last.file).unwrap();
    let end = bytes.len() as u64;
    add_to(&last.file, &bytes[last.position as usize..]);
    assert_cut(folder.path(), (&last.file, end, 20), last.length, &records).await;
}
