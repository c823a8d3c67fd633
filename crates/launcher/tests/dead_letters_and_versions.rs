//! Claims: a record that cannot be stored is kept as a dead letter and holds up nothing (INV-1); one of a newer version
//! pauses its partition alone (INV-10); a lost position is an error, never a second count.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aggregator::{AggregatorConfig, AggregatorError, DEAD_LETTERS, GROUP, SCANS};
use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::{
    AggregatorRun, DATABASE, Engine, PATIENCE, drained, open_log, runtime, seeded,
};
use event_log::{Committed, ConsumerEvent, LogError, Offset, Partition, Record, SharedLog};
use scan_model::codec::ScanFormat;
use scan_model::{Scan, codec};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PARTITIONS: u32 = 3;

struct World {
    runtime: Runtime,
    log: SharedLog,
    engine: Engine,
    source: ScanSource,
    counted: Counted,
    folder: TempDir,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct DeadLetter {
    topic: String,
    partition: Partition,
    offset: Offset,
    reason: String,
    value: String,
}

impl World {
    fn new() -> Self {
        let random = seeded();
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(&folder.path().join("clickhouse"));
        let runtime = runtime();
        runtime.block_on(engine.migrated_store());
        Self {
            runtime,
            log: open_log(&folder.path().join("log"), PARTITIONS),
            engine,
            source: ScanSource::new(random),
            counted: Counted::default(),
            folder,
        }
    }

    fn aggregate(&self) -> AggregatorRun {
        self.aggregate_remembering(AggregatorConfig::default().window_capacity)
    }

    /// With a bound on the scan ids that are remembered.
    fn aggregate_remembering(&self, window_capacity: usize) -> AggregatorRun {
        let config = AggregatorConfig {
            batch_records: 100,
            linger: Duration::from_millis(5),
            insert_deadline: Duration::from_millis(200),
            window_capacity,
            ..AggregatorConfig::default()
        };
        AggregatorRun::start(&self.log, &self.engine, &config)
    }

    fn append_record(&self, partition: Partition, record: Record) -> Offset {
        let append = self.log.append(SCANS, partition, vec![record]);
        self.runtime.block_on(append).unwrap().first
    }

    fn append(&mut self, scans: &[Scan]) {
        for scan in scans {
            let partition = partition_of(scan, PARTITIONS);
            let offset = self.append_record(partition, record_of(scan));
            self.counted.add(partition, offset, scan);
        }
    }

    /// Appends scans of all partitions; those of `uncounted` partitions are behind what pauses them.
    fn append_scans(&mut self, count: usize, uncounted: &[Partition]) {
        for _ in 0..count {
            let scan = self.source.next();
            let partition = partition_of(&scan, PARTITIONS);
            let offset = self.append_record(partition, record_of(&scan));
            if !uncounted.contains(&partition) {
                self.counted.add(partition, offset, &scan);
            }
        }
    }

    fn drain(&self, run: &AggregatorRun) {
        self.runtime.block_on(drained(&self.log, run));
    }

    fn assert_counted_once(&self) {
        let store = self.engine.store(DATABASE);
        let differences = self.runtime.block_on(self.counted.differences(&store));
        assert!(differences.is_empty(), "{differences:#?}");
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        self.runtime.block_on(async {
            let end = self.log.bounds(DEAD_LETTERS, 0).await.unwrap().end;
            let mut reader = self.log.read(DEAD_LETTERS, 0, 0).await.unwrap();
            let mut letters = Vec::new();
            while reader.position() < end {
                for record in reader.next(1 << 20, Duration::from_secs(1)).await.unwrap() {
                    letters.push(serde_json::from_slice(&record.record.value.unwrap()).unwrap());
                }
            }
            letters
        })
    }

    fn position(&self, partition: Partition) -> Offset {
        let committed = self.log.committed(GROUP, SCANS, partition);
        self.runtime
            .block_on(committed)
            .unwrap()
            .map_or(0, |committed| committed.offset)
    }

    fn end(&self, partition: Partition) -> Offset {
        self.runtime
            .block_on(self.log.bounds(SCANS, partition))
            .unwrap()
            .end
    }

    fn wait_until(&self, what: &str, run: &AggregatorRun, holds: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            assert!(!run.has_ended(), "the aggregator ended before {what}");
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes the group's position as some other program might.
    fn set_position(&self, partition: Partition, offset: Offset) {
        self.runtime.block_on(async {
            let mut consumer = self.log.subscribe(GROUP, SCANS).await.unwrap();
            let assigned = consumer.poll(PATIENCE).await.unwrap();
            assert!(
                matches!(assigned, ConsumerEvent::Assigned(_)),
                "{assigned:?}"
            );
            let metadata = String::new();
            consumer
                .commit(partition, Committed { offset, metadata })
                .await
                .unwrap();
        });
    }

    /// Closes the log, deletes the positions of every group, and opens it again.
    fn delete_positions(self) -> Self {
        let Self {
            runtime,
            log,
            engine,
            source,
            counted,
            folder,
        } = self;
        let path: PathBuf = folder.path().join("log");
        assert_eq!(Arc::strong_count(&log), 1, "someone still holds the log");
        drop(log);
        std::fs::remove_dir_all(path.join("positions")).unwrap();
        let log = open_log(&path, PARTITIONS);
        Self {
            runtime,
            log,
            engine,
            source,
            counted,
            folder,
        }
    }
}

/// Values that are no scans of any version, and why.
fn malformed(scan: &Scan) -> Vec<Option<Vec<u8>>> {
    let whole = codec::encode(scan).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let longer = [whole.as_slice(), b"!"].concat();
    let version_0 = [&[0], &whole[1..]].concat();
    let unknown_enum = vec![1; 40];
    let json = ScanFormat::Json.encode(scan).unwrap();
    let cut_json = json[..json.len() / 2].to_vec();
    let no_scan = b"{}".to_vec();
    [
        cut,
        longer,
        version_0,
        unknown_enum,
        cut_json,
        no_scan,
        Vec::new(),
    ]
    .map(Some)
    .into_iter()
    .chain([None])
    .collect()
}

#[test]
fn a_malformed_record_becomes_a_dead_letter_and_everything_else_is_counted() {
    let mut world = World::new();
    let mut expected = BTreeMap::new();
    let values = malformed(&world.source.next());
    for (index, value) in values.into_iter().enumerate() {
        world.append_scans(20, &[]);
        let partition = index as Partition % PARTITIONS;
        let digits: Vec<_> = value
            .iter()
            .flatten()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let value = value.map(Into::into);
        let record = Record {
            value,
            ..Record::default()
        };
        let offset = world.append_record(partition, record);
        expected.insert((partition, offset), digits.concat());
    }
    world.append_scans(20, &[]);
    let run = world.aggregate();
    world.drain(&run);
    run.stop().unwrap();
    world.assert_counted_once();
    let letters = world.dead_letters();
    let found: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| ((letter.partition, letter.offset), letter.value.clone()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(letters.len(), expected.len(), "each once");
    for letter in &letters {
        assert_eq!(letter.topic, SCANS);
        assert!(
            letter.reason.starts_with("record is malformed: "),
            "{letter:?}"
        );
    }
    // A restart neither counts nor buries anything again.
    let run = world.aggregate();
    world.append_scans(20, &[]);
    world.drain(&run);
    run.stop().unwrap();
    world.assert_counted_once();
    assert_eq!(world.dead_letters(), letters);
}

#[test]
fn a_copy_is_recognised_although_its_batch_made_the_window_forget_the_first() {
    let mut world = World::new();
    let scans: Vec<Scan> = (0..40).map(|_| world.source.next()).collect();
    let copied = |scans: &[Scan]| [scans, scans].concat();
    world.append(&copied(&scans));
    let run = world.aggregate_remembering(5);
    world.drain(&run);
    let more: Vec<Scan> = (0..40).map(|_| world.source.next()).collect();
    world.append(&[copied(&more), scans].concat());
    world.drain(&run);
    run.stop().unwrap();
    assert!(world.counted.duplicates >= 120);
    world.assert_counted_once();
}

#[test]
fn a_record_that_the_store_refuses_becomes_a_dead_letter_and_the_rest_of_its_batch_is_counted() {
    const REFUSED: u64 = 0xDEAD;
    let mut world = World::new();
    let store = world.engine.store(DATABASE);
    // Stands for whatever a store may refuse: an insert with this person fails as a whole.
    let guard = format!(
        "ALTER TABLE scans ADD COLUMN guard UInt8 MATERIALIZED throwIf(person = {REFUSED})"
    );
    world.runtime.block_on(store.execute(&guard)).unwrap();
    let mut expected = Vec::new();
    for number in 0..3 {
        world.append_scans(30, &[]);
        let mut scan = world.source.next();
        scan.person.0 = REFUSED;
        scan.scan_id.0 += number;
        let partition = partition_of(&scan, PARTITIONS);
        expected.push((partition, world.append_record(partition, record_of(&scan))));
    }
    world.append_scans(30, &[]);
    let run = world.aggregate();
    world.drain(&run);
    run.stop().unwrap();
    world.assert_counted_once();
    let letters = world.dead_letters();
    let mut found: Vec<_> = letters
        .iter()
        .map(|letter| (letter.partition, letter.offset))
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason.contains("Code: 395")),
        "{letters:?}"
    );
}

#[test]
fn a_record_of_a_newer_version_pauses_its_partition_alone() {
    assert_pauses_its_partition_alone(vec![2, 1, 2, 3]);
}

#[test]
fn json_of_a_newer_version_pauses_its_partition_alone() {
    assert_pauses_its_partition_alone(br#"{"version":2,"seen":[1]}"#.to_vec());
}

fn assert_pauses_its_partition_alone(newer: Vec<u8>) {
    const PAUSED: Partition = 1;
    let mut world = World::new();
    world.append_scans(60, &[]);
    let newer = Record::unkeyed(newer);
    let stop_at = world.append_record(PAUSED, newer);
    // Nothing behind it may be counted, not even in the same batch, and nothing is lost: it stays in the log.
    world.append_scans(60, &[PAUSED]);
    let others_are_done = |world: &World| {
        let mut others = (0..PARTITIONS).filter(|partition| *partition != PAUSED);
        others.all(|partition| world.position(partition) == world.end(partition))
    };
    let run = world.aggregate();
    for _ in 0..3 {
        world.wait_until("the others go on", &run, others_are_done);
        world.wait_until("it stands before the newer record", &run, |world| {
            world.position(PAUSED) == stop_at
        });
        world.assert_counted_once();
        world.append_scans(30, &[PAUSED]);
    }
    world.wait_until("the others go on", &run, others_are_done);
    run.stop().unwrap();
    // Neither does a restart step over it.
    let run = world.aggregate();
    world.append_scans(30, &[PAUSED]);
    world.wait_until("the others go on", &run, others_are_done);
    run.stop().unwrap();
    world.assert_counted_once();
    assert_eq!(world.position(PAUSED), stop_at);
    assert!(world.end(PAUSED) > stop_at + 1);
    assert_eq!(world.dead_letters(), []);
}

/// Counts some scans, and answers a world whose aggregator has stopped in order.
fn settled_world() -> World {
    let mut world = World::new();
    world.append_scans(150, &[]);
    let run = world.aggregate();
    world.drain(&run);
    run.stop().unwrap();
    world.assert_counted_once();
    world
}

fn assert_refuses_to_count_again(world: &mut World) {
    world.append_scans(30, &(0..PARTITIONS).collect::<Vec<_>>());
    let outcome = world.aggregate().outcome();
    assert!(
        matches!(&outcome, Err(AggregatorError::PositionBehindStore { stored, position, .. }) if stored >= position),
        "{outcome:?}"
    );
}

#[test]
fn deleted_positions_are_an_error_and_nothing_is_counted_twice() {
    let mut world = settled_world().delete_positions();
    assert_refuses_to_count_again(&mut world);
    world.assert_counted_once();
}

#[test]
fn a_position_set_back_is_an_error_and_nothing_is_counted_twice() {
    let mut world = settled_world();
    for back in [0, world.end(2) / 2] {
        world.set_position(2, back);
        let outcome = world.aggregate().outcome();
        assert!(
            matches!(outcome, Err(AggregatorError::PositionBehindStore { partition: 2, position, .. }) if position == back),
            "{outcome:?}"
        );
        world.assert_counted_once();
    }
    assert_refuses_to_count_again(&mut world);
}

#[test]
fn a_position_beyond_the_log_is_an_error_and_never_the_latest() {
    let world = settled_world();
    let beyond = world.end(0) + 7;
    world.set_position(0, beyond);
    let outcome = world.aggregate().outcome();
    assert!(
        matches!(&outcome, Err(AggregatorError::Log(LogError::OutOfRange { offset, .. })) if *offset == beyond),
        "{outcome:?}"
    );
    world.assert_counted_once();
}
