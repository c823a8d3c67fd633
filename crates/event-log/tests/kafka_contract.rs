//! The log's contract on a real Kafka broker: what is acknowledged is read back once and in order, groups share partitions and keep
//! their positions, bounds hold, and a cluster that is away is said to be away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kafka_support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_log::kafka::KafkaOptions;
use event_log::kafka::topics::{Durability, TopicAdmin};
use event_log::{
    Cleanup, Committed, Consumer, ConsumerEvent, KafkaLog, LogError, Offset, Partition,
    PartitionReader, Record, SharedLog, StoredRecord, TopicConfig,
};
use kafka_support::{ALONE, Kafka, PATIENCE};

fn topic(name: &str, partitions: u32) -> TopicConfig {
    TopicConfig::new(name, partitions, Cleanup::KEEP)
}

fn numbered(number: u64) -> Record {
    let mut record = Record::keyed(number.to_be_bytes().to_vec(), format!("value {number}"));
    record.headers = vec![("n".into(), Bytes::from(number.to_string()))];
    record
}

async fn read_until(reader: &mut dyn PartitionReader, end: Offset) -> Vec<StoredRecord> {
    let started = Instant::now();
    let mut records = Vec::new();
    while reader.position() < end {
        assert!(
            started.elapsed() < PATIENCE,
            "stands at {}",
            reader.position()
        );
        records.extend(reader.next(10_000, Duration::from_secs(1)).await.unwrap());
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_read_back_once_in_order_and_whole() {
    let kafka = Kafka::shared();
    let log = kafka.log(&topic("in-order", 2)).await;
    let mut expected: Vec<Vec<Record>> = vec![Vec::new(), Vec::new()];
    for number in 0..300_u64 {
        let partition = (number % 2) as Partition;
        let records: Vec<Record> = (0..=number % 4)
            .map(|n| numbered(number * 10 + n))
            .collect();
        let appended = log
            .append("in-order", partition, records.clone())
            .await
            .unwrap();
        let known = &mut expected[partition as usize];
        assert_eq!(appended.first, known.len() as u64);
        known.extend(records);
        assert_eq!(appended.last, known.len() as u64 - 1);
    }
    for (partition, expected) in (0..).zip(expected) {
        let bounds = log.bounds("in-order", partition).await.unwrap();
        assert_eq!((bounds.start, bounds.end), (0, expected.len() as u64));
        // Two readers of one partition do not disturb each other.
        let mut reader = log.read("in-order", partition, 0).await.unwrap();
        let mut late = log.read("in-order", partition, 100).await.unwrap();
        let read = read_until(reader.as_mut(), bounds.end).await;
        assert_eq!(read_until(late.as_mut(), bounds.end).await, read[100..]);
        assert!(
            read.iter()
                .zip(0..)
                .all(|(record, offset)| record.offset == offset)
        );
        assert!(read.is_sorted_by_key(|record| record.append_time_ms));
        assert!(read[0].append_time_ms > 1_600_000_000_000);
        let records: Vec<Record> = read.into_iter().map(|stored| stored.record).collect();
        assert!(records == expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_at_the_end_wakes_on_append_and_knows_that_it_is_there() {
    let kafka = Kafka::shared();
    let log = kafka.log(&topic("wakes", 1)).await;
    let mut reader = log.read("wakes", 0, 0).await.unwrap();
    assert!(
        reader
            .next(1, Duration::from_millis(300))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(reader.is_at_end().await);
    log.append("wakes", 0, vec![numbered(1)]).await.unwrap();
    let records = reader.next(1, PATIENCE).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(reader.position(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_beyond_the_end_is_an_error_and_never_the_latest() {
    let kafka = Kafka::shared();
    let log = kafka.log(&topic("beyond", 1)).await;
    log.append("beyond", 0, vec![numbered(1)]).await.unwrap();
    let refused = log.read("beyond", 0, 5).await.err();
    assert!(
        matches!(
            refused,
            Some(LogError::OutOfRange {
                offset: 5,
                start: 0,
                end: 1,
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(matches!(
        log.read("absent", 0, 0).await.err(),
        Some(LogError::UnknownTopic(_))
    ));
    assert!(matches!(
        log.append("beyond", 1, vec![numbered(1)]).await,
        Err(LogError::UnknownPartition { partition: 1, .. })
    ));
}

/// A member that seeks what it gets to the group's position and keeps what it reads. Its group has the topic's name: with one group for all tests, who joins or leaves in one of them would have the
/// members of every other wait for a rebalance.
struct Member {
    log: SharedLog,
    topic: &'static str,
    consumer: Box<dyn Consumer>,
    owned: BTreeSet<Partition>,
    read: Vec<(Partition, Offset)>,
}

impl Member {
    async fn join(log: &SharedLog, topic: &'static str) -> Self {
        Self {
            log: SharedLog::clone(log),
            topic,
            consumer: log.subscribe(topic, topic).await.unwrap(),
            owned: BTreeSet::new(),
            read: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let event = self.consumer.poll(Duration::from_millis(100)).await;
        match event.unwrap() {
            ConsumerEvent::Assigned(partitions) => {
                for partition in partitions {
                    self.owned.insert(partition);
                    let committed = self
                        .log
                        .committed(self.topic, self.topic, partition)
                        .await
                        .unwrap();
                    let position = committed.map_or(0, |committed| committed.offset);
                    self.consumer.seek(partition, position).await.unwrap();
                }
            }
            ConsumerEvent::Revoked(partitions) => {
                self.owned
                    .retain(|partition| !partitions.contains(partition));
            }
            ConsumerEvent::Records(partition, records) => {
                assert!(self.owned.contains(&partition), "records of {partition}");
                let next = records.last().unwrap().offset + 1;
                self.read
                    .extend(records.iter().map(|record| (partition, record.offset)));
                let committed = Committed {
                    offset: next,
                    metadata: format!("read to {next}"),
                };
                match self.consumer.commit(partition, committed).await {
                    // Someone else has it now, and will read these again.
                    Err(LogError::NotAssigned(_)) => {
                        self.read
                            .retain(|(of, offset)| *of != partition || *offset < records[0].offset);
                    }
                    outcome => outcome.unwrap(),
                }
            }
            ConsumerEvent::Idle => {}
        }
    }
}

async fn append(log: &SharedLog, topic: &str, partitions: u32, count: u64) {
    for number in 0..count {
        let partition = (number % u64::from(partitions)) as Partition;
        log.append(topic, partition, vec![numbered(number)])
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_partitions_and_hand_them_over_at_the_groups_position() {
    const TOPIC: &str = "shared";
    const PARTITIONS: u32 = 4;
    let kafka = Kafka::shared();
    let log = kafka.log(&topic(TOPIC, PARTITIONS)).await;
    append(&log, TOPIC, PARTITIONS, 200).await;
    let started = Instant::now();
    let in_time = || assert!(started.elapsed() < PATIENCE);
    let mut first = Member::join(&log, TOPIC).await;
    while first.read.len() < 200 {
        in_time();
        first.step().await;
    }
    assert_eq!(first.owned.len(), PARTITIONS as usize);
    let mut second = Member::join(&log, TOPIC).await;
    while first.owned.len() != 2 || second.owned.len() != 2 {
        in_time();
        first.step().await;
        second.step().await;
    }
    append(&log, TOPIC, PARTITIONS, 200).await;
    while first.read.len() + second.read.len() < 400 {
        in_time();
        first.step().await;
        second.step().await;
    }
    let by_first = std::mem::take(&mut first.read);
    drop(first);
    append(&log, TOPIC, PARTITIONS, 200).await;
    while by_first.len() + second.read.len() < 600 {
        in_time();
        second.step().await;
    }
    assert_eq!(second.owned.len(), PARTITIONS as usize);
    let all: Vec<_> = by_first.iter().chain(&second.read).copied().collect();
    let each: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(
        (all.len(), each.len()),
        (600, 600),
        "each record was read once"
    );
    let committed = log.committed(TOPIC, TOPIC, 3).await.unwrap().unwrap();
    assert_eq!(
        (committed.offset, committed.metadata.as_str()),
        (150, "read to 150")
    );
    assert!(log.committed("stranger", TOPIC, 3).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_a_partition_cannot_commit_it() {
    const TOPIC: &str = "fenced";
    let kafka = Kafka::shared();
    let log = kafka.log(&topic(TOPIC, 1)).await;
    append(&log, TOPIC, 1, 10).await;
    let mut first = Member::join(&log, TOPIC).await;
    let started = Instant::now();
    while first.read.is_empty() {
        assert!(started.elapsed() < PATIENCE);
        first.step().await;
    }
    let consumer = &mut first.consumer;
    let stranger = Committed {
        offset: 1,
        metadata: String::new(),
    };
    assert!(matches!(
        consumer.commit(3, stranger.clone()).await,
        Err(LogError::NotAssigned(3))
    ));
    let unprintable = Committed {
        offset: 1,
        metadata: "中".into(),
    };
    assert!(matches!(
        consumer.commit(0, unprintable).await,
        Err(LogError::Metadata)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_read_again_from_where_it_is_sought() {
    const TOPIC: &str = "paused";
    let kafka = Kafka::shared();
    let log = kafka.log(&topic(TOPIC, 1)).await;
    append(&log, TOPIC, 1, 20).await;
    let mut member = Member::join(&log, TOPIC).await;
    let started = Instant::now();
    while member.read.len() < 20 {
        assert!(started.elapsed() < PATIENCE);
        member.step().await;
    }
    member.consumer.set_paused(0, true);
    append(&log, TOPIC, 1, 5).await;
    for _ in 0..10 {
        member.step().await;
    }
    assert_eq!(member.read.len(), 20);
    member.consumer.seek(0, 18).await.unwrap();
    while member.read.len() < 27 {
        assert!(started.elapsed() < PATIENCE);
        member.step().await;
    }
    let again: Vec<Offset> = member.read[20..]
        .iter()
        .map(|(_, offset)| *offset)
        .collect();
    assert_eq!(again, [18, 19, 20, 21, 22, 23, 24]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_that_is_resumed_goes_on_without_a_gap_or_a_repetition() {
    const TOPIC: &str = "resumed";
    let kafka = Kafka::shared();
    let log = kafka.log(&topic(TOPIC, 1)).await;
    append(&log, TOPIC, 1, 500).await;
    let mut member = Member::join(&log, TOPIC).await;
    let started = Instant::now();
    let mut end = 500;
    // Paused and resumed wherever reading happens to be, with records that came meanwhile.
    for _ in 0..20 {
        member.step().await;
        member.consumer.set_paused(0, true);
        let read = member.read.len();
        append(&log, TOPIC, 1, 50).await;
        end += 50;
        for _ in 0..3 {
            member.step().await;
        }
        assert_eq!(member.read.len(), read, "nothing comes while it is paused");
        member.consumer.set_paused(0, false);
    }
    while member.read.len() < end {
        assert!(started.elapsed() < PATIENCE, "{}", member.read.len());
        member.step().await;
    }
    let offsets: Vec<Offset> = member.read.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, (0..end as Offset).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv6_an_append_beyond_the_bound_is_refused_before_anything_is_queued() {
    let kafka = Kafka::shared();
    let options = KafkaOptions {
        queue_bytes: 4096,
        ..kafka.options()
    };
    let log = kafka.log_with(options, &topic("bounded", 1)).await;
    let large = |bytes: usize| vec![Record::unkeyed(vec![7; bytes])];
    assert!(matches!(
        log.append("bounded", 0, large(5000)).await,
        Err(LogError::TooLarge { limit: 4096, .. })
    ));
    let appends = (0..3).map(|_| log.append("bounded", 0, large(2000)));
    let outcomes = futures::future::join_all(appends).await;
    let full = outcomes
        .iter()
        .filter(|o| matches!(o, Err(LogError::Full)))
        .count();
    assert_eq!(full, 1, "{outcomes:?}");
    assert_eq!(log.bounds("bounded", 0).await.unwrap().end, 2);
    assert!(
        log.append("bounded", 0, large(2000)).await.is_ok(),
        "room comes back"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_without_a_broker_nothing_is_acknowledged_and_the_answer_comes_in_time() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().to_string();
    drop(free);
    let options = KafkaOptions {
        delivery_timeout: Duration::from_secs(1),
        ..KafkaOptions::new(nobody)
    };
    let log = KafkaLog::connect(options, vec![topic("away", 1)]).unwrap();
    let log: SharedLog = std::sync::Arc::new(log);
    let started = Instant::now();
    let outcome = log.append("away", 0, vec![numbered(1)]).await;
    assert!(
        matches!(outcome, Err(LogError::Unavailable(_))),
        "{outcome:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_a_broker_that_is_frozen_and_comes_back_has_each_acknowledged_record_once() {
    let kafka = Kafka::start(1);
    let options = KafkaOptions {
        delivery_timeout: Duration::from_secs(30),
        ..kafka.options()
    };
    let log = kafka.log_with(options, &topic("frozen", 1)).await;
    append(&log, "frozen", 1, 10).await;
    kafka.pause(1);
    let pending = tokio::spawn({
        let log = SharedLog::clone(&log);
        async move { log.append("frozen", 0, vec![numbered(99)]).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!pending.is_finished(), "nothing is acknowledged meanwhile");
    kafka.resume(1);
    assert_eq!(pending.await.unwrap().unwrap().first, 10);
    assert_eq!(log.bounds("frozen", 0).await.unwrap().end, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_as_declared_and_every_difference_is_named() {
    let kafka = Kafka::shared();
    let admin = TopicAdmin::new(&kafka.options()).unwrap();
    let compacted = Cleanup::Compact {
        delete_retention: Duration::from_hours(24),
    };
    let declared = vec![
        TopicConfig::new("declared-compacted", 3, compacted.clone()),
        topic("declared-kept", 1),
    ];
    assert_eq!(
        admin.create_missing(&declared, ALONE).await.unwrap().len(),
        2
    );
    let started = Instant::now();
    while !admin.compare(&declared, ALONE).await.unwrap().is_empty() {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        admin
            .create_missing(&declared, ALONE)
            .await
            .unwrap()
            .is_empty()
    );

    let other = vec![
        TopicConfig::new("declared-compacted", 4, Cleanup::KEEP),
        TopicConfig::new("declared-kept", 1, compacted),
        topic("declared-absent", 1),
    ];
    let findings = admin.compare(&other, Durability::FULL).await.unwrap();
    let found = |topic: &str, setting: &str| {
        let mut findings = findings.iter();
        findings.find(|f| f.topic == topic && f.setting == setting)
    };
    assert!(found("declared-absent", "topic").unwrap().is_fatal);
    let partitions = found("declared-compacted", "partitions").unwrap();
    assert_eq!(
        partitions.to_string(),
        "topic declared-compacted: partitions is 3, wanted 4"
    );
    assert!(partitions.is_fatal);
    assert!(found("declared-kept", "cleanup.policy").unwrap().is_fatal);
    assert!(
        !found("declared-kept", "replication.factor")
            .unwrap()
            .is_fatal
    );
    assert!(
        !found("declared-kept", "min.insync.replicas")
            .unwrap()
            .is_fatal
    );
}
