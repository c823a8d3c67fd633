//! A group's position can be set from outside of the group, while nobody is in it: also after the group was deleted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kafka_support;

use std::time::{Duration, Instant};

use event_log::{Cleanup, Committed, ConsumerEvent, LogError, Record, TopicConfig};
use kafka_support::{Kafka, PATIENCE};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

const TOPIC: &str = "positions";
const GROUP: &str = "group";

fn at(offset: u64, metadata: &str) -> Committed {
    Committed {
        offset,
        metadata: metadata.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_is_set_while_the_group_has_no_members_and_refused_while_it_has() {
    let kafka = Kafka::shared();
    let log = kafka.log(&TopicConfig::new(TOPIC, 2, Cleanup::KEEP)).await;
    let records: Vec<_> = (0..10).map(|n: u8| Record::unkeyed(vec![n])).collect();
    log.append(TOPIC, 1, records).await.unwrap();

    // A group that nobody was ever in.
    let set = |committed| log.set_committed(GROUP, TOPIC, 1, committed);
    set(at(7, "pending/1 9 0")).await.unwrap();
    let found = log.committed(GROUP, TOPIC, 1).await.unwrap();
    assert_eq!(found, Some(at(7, "pending/1 9 0")));
    assert_eq!(log.committed(GROUP, TOPIC, 0).await.unwrap(), None);
    let refused = set(at(1, "\u{4e2d}")).await;
    assert!(matches!(refused, Err(LogError::Metadata)), "{refused:?}");

    // A member goes on from it, and nobody else sets it meanwhile.
    let mut member = log.subscribe(GROUP, TOPIC).await.unwrap();
    let started = Instant::now();
    let mut owned = 0;
    while owned < 2 {
        assert!(started.elapsed() < PATIENCE);
        if let ConsumerEvent::Assigned(partitions) =
            member.poll(Duration::from_millis(200)).await.unwrap()
        {
            owned += partitions.len();
        }
    }
    let refused = set(at(3, "")).await;
    assert!(
        matches!(&refused, Err(LogError::GroupInUse(group)) if group == GROUP),
        "{refused:?}"
    );
    member.commit(1, at(8, "")).await.unwrap();
    assert_eq!(
        log.committed(GROUP, TOPIC, 1).await.unwrap(),
        Some(at(8, ""))
    );
    drop(member);
    let started = Instant::now();
    while let Err(error) = set(at(5, "")).await {
        assert!(matches!(error, LogError::GroupInUse(_)), "{error}");
        assert!(started.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        log.committed(GROUP, TOPIC, 1).await.unwrap(),
        Some(at(5, ""))
    );

    // The group is deleted, and with it every position.
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .create()
        .unwrap();
    let deleted = admin
        .delete_groups(&[GROUP], &AdminOptions::new())
        .await
        .unwrap();
    assert_eq!(deleted, [Ok(GROUP.to_owned())]);
    assert_eq!(log.committed(GROUP, TOPIC, 1).await.unwrap(), None);
    set(at(2, "pending/1 6 0")).await.unwrap();
    let found = log.committed(GROUP, TOPIC, 1).await.unwrap();
    assert_eq!(found, Some(at(2, "pending/1 6 0")));
}
