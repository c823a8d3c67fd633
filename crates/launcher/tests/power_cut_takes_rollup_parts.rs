//! Claim (INV-1, docs/decisions/0004): rollup parts are not synced, so a power cut may take any of the newest, whole or in
//! part. The engine starts all the same, and the proof after its restart brings every figure back before anything is committed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aggregator::recovery::BootMark;
use aggregator::{AggregatorConfig, SCANS};
use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::{
    AggregatorRun, DATABASE, Engine, PATIENCE, drained, open_log, runtime, seeded,
};
use event_log::SharedLog;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use warehouse::Store;

const PARTITIONS: u32 = 2;
const CUTS: usize = 3;

#[derive(Deserialize)]
struct Part {
    path: PathBuf,
}

/// What a power cut may leave of a part that was never synced.
#[derive(Debug, Clone, Copy)]
enum Left {
    Everything,
    Nothing,
    EmptyFiles,
    OneFileShort,
}

fn cut(part: &Path, random: &mut ChaCha8Rng) -> Left {
    let choices = [
        Left::Everything,
        Left::Nothing,
        Left::EmptyFiles,
        Left::OneFileShort,
    ];
    let left = *choices.choose(random).unwrap();
    let files: Vec<PathBuf> = fs::read_dir(part)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let shorten = |file: &Path, length: u64| {
        let file = OpenOptions::new().write(true).open(file).unwrap();
        file.set_len(length).unwrap();
    };
    match left {
        Left::Everything => {}
        Left::Nothing => fs::remove_dir_all(part).unwrap(),
        Left::EmptyFiles => files.iter().for_each(|file| shorten(file, 0)),
        Left::OneFileShort => {
            let file = files.choose(random).unwrap();
            let length = fs::metadata(file).unwrap().len();
            shorten(file, random.random_range(0..length.max(1)));
        }
    }
    left
}

/// Appends scans in small groups, so that many parts are written.
async fn append(log: &SharedLog, source: &mut ScanSource, counted: &mut Counted) {
    for _ in 0..10 {
        let mut scans = vec![Vec::new(); PARTITIONS as usize];
        for _ in 0..40 {
            let scan = source.next();
            scans[partition_of(&scan, PARTITIONS) as usize].push(scan);
        }
        for (partition, scans) in (0..).zip(scans).filter(|(_, scans)| !scans.is_empty()) {
            let records = scans.iter().map(record_of).collect();
            let appended = log.append(SCANS, partition, records).await.unwrap();
            for (offset, scan) in (appended.first..).zip(&scans) {
                counted.add(partition, offset, scan);
            }
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

async fn wait_proven(store: &Store) {
    let started = Instant::now();
    for partition in 0..PARTITIONS {
        while !BootMark::is_proven(store, partition).await.unwrap_or(false) {
            assert!(started.elapsed() < PATIENCE, "nothing is proven");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[test]
fn inv1_rollup_parts_that_a_power_cut_took_are_rebuilt_from_raw() {
    let mut random = seeded();
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(&folder.path().join("log"), PARTITIONS);
    let mut engine = Engine::start(&folder.path().join("clickhouse"));
    runtime.block_on(engine.migrated_store());
    let config = AggregatorConfig {
        writer: "cut".into(),
        linger: Duration::from_millis(5),
        ..AggregatorConfig::default()
    };
    let mut source = ScanSource::new(ChaCha8Rng::from_rng(&mut random));
    let mut counted = Counted::default();
    for _ in 0..CUTS {
        let aggregator = AggregatorRun::start(&log, &engine, &config);
        let parts: Vec<Part> = runtime.block_on(async {
            append(&log, &mut source, &mut counted).await;
            drained(&log, &aggregator).await;
            let rollups = "SELECT path FROM system.parts WHERE database = currentDatabase() AND active AND table IN
                ('corrections', 'venue_hour', 'region_hour', 'grid_day', 'tester_day')";
            engine.store(DATABASE).rows(rollups, &[]).await.unwrap()
        });
        aggregator.stop().unwrap();
        engine.kill();
        let lost = parts
            .iter()
            .filter(|part| part.path.exists())
            .filter(|part| !matches!(cut(&part.path, &mut random), Left::Everything))
            .count();
        assert!(lost > 0, "the cut took none of {} parts", parts.len());
        engine.restart();
        let store = engine.store(DATABASE);
        let damaged = runtime.block_on(counted.differences(&store));
        assert!(!damaged.is_empty(), "{lost} lost parts are not seen");

        let aggregator = AggregatorRun::start(&log, &engine, &config);
        runtime.block_on(wait_proven(&store));
        aggregator.stop().unwrap();
        let differences = runtime.block_on(counted.differences(&store));
        assert!(differences.is_empty(), "{lost} lost: {differences:#?}");
    }
}

#[test]
fn a_proof_holds_until_the_engine_restarts() {
    let mut random = seeded();
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(&folder.path().join("log"), PARTITIONS);
    let mut engine = Engine::start(&folder.path().join("clickhouse"));
    let store = runtime.block_on(engine.migrated_store());
    let config = AggregatorConfig {
        writer: "proven".into(),
        linger: Duration::from_millis(5),
        ..AggregatorConfig::default()
    };
    let mut source = ScanSource::new(ChaCha8Rng::from_rng(&mut random));
    let mut counted = Counted::default();
    let aggregator = AggregatorRun::start(&log, &engine, &config);
    runtime.block_on(async {
        append(&log, &mut source, &mut counted).await;
        drained(&log, &aggregator).await;
    });
    aggregator.stop().unwrap();
    let is_proven = |store: &Store| {
        runtime
            .block_on(BootMark::is_proven(store, 0))
            .expect("the engine answers")
    };
    assert!(is_proven(&store));
    engine.kill();
    engine.restart();
    assert!(
        !is_proven(&engine.store(DATABASE)),
        "a restart forgets the proof"
    );
}
