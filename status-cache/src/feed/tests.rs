use std::time::Duration;

use event_log::local::LocalOptions;
use event_log::{Cleanup, LocalLog, TopicConfig};

use super::*;
use crate::snapshot::{self, Pace};

#[tokio::test]
async fn inv5_a_snapshot_states_where_it_stands_in_partitions_that_held_nothing_yet() {
    let folder = tempfile::tempdir().unwrap();
    let topics = StatusTopic::ALL
        .map(|topic| TopicConfig::new(topic.name(), 3, Cleanup::KEEP))
        .to_vec();
    let (log, _) = LocalLog::open(folder.path(), topics, &LocalOptions::default()).unwrap();
    let log: SharedLog = Arc::new(log);
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
