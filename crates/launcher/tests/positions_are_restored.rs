//! Claim (INV-1): positions that were lost, with an insert half done, are restored from what raw holds, and everything is counted
//! once after that.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::time::Duration;

use aggregator::pending::Pending;
use aggregator::sealed::BatchSealer;
use aggregator::{AggregatorConfig, AggregatorError, GROUP, SCANS};
use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::tools::{refused, said};
use engine_support::{AggregatorRun, DATABASE, Engine, drained, open_log, runtime, seeded};
use event_log::{Committed, Offset, Partition, SharedLog};
use scan_model::{Scan, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use warehouse::ownership;
use warehouse::scan_rows::insert_statement;

const PARTITIONS: u32 = 2;

struct World {
    runtime: Runtime,
    engine: Engine,
    source: ScanSource,
    counted: Counted,
    folder: TempDir,
}

fn config() -> AggregatorConfig {
    AggregatorConfig {
        batch_records: 100,
        linger: Duration::from_millis(5),
        insert_deadline: Duration::from_millis(200),
        ..AggregatorConfig::default()
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(&folder.path().join("clickhouse"));
        let runtime = runtime();
        runtime.block_on(engine.migrated_store());
        Self {
            runtime,
            engine,
            source: ScanSource::new(seeded()),
            counted: Counted::default(),
            folder,
        }
    }

    fn log(&self) -> SharedLog {
        open_log(&self.folder.path().join("log"), PARTITIONS)
    }

    fn append(&mut self, count: usize) -> Vec<(Partition, Offset, Scan)> {
        let log = self.log();
        let mut appended = Vec::new();
        for _ in 0..count {
            let scan = self.source.next();
            let partition = partition_of(&scan, PARTITIONS);
            let append = log.append(SCANS, partition, vec![record_of(&scan)]);
            let offset = self.runtime.block_on(append).unwrap().first;
            self.counted.add(partition, offset, &scan);
            appended.push((partition, offset, scan));
        }
        appended
    }

    fn aggregate(&self) {
        let log = self.log();
        let run = AggregatorRun::start(&log, &self.engine, &config());
        self.runtime.block_on(drained(&log, &run));
        run.stop().unwrap();
    }

    /// Leaves what an aggregator leaves that is killed while its insert runs: a pending range, and every second of its rows.
    fn half_insert(&self, appended: &[(Partition, Offset, Scan)]) {
        let log = self.log();
        let store = self.engine.store(DATABASE);
        for partition in 0..PARTITIONS {
            let own: Vec<_> = appended
                .iter()
                // Copies and conflicts are nobody's rows.
                .filter(|(of, offset, _)| *of == partition && self.counted.is_row(*of, *offset))
                .collect();
            let (first, next) = (own[0].1, own[own.len() - 1].1 + 1);
            let mut sealer = BatchSealer::new(partition, first);
            for (_, offset, scan) in own.iter().skip(1).step_by(2) {
                sealer.push(*offset, Timestamp::now(), scan);
            }
            let pending = Pending {
                first,
                next,
                recorded_at: Timestamp(0),
            };
            let set = log.set_committed(GROUP, SCANS, partition, pending.to_commit());
            self.runtime.block_on(set).unwrap();
            let rows = sealer.seal(next).rows();
            let epoch = self.runtime.block_on(ownership::claim(&store, partition));
            let insert = insert_statement(partition, epoch.unwrap());
            self.runtime.block_on(store.insert(&insert, rows)).unwrap();
        }
    }

    fn assert_counted_once(&self) {
        let store = self.engine.store(DATABASE);
        let differences = self.runtime.block_on(self.counted.differences(&store));
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// The tool starts the engine itself, over the same data.
    fn with_tool(&mut self, act: impl FnOnce(&std::path::Path) -> String) -> String {
        self.engine.kill();
        let said = act(self.folder.path());
        self.engine.restart();
        said
    }

    fn assert_refuses(&self) {
        let log = self.log();
        let outcome = AggregatorRun::start(&log, &self.engine, &config()).outcome();
        assert!(
            matches!(outcome, Err(AggregatorError::PositionBehindStore { .. })),
            "{outcome:?}"
        );
    }

    fn position(&self, partition: Partition) -> Option<Committed> {
        let log = self.log();
        self.runtime
            .block_on(log.committed(GROUP, SCANS, partition))
            .unwrap()
    }
}

#[test]
fn inv1_lost_positions_with_an_insert_half_done_are_restored_and_everything_counts_once() {
    let mut world = World::new();
    world.append(400);
    world.aggregate();
    world.assert_counted_once();
    let appended = world.append(200);
    world.half_insert(&appended);
    std::fs::remove_dir_all(world.folder.path().join("log/positions")).unwrap();
    world.append(50);
    world.assert_refuses();

    let shown = world.with_tool(|data| said(data, &["positions", "show"]));
    assert_eq!(shown.matches("lost or reset").count(), 2, "{shown}");
    let dry = world.with_tool(|data| said(data, &["positions", "restore", "--dry-run"]));
    assert!(dry.contains("would be counted again"), "{dry}");
    assert_eq!(world.position(0), None);
    let restored = world.with_tool(|data| said(data, &["positions", "restore"]));
    assert_eq!(
        restored.matches("is counted again").count(),
        2,
        "{restored}"
    );
    world.aggregate();
    world.assert_counted_once();

    world.append(50);
    world.aggregate();
    world.assert_counted_once();
    let shown = world.with_tool(|data| said(data, &["positions", "restore"]));
    assert!(shown.contains("nothing to restore"), "{shown}");
    assert_eq!(shown.matches("sound").count(), 2, "{shown}");
}

#[test]
fn inv1_a_position_that_was_set_back_is_restored() {
    let mut world = World::new();
    world.append(300);
    world.aggregate();
    {
        let log = world.log();
        let metadata = String::new();
        let committed = Committed {
            offset: 3,
            metadata,
        };
        let set = log.set_committed(GROUP, SCANS, 1, committed);
        world.runtime.block_on(set).unwrap();
    }
    world.assert_refuses();
    let restored = world.with_tool(|data| said(data, &["positions", "restore"]));
    assert_eq!(
        restored.matches("is counted again").count(),
        1,
        "{restored}"
    );
    world.append(50);
    world.aggregate();
    world.assert_counted_once();
}

#[test]
fn a_store_that_does_not_belong_to_the_log_and_a_log_in_use_are_refused() {
    let mut world = World::new();
    world.append(200);
    world.aggregate();
    let log = world.log();
    let in_use = refused(world.folder.path(), &["positions", "show"]);
    assert!(in_use.contains("stop `tongxing up` first"), "{in_use}");
    drop(log);
    std::fs::remove_dir_all(world.folder.path().join("log")).unwrap();
    world.append(5);
    let other = world.with_tool(|data| refused(data, &["positions", "restore"]));
    assert!(other.contains("do not belong together"), "{other}");
    assert_eq!(world.position(0), None);
    let nothing = tempfile::tempdir().unwrap();
    let none = refused(nothing.path(), &["positions", "show"]);
    assert!(none.contains("holds no log"), "{none}");
}
