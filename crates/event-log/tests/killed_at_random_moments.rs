//! Claim: whenever the process is killed, every acknowledged record is there afterwards, once, at its offset, in order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
// The writer uses the rest.
#[allow(dead_code)]
#[path = "support/writer_protocol.rs"]
mod writer_protocol;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use event_log::{EventLog, LocalLog, Offset, Partition, StoredRecord};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use support::{PATIENCE, options, read_to, seeded};
use writer_protocol::{Append, EVENTS, GROUP, KEYS, Line, NEWEST, PARTITIONS, topics};

/// When a writer is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// This long after its start, whatever it does then.
    AfterStart(Duration),
    /// This long after its first acknowledged append.
    UnderLoad(Duration),
}

/// What writers have said, over all runs.
#[derive(Default)]
struct Acknowledged {
    appends: HashMap<Append, (Partition, Offset)>,
    /// Of each key of the compacted topic, what was acknowledged by offset: the run and the number.
    newest: BTreeMap<u64, BTreeMap<Offset, (u64, u64)>>,
    committed: Offset,
}

impl Acknowledged {
    fn note(&mut self, line: Line) {
        match line {
            Line::Appended(append, partition, first) => {
                let earlier = self.appends.insert(append, (partition, first));
                assert_eq!(earlier, None, "{append:?} was acknowledged twice");
            }
            Line::Newest {
                run,
                number,
                offset,
            } => {
                let of_key = self.newest.entry(number % KEYS).or_default();
                of_key.insert(offset, (run, number));
            }
            Line::Committed(offset) => {
                assert!(offset >= self.committed, "commits of one writer rise");
                self.committed = offset;
            }
        }
    }
}

fn is_long() -> bool {
    std::env::var("TONGXING_LONG").is_ok_and(|long| long == "1")
}

fn schedule(random: &mut ChaCha8Rng, kills: usize) -> Vec<Moment> {
    let moment = |_| {
        if random.random_ratio(1, 5) {
            Moment::AfterStart(Duration::from_micros(random.random_range(0..40_000)))
        } else {
            Moment::UnderLoad(Duration::from_micros(random.random_range(0..80_000)))
        }
    };
    (0..kills).map(moment).collect()
}

/// Runs a writer, kills it at a moment, and answers all lines that it wrote whole.
fn run_and_kill(folder: &Path, run: u64, moment: Moment) -> Vec<Line> {
    let mut writer = Command::new(env!("CARGO_BIN_EXE_event-log-writer"))
        .arg(folder)
        .arg(run.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(writer.stdout.take().unwrap());
    let (first_line, load_began) = mpsc::channel();
    let collecting = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            if let Some(whole) = line.strip_suffix('\n') {
                lines.push(Line::parse(whole).unwrap_or_else(|| panic!("unknown line {whole:?}")));
                let _ = first_line.send(());
            }
            line.clear();
        }
        lines
    });
    match moment {
        Moment::AfterStart(delay) => std::thread::sleep(delay),
        Moment::UnderLoad(delay) => {
            wait_for_load(&load_began);
            std::thread::sleep(delay);
        }
    }
    writer.kill().unwrap();
    let status = writer.wait().unwrap();
    assert_eq!(
        status.signal(),
        Some(9),
        "run {run} ended by itself: {status}"
    );
    collecting.join().unwrap()
}

fn wait_for_load(load_began: &Receiver<()>) {
    load_began
        .recv_timeout(PATIENCE)
        .expect("the writer acknowledges an append");
}

/// What one look at the log found.
struct Found {
    records: usize,
    cuts: usize,
}

/// Opens the log and holds it against what was acknowledged.
async fn check(folder: &Path, acknowledged: &Acknowledged) -> Found {
    let (log, report) = LocalLog::open(folder, topics(), &options()).expect("the log opens");
    let mut records = 0;
    let mut places: HashMap<Append, (Partition, Offset)> = HashMap::new();
    for partition in 0..PARTITIONS {
        let stored = read_topic(&log, EVENTS, partition).await;
        let end = log.bounds(EVENTS, partition).await.unwrap().end;
        let offsets = stored.iter().map(|record| record.offset);
        assert!(
            offsets.eq(0..end),
            "partition {partition} has a gap or a repetition below {end}"
        );
        check_order(partition, &stored, &mut places);
        records += stored.len();
    }
    for (append, place) in &acknowledged.appends {
        assert_eq!(
            places.get(append),
            Some(place),
            "{append:?} was acknowledged there"
        );
    }
    check_nothing_was_invented(&places, acknowledged);
    check_newest(&read_topic(&log, NEWEST, 0).await, acknowledged);
    let committed = log.committed(GROUP, EVENTS, 0).await.unwrap();
    let position = committed.as_ref().map_or(0, |committed| committed.offset);
    assert!(
        position >= acknowledged.committed,
        "the position went back to {position}"
    );
    if let Some(committed) = committed {
        assert_eq!(committed.metadata, format!("at {position}"));
    }
    Found {
        records,
        cuts: report.cuts.len(),
    }
}

async fn read_topic(log: &LocalLog, topic: &str, partition: Partition) -> Vec<StoredRecord> {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let mut reader = log.read(topic, partition, bounds.start).await.unwrap();
    read_to(&mut reader, bounds.end)
        .await
        .expect("the partition is read")
}

/// Each append lies whole and in one piece, its values unaltered, and those of one task in the order of its sequence.
fn check_order(
    partition: Partition,
    stored: &[StoredRecord],
    places: &mut HashMap<Append, (Partition, Offset)>,
) {
    let mut last: HashMap<(u64, u64), u64> = HashMap::new();
    let mut rest = stored;
    while let Some(first) = rest.first() {
        let (append, _) = Append::of_value(first.record.value.as_ref().unwrap()).unwrap();
        assert_eq!(append.partition(), partition);
        let count = append.count() as usize;
        assert!(rest.len() >= count, "{append:?} is there in part");
        for (index, record) in rest[..count].iter().enumerate() {
            let record = &record.record;
            assert_eq!(
                record.value.as_deref(),
                Some(&*append.value(index as u64)),
                "{append:?}"
            );
            assert_eq!(record.key.as_deref(), Some(append.key().as_bytes()));
        }
        let earlier = places.insert(append, (partition, first.offset));
        assert_eq!(earlier, None, "{append:?} is there twice");
        let before = last.insert((append.run, append.task), append.sequence);
        assert!(
            before < Some(append.sequence),
            "{append:?} comes after {before:?}"
        );
        rest = &rest[count..];
    }
}

/// Of each task in each run, at most the one append that was under way when the kill came is there unacknowledged.
fn check_nothing_was_invented(
    places: &HashMap<Append, (Partition, Offset)>,
    acknowledged: &Acknowledged,
) {
    let mut sequences: HashMap<(u64, u64), Vec<u64>> = HashMap::new();
    for append in places.keys() {
        sequences
            .entry((append.run, append.task))
            .or_default()
            .push(append.sequence);
    }
    for ((run, task), mut found) in sequences {
        found.sort_unstable();
        assert!(
            found.iter().copied().eq(0..found.len() as u64),
            "run {run} task {task} has a gap"
        );
        let is_known = |sequence| {
            acknowledged.appends.contains_key(&Append {
                run,
                task,
                sequence,
            })
        };
        let mut known = 0;
        while is_known(known as u64) {
            known += 1;
        }
        assert!(
            found.len() <= known + 1,
            "run {run} task {task}: {} of {known}",
            found.len()
        );
    }
}

/// The newest acknowledged record of each key, or a later one, is there; what is there lies at its offset, in order.
fn check_newest(stored: &[StoredRecord], acknowledged: &Acknowledged) {
    assert!(stored.is_sorted_by(|a, b| a.offset < b.offset));
    let mut by_key: BTreeMap<u64, BTreeMap<Offset, (u64, u64)>> = BTreeMap::new();
    let mut last = None;
    for record in stored {
        let value = str::from_utf8(record.record.value.as_ref().unwrap()).unwrap();
        let (run, number) = value.split_once(' ').unwrap();
        let written: (u64, u64) = (run.parse().unwrap(), number.parse().unwrap());
        assert!(last < Some(written), "{written:?} comes after {last:?}");
        last = Some(written);
        let key = written.1 % KEYS;
        assert_eq!(
            record.record.key.as_deref(),
            Some(key.to_string().as_bytes())
        );
        by_key
            .entry(key)
            .or_default()
            .insert(record.offset, written);
    }
    for (key, known) in &acknowledged.newest {
        let found = by_key
            .get(key)
            .unwrap_or_else(|| panic!("key {key} has vanished"));
        let newest_known = known.last_key_value().unwrap();
        let newest_found = found.last_key_value().unwrap();
        assert!(
            newest_found >= newest_known,
            "key {key}: {newest_found:?} < {newest_known:?}"
        );
        for (offset, written) in found {
            let was = known.get(offset);
            assert!(
                was.is_none_or(|was| was == written),
                "key {key} at {offset}: {written:?}"
            );
        }
    }
}

#[tokio::test]
async fn every_acknowledged_record_survives_every_kill() {
    let kills = if is_long() { 300 } else { 12 };
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let mut acknowledged = Acknowledged::default();
    let (mut cuts, mut records) = (0, 0);
    for (run, moment) in schedule(&mut seeded(), kills).into_iter().enumerate() {
        for line in run_and_kill(folder.path(), run as u64, moment) {
            acknowledged.note(line);
        }
        let found = check(folder.path(), &acknowledged).await;
        cuts += found.cuts;
        records = found.records;
    }
    assert!(
        !acknowledged.appends.is_empty(),
        "the writers were killed under load"
    );
    let again = check(folder.path(), &acknowledged).await;
    assert_eq!((again.records, again.cuts), (records, 0));
    println!(
        "{kills} kills in {:.1?}: {} appends acknowledged, {records} records kept, {cuts} torn tails cut",
        started.elapsed(),
        acknowledged.appends.len(),
    );
}

#[tokio::test]
async fn a_log_killed_while_it_is_first_made_opens_afterwards() {
    let mut random = seeded();
    for _ in 0..if is_long() { 100 } else { 15 } {
        let folder = tempfile::tempdir().unwrap();
        let mut acknowledged = Acknowledged::default();
        let delay = Duration::from_micros(random.random_range(0..15_000));
        for line in run_and_kill(folder.path(), 0, Moment::AfterStart(delay)) {
            acknowledged.note(line);
        }
        check(folder.path(), &acknowledged).await;
    }
}
