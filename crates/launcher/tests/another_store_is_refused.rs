//! Claim (INV-1): an aggregator whose group has counted into one store does not go on in another, empty one, where everything before
//! would be missing without a word; once a replay has filled that store, it goes on there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::time::Duration;

use aggregator::replay::{self, ReplayOptions};
use aggregator::{AggregatorConfig, AggregatorError, SCANS};
use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::{AggregatorRun, DATABASE, Engine, drained, open_log, runtime, seeded};
use event_log::SharedLog;
use tokio::runtime::Runtime;

const PARTITIONS: u32 = 2;
const FINGERPRINT: [u8; 8] = [7; 8];

fn append(
    runtime: &Runtime,
    log: &SharedLog,
    source: &mut ScanSource,
    counted: &mut Counted,
    count: usize,
) {
    for _ in 0..count {
        let scan = source.next();
        let partition = partition_of(&scan, PARTITIONS);
        let append = log.append(SCANS, partition, vec![record_of(&scan)]);
        counted.add(partition, runtime.block_on(append).unwrap().first, &scan);
    }
}

#[test]
fn inv1_an_empty_store_is_refused_until_a_replay_has_filled_it() {
    let mut source = ScanSource::new(seeded());
    let mut counted = Counted::default();
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let log = open_log(&folder.path().join("log"), PARTITIONS);
    let config = AggregatorConfig {
        linger: Duration::from_millis(5),
        ..AggregatorConfig::default()
    };
    append(&runtime, &log, &mut source, &mut counted, 300);
    let first = Engine::start(&folder.path().join("first"));
    runtime.block_on(first.migrated_store());
    let run = AggregatorRun::start(&log, &first, &config);
    runtime.block_on(drained(&log, &run));
    run.stop().unwrap();

    let other = Engine::start(&folder.path().join("other"));
    let store = runtime.block_on(other.migrated_store());
    // However often it is tried.
    for _ in 0..2 {
        let outcome = AggregatorRun::start(&log, &other, &config).outcome();
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, AggregatorError::AnotherStore { position, .. } if position > 0),
            "{error}"
        );
        assert!(error.to_string().contains("tongxing replay"), "{error}");
    }

    let options = ReplayOptions::default();
    let replayed = replay::run(&log, &store, FINGERPRINT, &options, |_| {});
    runtime.block_on(replayed).unwrap();
    append(&runtime, &log, &mut source, &mut counted, 100);
    let run = AggregatorRun::start(&log, &other, &config);
    runtime.block_on(drained(&log, &run));
    run.stop().unwrap();
    let differences = runtime.block_on(counted.differences(&other.store(DATABASE)));
    assert!(differences.is_empty(), "{differences:#?}");
}
