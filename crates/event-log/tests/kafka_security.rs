//! A broker that demands TLS, or TLS and a user: who has what it demands reads and writes; who has not is told what is missing,
//! in bounded time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kafka_support;

use std::time::{Duration, Instant};

use event_log::kafka::topics::TopicAdmin;
use event_log::kafka::{KafkaOptions, Security};
use event_log::{Cleanup, EventLog, KafkaLog, LogError, Record, SharedLog, TopicConfig};
use kafka_support::{ALONE, PATIENCE, SecureKafka, open_log};

/// Nobody who is not let in waits longer for the answer: a question takes 10 s at most, and a second follows it at most.
const BOUNDED: Duration = Duration::from_secs(25);

fn topic(name: &str) -> TopicConfig {
    TopicConfig::new(name, 1, Cleanup::KEEP)
}

/// Appends and reads back through a log.
async fn assert_works(log: &SharedLog, topic: &str) {
    let record = Record::keyed("key", "value");
    let appended = log.append(topic, 0, vec![record.clone()]).await.unwrap();
    let mut reader = log.read(topic, 0, appended.first).await.unwrap();
    let records = reader.next(1, PATIENCE).await.unwrap();
    assert_eq!(records[0].record, record);
    assert_eq!(log.bounds(topic, 0).await.unwrap().end, appended.last + 1);
    assert_eq!(log.committed("anyone", topic, 0).await.unwrap(), None);
}

/// What each kind of call answers to a client that is not let in.
async fn refusals(options: KafkaOptions) -> Vec<LogError> {
    let declared = vec![topic("closed")];
    let started = Instant::now();
    let admin = TopicAdmin::new(&options).unwrap();
    let created = admin.create_missing(&declared, ALONE).await.unwrap_err();
    let told = started.elapsed();
    let log = KafkaLog::connect(options, declared).unwrap();
    let (appended, bounds, committed) = tokio::join!(
        log.append("closed", 0, vec![Record::unkeyed("x")]),
        log.bounds("closed", 0),
        log.committed("anyone", "closed", 0),
    );
    println!(
        "{created} (after {told:?}; all after {:?})",
        started.elapsed()
    );
    assert!(started.elapsed() < BOUNDED, "{:?}", started.elapsed());
    vec![
        created,
        appended.unwrap_err(),
        bounds.unwrap_err(),
        committed.unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_alone_reads_and_writes() {
    let kafka = SecureKafka::shared();
    let log = open_log(kafka.tls(&kafka.ca_file), &[topic("by-tls")]).await;
    assert_works(&log, "by-tls").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_a_user_reads_and_writes() {
    let kafka = SecureKafka::shared();
    let log = open_log(kafka.scram(&kafka.password()), &[topic("by-scram")]).await;
    assert_works(&log, "by-scram").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_forbidden_and_the_answer_comes_in_time() {
    let kafka = SecureKafka::shared();
    for error in refusals(kafka.scram("not the password")).await {
        let text = error.to_string();
        assert!(matches!(error, LogError::Forbidden(_)), "{text}");
        assert!(text.contains("authentication"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_foreign_authority_is_refused_and_said_to_be_so() {
    let kafka = SecureKafka::shared();
    let foreign = kafka.foreign_ca();
    for error in refusals(kafka.tls(&foreign)).await {
        let text = error.to_string();
        assert!(matches!(error, LogError::Tls(_)), "{text}");
        assert!(text.contains("certificate could not be verified"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_gets_an_error_in_time_that_says_what_may_be_demanded() {
    let kafka = SecureKafka::shared();
    let options = KafkaOptions {
        security: Security::Plaintext,
        ..kafka.tls(&kafka.ca_file)
    };
    // A broker that is just ending looks the same, so this one may be tried again.
    for error in refusals(options).await {
        let text = error.to_string();
        assert!(error.is_retryable(), "{text}");
        assert!(text.contains("perhaps it demands TLS"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_user_gets_an_error_in_time_where_one_is_demanded() {
    let kafka = SecureKafka::shared();
    let options = KafkaOptions {
        bootstrap: kafka.scram_bootstrap.clone(),
        ..kafka.tls(&kafka.ca_file)
    };
    for error in refusals(options).await {
        let text = error.to_string();
        assert!(error.is_retryable(), "{text}");
        assert!(text.contains("perhaps it demands a user"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_no_certificate_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "not a certificate").unwrap();
    let options = KafkaOptions {
        security: Security::Tls {
            ca_file: Some(file),
        },
        ..KafkaOptions::new("127.0.0.1:1")
    };
    let refused = KafkaLog::connect(options, vec![topic("closed")])
        .err()
        .unwrap();
    let text = refused.to_string();
    assert!(matches!(refused, LogError::Options(_)), "{text}");
    assert!(text.contains("ssl.ca.location"), "{text}");
}
