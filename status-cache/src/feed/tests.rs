use std::path::Path;
use std::time::Duration;

use event_log::local::LocalOptions;
use event_log::{Cleanup, LocalLog, Record, TopicConfig};
use scan_model::{Enrolment, Identity, PersonId, codec};

use super::*;
use crate::cache::tests::enrolment;
use crate::snapshot::{self, Pace, SnapshotError};

/// A log with the topics of the feed, each of so many partitions.
fn open_log(folder: &Path, partitions: u32) -> SharedLog {
    let topics = StatusTopic::ALL
        .map(|topic| TopicConfig::new(topic.name(), partitions, Cleanup::KEEP))
        .to_vec();
    let (log, _) = LocalLog::open(folder, topics, &LocalOptions::default()).unwrap();
    Arc::new(log)
}

/// The record of a person's enrolment.
fn record(number: u64) -> Record {
    let identity = Identity {
        person: PersonId(number),
        check: 0,
    };
    let enrolment = Enrolment {
        identity,
        ..enrolment(0)
    };
    let value = codec::encode(&enrolment).unwrap();
    Record::keyed(number.to_be_bytes().to_vec(), value)
}

#[tokio::test]
async fn inv5_a_snapshot_states_where_it_stands_in_partitions_that_held_nothing_yet() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), 3);
    let cache = Arc::new(StatusCache::new(10).unwrap());
    let feed = Feed::start(log, Arc::clone(&cache), &Coverage::default()).unwrap();
    let file = folder.path().join("status.snapshot");
    snapshot::write(&cache, Timestamp::now(), [1; 8], &file, Pace::Fast).unwrap();
    let restored = StatusCache::new(10).unwrap();
    let coverage = snapshot::read(&restored, [1; 8], Duration::from_secs(60), &file).unwrap();
    let mut stated: Vec<_> = coverage.positions.into_iter().collect();
    stated.sort();
    let mut all: Vec<_> = StatusTopic::ALL
        .iter()
        .flat_map(|topic| (0..3).map(|partition| ((topic.name().to_owned(), partition), 0)))
        .collect();
    all.sort();
    assert_eq!(stated, all);
    feed.stop().await;
}

#[tokio::test]
async fn whoever_finds_the_table_full_stops_nothing_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), 1);
    let records = vec![record(1), record(2), record(3), record(1)];
    let appended = log.append(PERSONS, 0, records).await.unwrap();
    let cache = Arc::new(StatusCache::new(2).unwrap());
    let feed = Feed::start(Arc::clone(&log), Arc::clone(&cache), &Coverage::default()).unwrap();
    assert!(
        feed.wait_applied(PERSONS, 0, appended.last, Duration::from_secs(30))
            .await
    );
    assert_eq!(feed.failure(), None);
    assert_eq!((cache.table().len(), cache.without_place()), (2, 1));
    // What a snapshot covers is not read again, so there is none.
    let file = folder.path().join("status.snapshot");
    let refused = snapshot::write(&cache, Timestamp::now(), [1; 8], &file, Pace::Fast);
    assert!(matches!(
        refused,
        Err(SnapshotError::WithoutPlace { persons: 1 })
    ));
    assert!(!file.exists() && !file.with_extension("writing").exists());
    feed.stop().await;
}

#[tokio::test]
async fn inv5_a_snapshot_ahead_of_the_log_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(&folder.path().join("first"), 1);
    let appended = log.append(PERSONS, 0, vec![record(1), record(2)]).await;
    let cache = Arc::new(StatusCache::new(2).unwrap());
    let feed = Feed::start(Arc::clone(&log), Arc::clone(&cache), &Coverage::default()).unwrap();
    let last = appended.unwrap().last;
    assert!(
        feed.wait_applied(PERSONS, 0, last, Duration::from_secs(30))
            .await
    );
    let file = folder.path().join("status.snapshot");
    snapshot::write(&cache, Timestamp::now(), [1; 8], &file, Pace::Fast).unwrap();
    feed.stop().await;

    let restored = Arc::new(StatusCache::new(2).unwrap());
    let coverage = snapshot::read(&restored, [1; 8], Duration::from_secs(60), &file).unwrap();
    let of_its_log = snapshot::check_against_log(&restored, &log, &file).await;
    of_its_log.unwrap().unwrap();
    // A log that was made anew holds less.
    let anew = open_log(&folder.path().join("second"), 1);
    anew.append(PERSONS, 0, vec![record(3)]).await.unwrap();
    let refused = snapshot::check_against_log(&restored, &anew, &file).await;
    assert!(matches!(
        refused.unwrap(),
        Err(SnapshotError::AheadOfLog {
            topic: "persons",
            partition: 0,
            covered: 2,
            end: 1,
            ..
        })
    ));
    // Nor is anything passed over where the log was away when the snapshot was read.
    let feed = Feed::start(Arc::clone(&anew), restored, &coverage).unwrap();
    let mut failure = feed.failure.clone();
    let failed = failure.wait_for(Option::is_some).await.unwrap().clone();
    assert!(failed.unwrap().contains("made anew"));
    feed.stop().await;
}
