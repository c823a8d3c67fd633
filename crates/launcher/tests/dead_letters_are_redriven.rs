//! Claims (INV-1): a dead letter is listed, explained and sent again, and counts once after that, whether it is sent twice, the
//! sending process is killed in between, or the range it came from is counted again. One that cannot be read is not sent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aggregator::dead_letters::{self, Letter};
use aggregator::{AggregatorConfig, DEAD_LETTERS, GROUP, SCANS};
use engine_support::counted::Counted;
use engine_support::scans::{ScanSource, partition_of, record_of};
use engine_support::tools::{command, refused, said};
use engine_support::{AggregatorRun, DATABASE, Engine, drained, open_log, runtime, seeded};
use event_log::{Committed, Offset, Partition, Record, SharedLog};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scan_model::{PersonId, Scan, ScanId, codec};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use warehouse::slices;

const PARTITIONS: u32 = 2;
/// A person whose scans the store refuses while it is broken.
const REFUSED: PersonId = PersonId(0xDEAD);

struct World {
    runtime: Runtime,
    engine: Engine,
    source: ScanSource,
    random: ChaCha8Rng,
    counted: Counted,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let mut random = seeded();
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(&folder.path().join("clickhouse"));
        let runtime = runtime();
        runtime.block_on(engine.migrated_store());
        Self {
            runtime,
            engine,
            source: ScanSource::new(rand::SeedableRng::seed_from_u64(random.random())),
            random,
            counted: Counted::default(),
            folder,
        }
    }

    fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Opens the log, which has one user at a time, for as long as something is done with it.
    fn with_log<T>(&self, act: impl FnOnce(&SharedLog) -> T) -> T {
        let log = open_log(&self.data().join("log"), PARTITIONS);
        act(&log)
    }

    fn append(&self, log: &SharedLog, scan: &Scan) -> (Partition, Offset) {
        let partition = partition_of(scan, PARTITIONS);
        let append = log.append(SCANS, partition, vec![record_of(scan)]);
        (partition, self.runtime.block_on(append).unwrap().first)
    }

    /// A scan of the person whom the store refuses, under an id of its own.
    fn refused_scan(&mut self, number: u128) -> Scan {
        let mut scan = self.source.next();
        scan.person = REFUSED;
        scan.scan_id = ScanId(scan.scan_id.0 ^ (number + 1));
        scan.corrects = None;
        scan
    }

    /// Appends scans and counts them.
    fn append_scans(&mut self, count: usize) {
        let log = open_log(&self.data().join("log"), PARTITIONS);
        for _ in 0..count {
            let scan = self.source.next();
            let (partition, offset) = self.append(&log, &scan);
            self.counted.add(partition, offset, &scan);
        }
    }

    fn break_store(&self) {
        let guard = format!(
            "ALTER TABLE scans ADD COLUMN guard UInt8 MATERIALIZED throwIf(person = {})",
            REFUSED.0
        );
        self.execute(&guard);
    }

    fn mend_store(&self) {
        self.execute("ALTER TABLE scans DROP COLUMN guard");
    }

    fn execute(&self, sql: &str) {
        let store = self.engine.store(DATABASE);
        self.runtime.block_on(store.execute(sql)).unwrap();
    }

    /// Lets an aggregator count whatever is in the log.
    fn aggregate(&self) {
        self.with_log(|log| {
            let config = AggregatorConfig {
                batch_records: 100,
                linger: Duration::from_millis(5),
                insert_deadline: Duration::from_millis(200),
                ..AggregatorConfig::default()
            };
            let run = AggregatorRun::start(log, &self.engine, &config);
            self.runtime.block_on(drained(log, &run));
            run.stop().unwrap();
        });
    }

    fn letters(&self) -> Vec<Letter> {
        self.with_log(|log| {
            self.runtime
                .block_on(dead_letters::read(log))
                .unwrap()
                .letters
        })
    }

    /// Notes that a letter's scan counts from now on, under the offset it was sent again as.
    fn count_redriven(&mut self, scan: &Scan, letter: &Letter) {
        let as_offset = letter.redriven[0].as_offset;
        self.counted.add(letter.place.partition, as_offset, scan);
    }

    fn assert_counted_once(&self) {
        let store = self.engine.store(DATABASE);
        let differences = self.runtime.block_on(self.counted.differences(&store));
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// Scans in raw of the person whom the store refused.
    fn refused_in_raw(&self) -> u64 {
        let store = self.engine.store(DATABASE);
        let sql = format!(
            "SELECT count() AS rows FROM scans WHERE person = {} HAVING rows = uniqExact(scan_id)",
            REFUSED.0
        );
        let rows: Vec<Value> = self.runtime.block_on(store.rows(&sql, &[])).unwrap();
        let count = &rows[0]["rows"];
        count
            .as_u64()
            .or_else(|| count.as_str()?.parse().ok())
            .unwrap()
    }
}

#[test]
fn inv1_a_letter_whose_store_was_mended_is_sent_again_and_counts_once() {
    let mut world = World::new();
    world.append_scans(40);
    world.break_store();
    let scan = world.refused_scan(0);
    let (partition, offset) = world.with_log(|log| world.append(log, &scan));
    world.append_scans(40);
    world.aggregate();
    world.assert_counted_once();
    let data = world.folder.path().to_owned();

    let listed = said(&data, &["dead-letters", "list", "--json"]);
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    let letter = &listed[0];
    assert_eq!(letter["partition"], partition);
    assert_eq!(letter["offset"], offset);
    assert_eq!(letter["state"], "open");
    assert!(
        letter["reason"].as_str().unwrap().contains("Code: 395"),
        "{letter}"
    );
    let explained = said(&data, &["dead-letters", "explain", "0"]);
    for part in [
        "the store refused the row",
        "(a pseudonym)",
        "value ",
        "event_time",
    ] {
        assert!(explained.contains(part), "{explained}");
    }

    world.mend_store();
    let sent = said(&data, &["dead-letters", "redrive", "0"]);
    assert!(sent.contains("1 sent again"), "{sent}");
    let letters = world.letters();
    world.count_redriven(&scan, &letters[0]);
    world.aggregate();
    world.assert_counted_once();

    // A second time needs a word, and changes nothing.
    let again = refused(&data, &["dead-letters", "redrive", "0"]);
    assert!(again.contains("--again"), "{again}");
    let none = said(&data, &["dead-letters", "redrive", "--all"]);
    assert!(none.contains("0 sent again, 0 not"), "{none}");
    said(&data, &["dead-letters", "redrive", "0", "--again"]);
    world.append_scans(20);
    world.aggregate();
    world.assert_counted_once();
    assert_eq!(world.refused_in_raw(), 1);
    let list = said(&data, &["dead-letters", "list"]);
    assert!(
        list.contains("1 letters, 0 open") && list.contains("redriven"),
        "{list}"
    );
}

#[test]
fn a_letter_that_no_build_reads_is_explained_and_not_sent() {
    let mut world = World::new();
    let scan = world.source.next();
    let whole = codec::encode(&scan).unwrap();
    let values = [&whole[..whole.len() / 2], &[0, 1, 2], &[], &[1; 40]];
    world.with_log(|log| {
        for value in values {
            let append = log.append(SCANS, 0, vec![Record::unkeyed(value.to_vec())]);
            world.runtime.block_on(append).unwrap();
        }
        // What an aggregator leaves that wrote a letter and ended before it committed.
        let buried = dead_letters::write(log, 0, 0, "record is malformed: twice", values[0]);
        world.runtime.block_on(buried).unwrap();
    });
    world.aggregate();
    let data = world.folder.path().to_owned();
    let letters = world.letters();
    assert_eq!(letters.len(), values.len(), "{letters:?}");
    // The record that was a letter already was not buried again.
    assert!(letters[0].copies.is_empty(), "{letters:?}");
    assert_eq!(letters[0].reason, "record is malformed: twice");

    let cut = said(&data, &["dead-letters", "explain", "0"]);
    assert!(
        cut.contains("its field") && cut.contains("Re-driving is refused"),
        "{cut}"
    );
    let empty = letters
        .iter()
        .find(|letter| letter.value.as_deref() == Some(&[]));
    let number = empty.unwrap().number.to_string();
    let empty = said(&data, &["dead-letters", "explain", &number]);
    assert!(empty.contains("not even a version byte"), "{empty}");

    let end = |world: &World| {
        world.with_log(|log| world.runtime.block_on(log.bounds(SCANS, 0)).unwrap().end)
    };
    let before = end(&world);
    let not_sent = refused(&data, &["dead-letters", "redrive", "--all"]);
    assert!(
        not_sent.contains("this build cannot read the value"),
        "{not_sent}"
    );
    assert!(not_sent.contains("0 sent again, 4 not"), "{not_sent}");
    assert_eq!(end(&world), before);
    let absent = refused(&data, &["dead-letters", "explain", "77"]);
    assert!(absent.contains("there is no letter 77"), "{absent}");
}

#[test]
fn inv1_a_range_counted_again_does_not_count_a_letter_and_its_copy() {
    let mut world = World::new();
    world.append_scans(30);
    world.break_store();
    let scan = world.refused_scan(0);
    world.with_log(|log| world.append(log, &scan));
    world.append_scans(30);
    world.aggregate();
    world.mend_store();
    let data = world.folder.path().to_owned();
    said(&data, &["dead-letters", "redrive", "0"]);
    let letters = world.letters();
    world.count_redriven(&scan, &letters[0]);
    world.aggregate();
    world.assert_counted_once();
    // Everything is pending once more, the letter's own offset among it.
    world.with_log(|log| {
        for partition in 0..PARTITIONS {
            let end = world
                .runtime
                .block_on(log.bounds(SCANS, partition))
                .unwrap()
                .end;
            let metadata = format!("pending/1 {end} 0");
            let committed = Committed {
                offset: 0,
                metadata,
            };
            let set = log.set_committed(GROUP, SCANS, partition, committed);
            world.runtime.block_on(set).unwrap();
        }
    });
    world.aggregate();
    world.assert_counted_once();
    assert_eq!(world.refused_in_raw(), 1);
    assert_eq!(world.letters().len(), 1);
}

#[test]
fn inv1_killed_while_it_sends_letters_again_it_can_be_run_again_and_each_counts_once() {
    const LETTERS: u128 = 300;
    let mut world = World::new();
    world.append_scans(20);
    let scans: Vec<Scan> = (0..LETTERS)
        .map(|number| world.refused_scan(number))
        .collect();
    // Letters of valid records, at offsets that hold nothing countable.
    world.with_log(|log| {
        for scan in &scans {
            let partition = partition_of(scan, PARTITIONS);
            let append = log.append(SCANS, partition, vec![Record::unkeyed("once damaged")]);
            let offset = world.runtime.block_on(append).unwrap().first;
            let value = record_of(scan).value.unwrap();
            let write = dead_letters::write(log, partition, offset, "for the test", &value);
            world.runtime.block_on(write).unwrap();
        }
    });
    world.aggregate();
    let data = world.folder.path().to_owned();
    let all = [
        "dead-letters",
        "redrive",
        "--all",
        "--reason",
        "for the test",
    ];
    let mut killed_midway = 0;
    while killed_midway < 5 {
        let before = world
            .letters()
            .iter()
            .filter(|letter| letter.is_open())
            .count();
        if before == 0 {
            break;
        }
        let mut child = command(&data, &all).stdout(Stdio::piped()).spawn().unwrap();
        // It says each letter that it sent; somewhere in the next one it is killed.
        let sent = world.random.random_range(1..40);
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = said.by_ref().map_while(Result::ok).take(sent).count();
        std::thread::sleep(Duration::from_micros(world.random.random_range(0..2_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let after = world
            .letters()
            .iter()
            .filter(|letter| letter.is_open())
            .count();
        println!("killed after {heard} were sent: {before} letters were open, {after} are");
        if after > 0 && after < before {
            killed_midway += 1;
        }
    }
    assert!(killed_midway > 0, "no kill came while letters were sent");
    // The moment between a scan and its note, for certain.
    let open = world.letters().into_iter().find(Letter::is_open);
    if let Some(open) = open {
        let scan = &scans[open.number as usize];
        world.with_log(|log| world.append(log, scan));
    }
    said(&data, &all);
    let letters = world.letters();
    assert!(letters.iter().all(|letter| !letter.is_open()));
    let end = world.with_log(|log| {
        world
            .runtime
            .block_on(log.bounds(DEAD_LETTERS, 0))
            .unwrap()
            .end
    });
    println!("{} letters, {end} records in dead-letters", letters.len());
    world.aggregate();
    assert_eq!(u128::from(world.refused_in_raw()), LETTERS);
    let store = world.engine.store(DATABASE);
    let differing = world.runtime.block_on(async {
        let all = slices::all_slices(&store).await.unwrap();
        slices::find_differences(&store, &all).await.unwrap()
    });
    assert!(differing.is_empty(), "{differing:?}");
}
