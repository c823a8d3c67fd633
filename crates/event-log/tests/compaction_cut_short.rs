//! Claim: a compaction that a crash cuts short loses nothing, and the log compacts again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::compacting::{active_base, append_mixed, keyed, small, survivors};
use support::{append, batches, files, open, open_with_report, read_all, segment_files};

/// Every segment file with its bytes.
fn contents(folder: &Path) -> Vec<(Vec<u8>, PathBuf)> {
    let each = segment_files(folder).into_iter();
    each.map(|file| (fs::read(&file).unwrap(), file)).collect()
}

#[tokio::test]
async fn an_unfinished_rewrite_is_removed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let records = append_mixed(&open(folder.path(), &small()), 100, 7, 80).await;
    let first = &segment_files(folder.path())[0];
    let half = batches(first)[3].position as usize + 20;
    fs::write(
        first.with_extension("compacting"),
        &fs::read(first).unwrap()[..half],
    )
    .unwrap();
    let (log, report) = open_with_report(folder.path(), &small());
    assert_eq!(report.cuts, []);
    assert!(files(folder.path(), "compacting").is_empty());
    assert_eq!(read_all(&log).await, records);
    assert!(log.run_housekeeping().unwrap() > 0);
    assert_eq!(
        read_all(&log).await,
        survivors(&records, active_base(folder.path()))
    );
}

#[tokio::test]
async fn superseded_segments_beside_their_rewrite_are_removed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    append_mixed(&log, 200, 7, 80).await;
    log.run_housekeeping().unwrap();
    // What a first compaction has made small, the second puts together.
    append_mixed(&log, 200, 7, 80).await;
    let records = read_all(&log).await;
    let originals = contents(folder.path());
    log.run_housekeeping().unwrap();
    drop(log);
    let rewritten = segment_files(folder.path());
    let superseded: Vec<_> = originals
        .iter()
        .filter(|(_, file)| !rewritten.contains(file))
        .collect();
    assert!(superseded.len() > 3);
    // The crash may have come after any number of them was removed.
    for left in 0..=superseded.len() {
        for (bytes, file) in &superseded[left..] {
            fs::write(file, bytes).unwrap();
        }
        let (log, report) = open_with_report(folder.path(), &small());
        assert_eq!(
            (report.cuts, report.taken + report.segments),
            (Vec::new(), rewritten.len())
        );
        assert_eq!(segment_files(folder.path()), rewritten);
        assert_eq!(
            read_all(&log).await,
            survivors(&records, active_base(folder.path()))
        );
    }
}

#[tokio::test]
async fn a_crash_between_two_rewrites_leaves_a_log_that_compacts_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &small());
    // Half superseded, so that there is more than one rewrite.
    for number in 0..150 {
        append(
            &log,
            keyed(if number % 2 == 0 { 0 } else { number }, number, 80),
        )
        .await;
    }
    let records = read_all(&log).await;
    let originals = contents(folder.path());
    log.run_housekeeping().unwrap();
    drop(log);
    let rewritten = segment_files(folder.path());
    assert!(rewritten.len() > 3, "{rewritten:?}");
    let last_rewrite = &rewritten[rewritten.len() - 2];
    // As if the last rewrite had not taken its name yet.
    for (bytes, file) in originals.iter().filter(|(_, file)| file >= last_rewrite) {
        fs::write(file, bytes).unwrap();
    }
    let log = open(folder.path(), &small());
    let kept = survivors(&records, active_base(folder.path()));
    let found = read_all(&log).await;
    assert!(kept.iter().all(|record| found.contains(record)));
    assert!(found.iter().all(|record| records.contains(record)));
}
