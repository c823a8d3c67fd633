//! Claim: bytes below the durable offset that are altered or missing are an error that names file and offset, never less data.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::{self, File};
use std::path::Path;

use event_log::{Cleanup, EventLog, LogError, Offset, Record, TopicConfig};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use support::{
    BATCH_HEADER, BatchAt, TOPIC, append_numbered, append_to, batches, files, flip, last_batch,
    mark_path, next, open, open_error, read_all, read_to, seeded, segment_files, segment_path,
    size_of,
};
use tempfile::TempDir;

fn keeping() -> TopicConfig {
    support::topic(1, Cleanup::KEEP, 1500)
}

/// A closed log of several segments, its batches, and its records.
async fn written() -> (TempDir, Vec<BatchAt>, Vec<(Offset, Record)>) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let records = append_numbered(&log, 60, 90).await;
    drop(log);
    let batches: Vec<_> = segment_files(folder.path())
        .iter()
        .flat_map(|f| batches(f))
        .collect();
    assert_eq!(batches.len(), 60);
    assert!(segment_files(folder.path()).len() > 4);
    (folder, batches, records)
}

#[track_caller]
fn assert_damaged(error: &LogError, at: &BatchAt) {
    let LogError::Damaged {
        file,
        position,
        offset,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((file, *position, *offset), (&at.file, at.position, at.base));
    assert!(error.to_string().contains(&*at.file.to_string_lossy()));
}

/// Flips a byte of a batch, opens the log, which must refuse, and flips the byte back.
fn flip_and_open(folder: &Path, batch: &BatchAt, byte: u64, mask: u8) {
    println!("byte {byte} of {batch:?} xor {mask:#04x}");
    flip(&batch.file, batch.position + byte, mask);
    assert_damaged(&open_error(folder, &keeping()), batch);
    flip(&batch.file, batch.position + byte, mask);
}

fn any_mask(random: &mut ChaCha8Rng) -> u8 {
    random.random_range(1..=u8::MAX)
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_damage_at_its_batch() {
    let (folder, batches, records) = written().await;
    let mut random = seeded();
    for _ in 0..150 {
        let batch = &batches[random.random_range(0..batches.len())];
        let byte = random.random_range(0..batch.length);
        flip_and_open(folder.path(), batch, byte, any_mask(&mut random));
    }
    // Being refused has altered nothing.
    assert_eq!(read_all(&open(folder.path(), &keeping())).await, records);
}

#[tokio::test]
async fn every_byte_of_the_first_and_of_the_last_batch_is_guarded() {
    let (folder, batches, records) = written().await;
    let mut random = seeded();
    for batch in [&batches[0], &batches[batches.len() - 1]] {
        assert!(batch.length > BATCH_HEADER, "there is a body");
        for byte in 0..batch.length {
            flip_and_open(folder.path(), batch, byte, any_mask(&mut random));
        }
    }
    assert_eq!(read_all(&open(folder.path(), &keeping())).await, records);
}

#[tokio::test]
async fn without_the_durable_mark_later_batches_still_prove_the_damage() {
    let (folder, batches, _) = written().await;
    let mut random = seeded();
    for _ in 0..50 {
        let batch = &batches[random.random_range(0..batches.len() - 1)];
        let byte = random.random_range(0..batch.length);
        fs::remove_file(mark_path(folder.path())).unwrap();
        flip_and_open(folder.path(), batch, byte, any_mask(&mut random));
    }
}

#[tokio::test]
async fn a_truncated_file_is_damage_wherever_it_is_cut() {
    let (folder, batches, records) = written().await;
    let mut random = seeded();
    let files = segment_files(folder.path());
    for (index, path) in files.iter().enumerate() {
        let whole = fs::read(path).unwrap();
        let is_last = index == files.len() - 1;
        let of_file: Vec<_> = batches.iter().filter(|batch| batch.file == *path).collect();
        let boundaries = of_file.iter().map(|batch| batch.position);
        let anywhere = (0..10).map(|_| random.random_range(0..whole.len() as u64));
        for cut in boundaries.chain(anywhere.collect::<Vec<_>>()) {
            println!("{} cut at {cut}", path.display());
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(cut)
                .unwrap();
            let hit = of_file
                .iter()
                .find(|batch| batch.position + batch.length > cut)
                .unwrap();
            let error = open_error(folder.path(), &keeping());
            if hit.position < cut || is_last {
                assert_damaged(&error, hit);
            } else {
                // Cut between two batches of a closed segment: the file is the one that should hold the offset.
                let LogError::Damaged { file, offset, .. } = &error else {
                    panic!("{error}")
                };
                assert_eq!(
                    (file, *offset),
                    (&segment_path(folder.path(), hit.base), hit.base)
                );
            }
            fs::write(path, &whole).unwrap();
        }
    }
    assert_eq!(read_all(&open(folder.path(), &keeping())).await, records);
}

#[tokio::test]
async fn a_removed_middle_segment_is_damage_that_names_it() {
    let (folder, batches, records) = written().await;
    let files = segment_files(folder.path());
    for path in &files[1..files.len() - 1] {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        let first = batches.iter().find(|batch| batch.file == *path).unwrap();
        assert_damaged(&open_error(folder.path(), &keeping()), first);
        assert!(!path.exists(), "nothing has taken its place");
        fs::rename(&aside, path).unwrap();
    }
    assert_eq!(read_all(&open(folder.path(), &keeping())).await, records);
}

#[tokio::test]
async fn a_removed_last_segment_is_damage_at_the_end_of_what_is_left() {
    let (folder, batches, _) = written().await;
    let files = segment_files(folder.path());
    let removed = &files[files.len() - 1];
    fs::remove_file(removed).unwrap();
    let first = batches.iter().find(|batch| batch.file == *removed).unwrap();
    let before = files[files.len() - 2].clone();
    let at = BatchAt {
        position: size_of(&before),
        file: before,
        ..first.clone()
    };
    assert_damaged(&open_error(folder.path(), &keeping()), &at);
}

#[tokio::test]
async fn a_partition_that_lost_all_its_segments_is_damage() {
    let (folder, _, _) = written().await;
    for file in segment_files(folder.path()) {
        fs::remove_file(file).unwrap();
    }
    for _ in 0..2 {
        let error = open_error(folder.path(), &keeping());
        assert!(
            matches!(error, LogError::Damaged { offset: 0, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_meets_damage_while_the_log_is_open_errs_and_invents_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let records = append_numbered(&log, 60, 90).await;
    let mut all: Vec<_> = segment_files(folder.path())
        .iter()
        .flat_map(|f| batches(f))
        .collect();
    // Readers have the newest from memory.
    all.pop();
    let mut random = seeded();
    for _ in 0..100 {
        let hit = &all[random.random_range(0..all.len())];
        let byte = random.random_range(0..hit.length);
        let mask = any_mask(&mut random);
        let from = random.random_range(0..=hit.base);
        println!("read from {from}, byte {byte} of {hit:?} xor {mask:#04x}");
        let mut reader = log.read(TOPIC, 0, from).await.unwrap();
        flip(&hit.file, hit.position + byte, mask);
        let mut seen = Vec::new();
        let error = loop {
            match next(&mut reader, usize::MAX).await {
                Ok(read) => seen.extend(
                    read.into_iter()
                        .map(|stored| (stored.offset, stored.record)),
                ),
                Err(error) => break error,
            }
        };
        let LogError::Damaged { file, position, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((file, *position), (&hit.file, hit.position));
        assert!(records[from as usize..hit.base as usize].starts_with(&seen));
        // The error stays for as long as the damage does, and the reader goes on behind neither.
        assert!(matches!(
            next(&mut reader, usize::MAX).await,
            Err(LogError::Damaged { .. })
        ));
        flip(&hit.file, hit.position + byte, mask);
        let rest = read_to(&mut reader, 60).await.unwrap();
        seen.extend(
            rest.into_iter()
                .map(|stored| (stored.offset, stored.record)),
        );
        assert_eq!(seen, records[from as usize..]);
    }
}

#[tokio::test]
async fn a_file_truncated_while_the_log_is_open_is_an_error_to_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    append_numbered(&log, 5, 90).await;
    let last = last_batch(folder.path());
    let mut reader = log.read(TOPIC, 0, last.base - 1).await.unwrap();
    File::options()
        .write(true)
        .open(&last.file)
        .unwrap()
        .set_len(last.position + 10)
        .unwrap();
    let error = next(&mut reader, usize::MAX).await.unwrap_err();
    assert!(
        error.to_string().contains(&*last.file.to_string_lossy()),
        "{error}"
    );
}

#[tokio::test]
async fn a_reader_at_the_end_has_the_newest_batch_as_it_was_appended_whatever_the_disk_made_of_it()
{
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    let mut at_the_end = log.read(TOPIC, 0, 0).await.unwrap();
    for number in 0..20 {
        let record = Record::keyed("key", format!("{number:090}"));
        let offset = append_to(&log, 0, record.clone()).await;
        let hit = last_batch(folder.path());
        flip(&hit.file, hit.position + BATCH_HEADER, 1);
        let read = next(&mut at_the_end, usize::MAX).await.unwrap();
        let read: Vec<_> = read.into_iter().map(|r| (r.offset, r.record)).collect();
        assert_eq!(read, [(offset, record)]);
        flip(&hit.file, hit.position + BATCH_HEADER, 1);
    }
}

#[tokio::test]
async fn a_consumer_that_meets_damage_errs() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping());
    append_numbered(&log, 5, 90).await;
    let mut consumer = log.subscribe("group", TOPIC).await.unwrap();
    consumer.poll(support::PATIENCE).await.unwrap();
    consumer.seek(0, 0).await.unwrap();
    let hit = last_batch(folder.path());
    flip(&hit.file, hit.position + BATCH_HEADER, 1);
    let error = loop {
        match consumer.poll(support::PATIENCE).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn compaction_that_meets_damage_errs_and_leaves_the_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let compact = Cleanup::Compact {
        delete_retention: support::PATIENCE,
    };
    let log = open(folder.path(), &support::topic(1, compact, 1500));
    for number in 0..60 {
        append_to(&log, 0, Record::keyed("same", format!("{number:090}"))).await;
    }
    let before = segment_files(folder.path());
    let hit = &batches(&before[2])[1];
    flip(&hit.file, hit.position + BATCH_HEADER + 3, 0x10);
    let sizes: Vec<_> = before.iter().map(|file| size_of(file)).collect();
    let error = log.run_housekeeping().unwrap_err();
    let LogError::Damaged { file, position, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((file, *position), (&hit.file, hit.position));
    assert_eq!(segment_files(folder.path()), before);
    assert_eq!(
        before.iter().map(|file| size_of(file)).collect::<Vec<_>>(),
        sizes
    );
    assert!(files(folder.path(), "compacting").is_empty());
}
