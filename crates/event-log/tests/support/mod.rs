//! What the tests of the log share.
// Each test file uses its own share of this.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod compacting;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_log::local::{LocalOptions, OpenReport};
use event_log::{
    Cleanup, EventLog, LocalLog, LogError, Offset, Partition, PartitionReader, Record,
    StoredRecord, TopicConfig,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The topic of most tests.
pub const TOPIC: &str = "events";
/// No test waits longer for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a batch before its body.
pub const BATCH_HEADER: u64 = 48;

pub fn topic(partitions: u32, cleanup: Cleanup, segment_bytes: u64) -> TopicConfig {
    TopicConfig {
        segment_bytes,
        ..TopicConfig::new(TOPIC, partitions, cleanup)
    }
}

/// Housekeeping runs when a test says so.
pub fn options() -> LocalOptions {
    LocalOptions {
        housekeeping_interval: Duration::from_hours(1),
        ..LocalOptions::default()
    }
}

pub fn open(folder: &Path, topic: &TopicConfig) -> LocalLog {
    open_with_report(folder, topic).0
}

pub fn open_with_report(folder: &Path, topic: &TopicConfig) -> (LocalLog, OpenReport) {
    LocalLog::open(folder, vec![topic.clone()], &options()).expect("the log opens")
}

/// The error with which an open is refused.
pub fn open_error(folder: &Path, topic: &TopicConfig) -> LogError {
    match LocalLog::open(folder, vec![topic.clone()], &options()) {
        Ok(_) => panic!("the log opened"),
        Err(error) => error,
    }
}

/// Appends one record to partition 0 and answers its offset.
pub async fn append(log: &LocalLog, record: Record) -> Offset {
    append_to(log, 0, record).await
}

pub async fn append_to(log: &LocalLog, partition: Partition, record: Record) -> Offset {
    log.append(TOPIC, partition, vec![record])
        .await
        .expect("the append is answered")
        .first
}

/// Appends `count` records, one batch each, and answers them as stored.
pub async fn append_numbered(
    log: &LocalLog,
    count: usize,
    value_length: usize,
) -> Vec<(Offset, Record)> {
    let mut appended = Vec::with_capacity(count);
    for number in 0..count {
        let mut value = format!("{number:08}/").into_bytes();
        value.resize(value_length.max(value.len()), b'.');
        let record = Record::keyed(format!("key-{number}"), value);
        appended.push((append(log, record.clone()).await, record));
    }
    appended
}

/// A reader's next answer, which must come.
pub async fn next(
    reader: &mut Box<dyn PartitionReader>,
    max_bytes: usize,
) -> Result<Vec<StoredRecord>, LogError> {
    let answer = tokio::time::timeout(PATIENCE, reader.next(max_bytes, Duration::ZERO));
    answer.await.expect("the reader answers")
}

/// What a reader brings up to an offset.
pub async fn read_to(
    reader: &mut Box<dyn PartitionReader>,
    end: Offset,
) -> Result<Vec<StoredRecord>, LogError> {
    let mut records = Vec::new();
    while reader.position() < end {
        records.extend(next(reader, 64 << 10).await?);
    }
    Ok(records)
}

/// Everything from an offset to the end.
pub async fn read_from(
    log: &LocalLog,
    partition: Partition,
    from: Offset,
) -> Result<Vec<StoredRecord>, LogError> {
    let end = log.bounds(TOPIC, partition).await?.end;
    let mut reader = log.read(TOPIC, partition, from).await?;
    read_to(&mut reader, end).await
}

/// Everything that partition 0 holds.
pub async fn read_all(log: &LocalLog) -> Vec<(Offset, Record)> {
    let start = log.bounds(TOPIC, 0).await.unwrap().start;
    let records = read_from(log, 0, start)
        .await
        .expect("the partition is read");
    records
        .into_iter()
        .map(|stored| (stored.offset, stored.record))
        .collect()
}

pub fn partition_folder(folder: &Path, partition: Partition) -> PathBuf {
    folder.join(TOPIC).join(format!("{partition:05}"))
}

pub fn segment_path(folder: &Path, base: Offset) -> PathBuf {
    partition_folder(folder, 0).join(format!("{base:020}.log"))
}

/// The durable mark of partition 0.
pub fn mark_path(folder: &Path) -> PathBuf {
    partition_folder(folder, 0).join("durable")
}

/// Files of partition 0 with an extension, in the order of their names.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(partition_folder(folder, 0))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// The segment files of partition 0, oldest first.
pub fn segment_files(folder: &Path) -> Vec<PathBuf> {
    files(folder, "log")
}

pub fn size_of(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// Where a batch lies.
#[derive(Debug, Clone)]
pub struct BatchAt {
    pub file: PathBuf,
    pub position: u64,
    pub length: u64,
    pub base: Offset,
    pub next: Offset,
}

/// The batches of an intact segment file.
pub fn batches(file: &Path) -> Vec<BatchAt> {
    let bytes = fs::read(file).unwrap();
    let u32_at = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut batches = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 4], b"TXB1");
        let length = BATCH_HEADER + u32_at(at + 8);
        let (base, next) = (u64_at(at + 16), u64_at(at + 24));
        batches.push(BatchAt {
            file: file.to_owned(),
            position: at as u64,
            length,
            base,
            next,
        });
        at += length as usize;
    }
    batches
}

/// The last batch of partition 0.
pub fn last_batch(folder: &Path) -> BatchAt {
    let all = segment_files(folder)
        .iter()
        .flat_map(|file| batches(file))
        .last();
    all.expect("the partition has a batch")
}

/// Flips bits of one byte of a file, in place: an open log sees it through its own handle.
pub fn flip(file: &Path, position: u64, mask: u8) {
    assert_ne!(mask, 0);
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ mask], position).unwrap();
}

/// A generator by a seed that is printed, or given by `TONGXING_SEED`.
pub fn seeded() -> ChaCha8Rng {
    let given = std::env::var("TONGXING_SEED")
        .ok()
        .map(|seed| seed.parse().expect("a number"));
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("TONGXING_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}
