//! Claim (INV-7): while the log refuses or hangs, records are taken to this machine's disk, and reach the log in order once it
//! is back, through restarts, within a bound.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/failing_log.rs"]
mod failing_log;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::local::LocalOptions;
use event_log::{
    Cleanup, LocalLog, LogError, Partition, Record, SharedLog, Spool, SpoolOptions, Taken,
    TopicConfig,
};
use failing_log::{FailingLog, Mood};

const TOPIC: &str = "scans";
const PATIENCE: Duration = Duration::from_secs(30);

/// A log whose appends do what the test says.
struct Moody {
    inner: SharedLog,
    log: SharedLog,
    mood: Mood,
}

impl Moody {
    fn open(folder: &Path) -> Self {
        let topic = TopicConfig::new(TOPIC, 2, Cleanup::KEEP);
        let (inner, _) = LocalLog::open(folder, vec![topic], &LocalOptions::default()).unwrap();
        let inner: SharedLog = Arc::new(inner);
        let mood = Mood::default();
        let log = Arc::new(FailingLog {
            inner: Arc::clone(&inner),
            mood: mood.clone(),
        });
        Self { inner, log, mood }
    }

    fn set(&self, mood: u8) {
        self.mood.set(mood);
    }

    /// Every value of a partition, in order.
    async fn values(&self, partition: Partition) -> Vec<String> {
        let end = self.inner.bounds(TOPIC, partition).await.unwrap().end;
        let mut reader = self.inner.read(TOPIC, partition, 0).await.unwrap();
        let mut values = Vec::new();
        while reader.position() < end {
            for stored in reader.next(1 << 20, Duration::ZERO).await.unwrap() {
                values.push(String::from_utf8(stored.record.value.unwrap().to_vec()).unwrap());
            }
        }
        values
    }
}

fn options(folder: &Path) -> SpoolOptions {
    SpoolOptions {
        folder: folder.to_owned(),
        topics: vec![TOPIC.to_owned()],
        bytes: 1 << 20,
        patience: Duration::from_millis(200),
    }
}

fn open(log: &Moody, options: SpoolOptions) -> Spool {
    let (spool, _) = Spool::start(Arc::clone(&log.log), options).unwrap();
    spool.open_gate();
    spool
}

fn numbered(number: usize) -> Vec<Record> {
    vec![Record::unkeyed(format!("{number:05}"))]
}

/// Appends numbered records one after the other; answers how many were spooled.
async fn append(spool: &Spool, partition: Partition, numbers: std::ops::Range<usize>) -> usize {
    let mut spooled = 0;
    for number in numbers {
        let taken = spool.append(TOPIC, partition, numbered(number)).await;
        spooled += usize::from(taken.unwrap() == Taken::Spooled);
    }
    spooled
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{number:05}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_while_the_log_refuses_records_are_spooled_and_then_flow_on_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = Moody::open(&folder.path().join("log"));
    let spool = open(&log, options(&folder.path().join("spool")));
    assert_eq!(append(&spool, 0, 0..10).await, 0, "they go straight");
    log.set(Mood::AWAY);
    assert_eq!(append(&spool, 0, 10..200).await, 190);
    assert_eq!(spool.state().records, 190);
    assert!(spool.state().oldest_ms.is_some());
    assert_eq!(append(&spool, 1, 0..5).await, 5);
    log.set(Mood::WORKS);
    assert!(spool.wait_empty(PATIENCE).await);
    assert_eq!(
        append(&spool, 0, 200..210).await,
        0,
        "they go straight again"
    );
    assert_eq!(log.values(0).await, expected(0..210));
    assert_eq!(log.values(1).await, expected(0..5));
    let state = spool.state();
    assert_eq!((state.bytes, state.spooling, state.oldest_ms), (0, 0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_a_log_that_hangs_holds_up_one_append_for_the_patience_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = Moody::open(&folder.path().join("log"));
    let spool = open(&log, options(&folder.path().join("spool")));
    log.set(Mood::HANGS);
    let started = Instant::now();
    assert_eq!(append(&spool, 0, 0..1).await, 1);
    let first = started.elapsed();
    assert!(first >= Duration::from_millis(200), "{first:?}");
    assert_eq!(append(&spool, 0, 1..50).await, 49);
    assert_eq!(spool.state().spooling, 1);
    log.set(Mood::WORKS);
    assert!(spool.wait_empty(PATIENCE).await);
    assert_eq!(log.values(0).await, expected(0..50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_what_is_spooled_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let log = Moody::open(&folder.path().join("log"));
    log.set(Mood::AWAY);
    let spool = open(&log, options(&folder.path().join("spool")));
    assert_eq!(append(&spool, 0, 0..100).await, 100);
    drop(spool);
    let spool = {
        // The tasks of the former let go of the folder a moment after it.
        let started = Instant::now();
        loop {
            match Spool::start(Arc::clone(&log.log), options(&folder.path().join("spool"))) {
                Ok((spool, _)) => break spool,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(spool.state().records, 100);
    log.set(Mood::WORKS);
    assert_eq!(append(&spool, 0, 100..101).await, 1, "the gate is closed");
    assert_eq!(log.values(0).await, expected(0..0));
    spool.open_gate();
    assert!(spool.wait_empty(PATIENCE).await);
    assert_eq!(log.values(0).await, expected(0..101));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv6_the_spool_is_bounded_and_gives_its_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = Moody::open(&folder.path().join("log"));
    log.set(Mood::AWAY);
    let spool = open(&log, options(&folder.path().join("spool")));
    let large = |number: u8| vec![Record::unkeyed(vec![number; 100_000])];
    let mut taken = 0;
    let refusal = loop {
        match spool.append(TOPIC, 0, large(taken)).await {
            Ok(_) => taken += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, LogError::Full), "{refusal}");
    assert_eq!(taken, 10, "a bound of 1 MiB");
    log.set(Mood::WORKS);
    assert!(spool.wait_empty(PATIENCE).await);
    assert_eq!(log.inner.bounds(TOPIC, 0).await.unwrap().end, 10);
    log.set(Mood::AWAY);
    assert_eq!(
        spool.append(TOPIC, 0, large(11)).await.unwrap(),
        Taken::Spooled
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_for_the_moment_keeps_taking_records_straight() {
    let folder = tempfile::tempdir().unwrap();
    let log = Moody::open(&folder.path().join("log"));
    let spool = open(&log, options(&folder.path().join("spool")));
    log.set(Mood::FULL);
    assert_eq!(append(&spool, 0, 0..3).await, 3);
    assert_eq!(spool.state().spooling, 0);
    log.set(Mood::WORKS);
    assert_eq!(append(&spool, 0, 3..4).await, 0);
    assert!(spool.wait_empty(PATIENCE).await);
    let mut values = log.values(0).await;
    values.sort();
    assert_eq!(values, expected(0..4));
}
