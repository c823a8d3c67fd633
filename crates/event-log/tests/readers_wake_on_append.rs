//! Claim: a reader asleep at the end gets a record as soon as it is durable, and never before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event_log::{Cleanup, ConsumerEvent, EventLog, LocalLog, Record, TopicConfig};
use support::{PATIENCE, TOPIC, append, append_numbered, append_to, next, open};

/// How long the sleepers would sleep.
const LONG: Duration = Duration::from_secs(30);
/// How soon they must be awake: generous, for a busy machine.
const PROMPT: Duration = Duration::from_secs(2);

fn keeping(partitions: u32) -> TopicConfig {
    support::topic(partitions, Cleanup::KEEP, 4000)
}

#[tokio::test]
async fn a_reader_asleep_at_the_end_is_woken_by_an_append() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(1));
    append_numbered(&log, 10, 50).await;
    let mut reader = log.read(TOPIC, 0, 10).await.unwrap();
    // Over many rounds, and so over rolls to the next segment.
    for offset in 10..150 {
        let began = Instant::now();
        // `join!` polls in order: the reader is asleep when the append begins.
        let append = append(&log, Record::unkeyed(format!("wake up for {offset}")));
        let (read, appended) = tokio::join!(reader.next(usize::MAX, LONG), append);
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        let offsets: Vec<_> = read.unwrap().iter().map(|record| record.offset).collect();
        assert_eq!((&offsets[..], appended), (&[offset][..], offset));
    }
}

#[tokio::test]
async fn every_reader_of_a_partition_is_woken_and_no_reader_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path(), &keeping(2)));
    let mut sleepers = Vec::new();
    for _ in 0..20 {
        let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
        sleepers.push(tokio::spawn(
            async move { reader.next(usize::MAX, LONG).await },
        ));
    }
    let mut other = log.read(TOPIC, 1, 0).await.unwrap();
    tokio::task::yield_now().await;
    let began = Instant::now();
    let wait = Duration::from_millis(50);
    let append = append(&log, Record::unkeyed("for all"));
    let (of_other, _) = tokio::join!(other.next(usize::MAX, wait), append);
    assert!(of_other.unwrap().is_empty());
    for sleeper in sleepers {
        assert_eq!(sleeper.await.unwrap().unwrap().len(), 1);
    }
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_consumer_asleep_is_woken_by_an_append_to_any_of_its_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(3));
    let mut consumer = log.subscribe("group", TOPIC).await.unwrap();
    assert!(matches!(
        consumer.poll(LONG).await.unwrap(),
        ConsumerEvent::Assigned(_)
    ));
    for partition in 0..3 {
        consumer.seek(partition, 0).await.unwrap();
    }
    for round in 0..30 {
        let partition = round % 3;
        let began = Instant::now();
        let append = append_to(&log, partition, Record::unkeyed("wake up"));
        let (event, offset) = tokio::join!(consumer.poll(LONG), append);
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        let ConsumerEvent::Records(of, records) = event.unwrap() else {
            panic!("not records")
        };
        assert_eq!(
            (of, records.len(), records[0].offset),
            (partition, 1, offset)
        );
    }
}

#[tokio::test]
async fn a_reader_with_nothing_to_read_answers_empty_when_its_time_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(1));
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    let wait = Duration::from_millis(40);
    let began = Instant::now();
    assert!(reader.next(usize::MAX, wait).await.unwrap().is_empty());
    assert!(began.elapsed() >= wait);
    assert_eq!(reader.position(), 0);
}

#[tokio::test]
async fn a_reader_answers_at_least_one_record_and_no_more_than_asked() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(1));
    append_numbered(&log, 20, 100).await;
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    let mut lengths = Vec::new();
    for max_bytes in [0, 1, 99, 100, 199, 200, 350] {
        lengths.push(next(&mut reader, max_bytes).await.unwrap().len());
    }
    assert_eq!(lengths, [1, 1, 1, 1, 1, 2, 3]);
    assert_eq!(reader.position(), 10);
}

#[tokio::test]
async fn a_read_given_up_halfway_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &keeping(1));
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    let mut seen = Vec::new();
    for offset in 0..200 {
        append(&log, Record::unkeyed(format!("{offset}"))).await;
        // Polled once, then dropped: at most the first step of the read is done.
        tokio::select! {
            biased;
            read = reader.next(usize::MAX, LONG) => seen.extend(read.unwrap()),
            () = std::future::ready(()) => {}
        }
    }
    while reader.position() < 200 {
        seen.extend(next(&mut reader, usize::MAX).await.unwrap());
    }
    assert!(seen.iter().map(|record| record.offset).eq(0..200));
}

/// Appends without pause until told to stop, and answers how many records were acknowledged, having checked that each
/// was within the bounds and readable as soon as it was acknowledged.
async fn append_and_look(log: Arc<LocalLog>, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let records = vec![Record::unkeyed(vec![b'x'; 300]); 3];
        let first = log.append(TOPIC, 0, records).await.unwrap().first;
        let end = log.bounds(TOPIC, 0).await.unwrap().end;
        assert!(
            first + 3 <= end,
            "{first} is acknowledged, the end is {end}"
        );
        let mut reader = log.read(TOPIC, 0, first).await.unwrap();
        let read = next(&mut reader, usize::MAX).await.unwrap();
        assert_eq!(read[0].offset, first);
        count += 3;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_ever_runs_ahead_of_the_durable_end() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path(), &keeping(1)));
    let stop = Arc::new(AtomicBool::new(false));
    let appending: Vec<_> = (0..4)
        .map(|_| tokio::spawn(append_and_look(Arc::clone(&log), Arc::clone(&stop))))
        .collect();
    let mut reading = Vec::new();
    for _ in 0..3 {
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        reading.push(tokio::spawn(async move {
            let mut ends = Vec::new();
            let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
            let mut expected = 0;
            while !stop.load(Ordering::Relaxed) {
                for record in reader
                    .next(usize::MAX, Duration::from_millis(20))
                    .await
                    .unwrap()
                {
                    assert_eq!(record.offset, expected, "in order, each once");
                    expected += 1;
                }
                // What has been read is durable, so its end is a place to read from.
                let end = log.bounds(TOPIC, 0).await.unwrap().end;
                assert!(
                    expected <= end,
                    "read up to {expected}, durable up to {end}"
                );
                log.read(TOPIC, 0, expected).await.map(drop).unwrap();
                ends.push(end);
            }
            assert!(ends.is_sorted(), "the end never goes back");
            expected
        }));
    }
    let enough = Instant::now() + Duration::from_secs(1);
    let mut watching = log.read(TOPIC, 0, 0).await.unwrap();
    while Instant::now() < enough || watching.position() < 300 {
        watching.next(usize::MAX, PATIENCE).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for task in appending {
        acknowledged += task.await.unwrap();
    }
    let end = log.bounds(TOPIC, 0).await.unwrap().end;
    assert_eq!(
        end, acknowledged as u64,
        "what is acknowledged is there, and nothing else"
    );
    for task in reading {
        let read = task.await.unwrap();
        assert!(0 < read && read <= end);
    }
}
