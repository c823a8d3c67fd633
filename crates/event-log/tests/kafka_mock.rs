//! What the Kafka client makes of a cluster's errors, on librdkafka's mock cluster: nothing is acknowledged that was not taken,
//! nothing is taken twice, every answer comes in time, and what the client knows of itself becomes metrics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use event_log::kafka::KafkaOptions;
use event_log::{
    Cleanup, Committed, ConsumerEvent, EventLog, KafkaLog, LogError, Offset, Record, StoredRecord,
    TopicConfig,
};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "mocked";
const PATIENCE: Duration = Duration::from_mins(1);

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// One mock broker with one topic of one partition.
fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster
}

fn options(cluster: &Cluster) -> KafkaOptions {
    KafkaOptions {
        delivery_timeout: Duration::from_secs(20),
        ..KafkaOptions::new(cluster.bootstrap_servers())
    }
}

fn open(options: KafkaOptions) -> KafkaLog {
    KafkaLog::connect(options, vec![TopicConfig::new(TOPIC, 1, Cleanup::KEEP)]).unwrap()
}

fn numbered(number: usize) -> Record {
    Record::keyed(number.to_string(), format!("value {number}"))
}

async fn read_all(log: &KafkaLog, count: usize) -> Vec<StoredRecord> {
    let started = Instant::now();
    let mut reader = log.read(TOPIC, 0, 0).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        assert!(started.elapsed() < PATIENCE, "{} records", records.len());
        records.extend(reader.next(1 << 20, Duration::from_secs(1)).await.unwrap());
    }
    // Whatever else there were would come now.
    records.extend(
        reader
            .next(1 << 20, Duration::from_millis(500))
            .await
            .unwrap(),
    );
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv6_a_full_queue_answers_full_before_anything_is_queued() {
    let cluster = cluster();
    // Nothing is answered for a while, so that what is under way stays so.
    cluster
        .broker_round_trip_time(1, Duration::from_secs(2))
        .unwrap();
    let log = Arc::new(open(KafkaOptions {
        queue_bytes: 4096,
        ..options(&cluster)
    }));
    let under_way = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            log.append(TOPIC, 0, vec![Record::unkeyed(vec![7; 3000])])
                .await
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!under_way.is_finished());
    let asked = Instant::now();
    let refused = log
        .append(TOPIC, 0, vec![Record::unkeyed(vec![8; 3000])])
        .await;
    assert!(matches!(refused, Err(LogError::Full)), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_millis(500), "at once");
    under_way.await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let records = read_all(&log, 1).await;
    assert_eq!(records.len(), 1, "what was refused was never sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retriable_errors_yield_each_record_once_and_in_order() {
    const RECORDS: usize = 60;
    let cluster = cluster();
    let log = open(options(&cluster));
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let appends = (0..RECORDS).map(|number| log.append(TOPIC, 0, vec![numbered(number)]));
    let outcomes = futures::future::join_all(appends).await;
    let offsets: Vec<Offset> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().first)
        .collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
    let values: Vec<Record> = read_all(&log, RECORDS)
        .await
        .into_iter()
        .map(|r| r.record)
        .collect();
    let expected: Vec<Record> = (0..RECORDS).map(numbered).collect();
    assert!(values == expected, "{} records", values.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_a_delivery_that_takes_too_long_is_unavailable_in_time() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let cluster = cluster();
    let log = open(KafkaOptions {
        delivery_timeout: TIMEOUT,
        ..options(&cluster)
    });
    log.append(TOPIC, 0, vec![numbered(0)]).await.unwrap();
    cluster
        .broker_round_trip_time(1, Duration::from_secs(30))
        .unwrap();
    let asked = Instant::now();
    let refused = log.append(TOPIC, 0, vec![numbered(1)]).await;
    assert!(
        matches!(refused, Err(LogError::Unavailable(_))),
        "{refused:?}"
    );
    let waited = asked.elapsed();
    assert!(
        waited >= TIMEOUT / 2 && waited < TIMEOUT + Duration::from_secs(3),
        "{waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_a_refusal_for_good_is_answered_at_once_and_nothing_is_kept() {
    let cluster = cluster();
    let log = open(options(&cluster));
    log.append(TOPIC, 0, vec![numbered(0)]).await.unwrap();
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[forbidden]);
    let refused = log.append(TOPIC, 0, vec![numbered(1)]).await;
    assert!(
        matches!(refused, Err(LogError::Forbidden(_))),
        "{refused:?}"
    );
    // The client holds the topic for forbidden until it asks for it again.
    let started = Instant::now();
    while let Err(error) = log.append(TOPIC, 0, vec![numbered(2)]).await {
        assert!(matches!(error, LogError::Forbidden(_)), "{error}");
        assert!(started.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let keys: Vec<_> = read_all(&log, 2)
        .await
        .into_iter()
        .map(|r| r.record)
        .collect();
    assert_eq!(keys, [numbered(0), numbered(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_down_and_comes_up_has_each_record_once() {
    let cluster = cluster();
    let log = Arc::new(open(options(&cluster)));
    for number in 0..10 {
        log.append(TOPIC, 0, vec![numbered(number)]).await.unwrap();
    }
    cluster.broker_down(1).unwrap();
    let pending = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            let records = (10..20).map(numbered).collect();
            log.append(TOPIC, 0, records).await
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!pending.is_finished(), "nothing is acknowledged meanwhile");
    cluster.broker_up(1).unwrap();
    let appended = pending.await.unwrap().unwrap();
    assert_eq!((appended.first, appended.last), (10, 19));
    let values: Vec<_> = read_all(&log, 20)
        .await
        .into_iter()
        .map(|r| r.record)
        .collect();
    assert_eq!(values, (0..20).map(numbered).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_broker_delays_appends_and_loses_none() {
    const DELAY: Duration = Duration::from_millis(300);
    let cluster = cluster();
    let log = open(options(&cluster));
    log.append(TOPIC, 0, vec![numbered(0)]).await.unwrap();
    cluster.broker_round_trip_time(1, DELAY).unwrap();
    let asked = Instant::now();
    let appends = (1..50).map(|number| log.append(TOPIC, 0, vec![numbered(number)]));
    let outcomes = futures::future::join_all(appends).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let waited = asked.elapsed();
    // They share requests: far less than one round trip for each.
    assert!(waited >= DELAY && waited < 20 * DELAY, "{waited:?}");
    assert_eq!(read_all(&log, 50).await.len(), 50);
}

/// Keeps gauges by name and label.
#[derive(Clone, Default)]
struct Gauges(Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>);

impl Gauges {
    fn name(key: &Key) -> String {
        let labels: Vec<_> = key.labels().map(|label| label.value().to_owned()).collect();
        format!("{} {}", key.name(), labels.join(" "))
    }

    fn get(&self, name: &str) -> f64 {
        let gauges = self.0.lock().unwrap();
        let gauge = gauges.get(name).unwrap_or_else(|| panic!("no {name}"));
        f64::from_bits(gauge.load(Ordering::Relaxed))
    }

    async fn wait_until(&self, name: &str, holds: impl Fn(f64) -> bool) {
        let started = Instant::now();
        while !holds(self.get(name)) {
            assert!(started.elapsed() < PATIENCE, "{name} is {}", self.get(name));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut gauges = self.0.lock().unwrap();
        let gauge = gauges.entry(Self::name(key)).or_default();
        Gauge::from_arc(Arc::clone(gauge))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

// One thread, because a recorder for a test alone is the thread's.
#[tokio::test(flavor = "current_thread")]
async fn inv6_queue_depth_round_trip_and_lag_are_metrics() {
    let gauges = Gauges::default();
    let _recording = metrics::set_default_local_recorder(&gauges);
    let cluster = cluster();
    let log = Arc::new(open(options(&cluster)));
    let records: Vec<Record> = (0..100).map(numbered).collect();
    log.append(TOPIC, 0, records).await.unwrap();

    let mut member = log.subscribe("group", TOPIC).await.unwrap();
    let started = Instant::now();
    let mut read = 0;
    while read < 100 {
        assert!(started.elapsed() < PATIENCE, "{read} records");
        match member.poll(Duration::from_millis(200)).await.unwrap() {
            ConsumerEvent::Assigned(_) => member.seek(0, 0).await.unwrap(),
            ConsumerEvent::Records(_, records) => read += records.len(),
            _ => {}
        }
    }
    let metadata = String::new();
    let committed = Committed {
        offset: 40,
        metadata,
    };
    member.commit(0, committed).await.unwrap();

    // Requests that are answered late stay in the queue meanwhile.
    cluster
        .broker_round_trip_time(1, Duration::from_millis(6_000))
        .unwrap();
    let slow = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.append(TOPIC, 0, (0..25).map(numbered).collect()).await }
    });
    gauges
        .wait_until("kafka_client_connected_brokers producer", |brokers| {
            brokers >= 1.0
        })
        .await;
    gauges
        .wait_until("kafka_client_queued_messages producer", |count| {
            count >= 25.0
        })
        .await;
    gauges
        .wait_until("kafka_client_queued_bytes producer", |bytes| bytes > 0.0)
        .await;
    slow.await.unwrap().unwrap();
    gauges
        .wait_until("kafka_client_round_trip_seconds producer", |seconds| {
            seconds >= 5.0
        })
        .await;
    gauges
        .wait_until("kafka_client_queued_messages producer", |count| {
            count == 0.0
        })
        .await;

    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let started = Instant::now();
    // 125 appended, 40 of them settled. A member's statistics come with its polls.
    while gauges.get("kafka_client_lag_records member") < 60.0 {
        assert!(
            started.elapsed() < PATIENCE,
            "{}",
            gauges.get("kafka_client_lag_records member")
        );
        member.poll(Duration::from_millis(200)).await.unwrap();
    }
}
