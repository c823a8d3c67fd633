//! Claims: `tongxing replay` builds from the log what the aggregator built (INV-5, X3), dead letters, copies and corrections
//! included; it refuses beside a running deployment and stops at what it does not know (INV-10); killed at any moment, the
//! live tables are whole, and replaying again ends well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;
mod replay_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engine_support::digests::views;
use engine_support::{DATABASE, is_long};
use event_log::Record;
use rand::Rng;
use replay_support::{DISSOLVED, World, eventful};

#[test]
fn inv5_a_replay_gives_the_same_tables_with_erasures_honoured_and_no_dead_letter_twice() {
    let scans = if is_long() { 60_000 } else { 6_000 };
    let mut world = eventful(scans);
    let before = world.digests();
    let (letters, views_before) = {
        let open = world.open();
        let store = open.engine.store(DATABASE);
        (
            open.dead_letters(),
            open.world.runtime.block_on(views(&store)),
        )
    };
    assert!(letters > 2 && world.counted.duplicates > 60);
    assert!(before["scans"].rows > 0 && before["grid_day"].rows > 0 && before["sites"].rows == 4);
    assert_eq!(before["fact_history"].rows, 100);
    for _ in 0..2 {
        world.assert_replayed();
        assert_eq!(world.digests(), before);
    }
    let mut open = world.open();
    let store = open.engine.store(DATABASE);
    let views_after = open.world.runtime.block_on(views(&store));
    assert_eq!(views_after, views_before, "the views feed these tables");
    assert_eq!(open.rows_of(DISSOLVED), 0);
    assert_eq!(open.dead_letters(), letters);
    // The aggregator goes on where the replay ended, into the tables that the replay built.
    open.append_scans(500);
    open.aggregate_everything().unwrap();
    drop(open);
    let after = world.digests();
    assert!(after["scans"].rows > before["scans"].rows);
    world.assert_replayed();
    assert_eq!(world.digests(), after);
}

#[test]
fn a_log_without_positions_is_replayed_to_its_end() {
    let mut world = eventful(1_000);
    let before = world.digests();
    std::fs::remove_dir_all(world.data().join("log/positions")).unwrap();
    std::fs::remove_dir_all(world.data().join("clickhouse")).unwrap();
    world.assert_replayed();
    assert_eq!(world.digests(), before);
    let mut open = world.open();
    open.append_scans(100);
    open.aggregate_everything().unwrap();
}

#[test]
fn inv10_a_replay_stops_at_a_newer_record_and_swaps_nothing() {
    let mut world = eventful(500);
    {
        let mut open = world.open();
        // Behind the position the aggregator pauses; a replay up to that position never meets it.
        let newer = open.append(0, Record::unkeyed(vec![9, 1]));
        assert!(newer > 0);
        open.append_scans(20);
    }
    let before = world.digests();
    world.assert_replayed();
    assert_eq!(world.digests(), before);
    // Without positions it is to be read.
    std::fs::remove_dir_all(world.data().join("log/positions")).unwrap();
    let output = world.replay();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        error.contains("version 9") && error.contains("scans/0"),
        "{error}"
    );
    assert_eq!(world.digests(), before);
}

#[test]
fn a_replay_refuses_beside_a_running_deployment() {
    let mut world = World::new();
    let open = world.open();
    let output = open.world.replay();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains("stop `tongxing up` first"), "{error}");
}

/// When a replay is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After so long.
    After(Duration),
    /// So long after a database appeared.
    Database(&'static str, Duration),
}

/// The databases that an engine has; none while it does not answer.
fn databases(address: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(
            b"GET /?query=SHOW%20DATABASES HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

/// Runs a replay and kills it at a moment; answers how long it took where it ended before.
fn kill_at(world: &World, moment: Moment) -> Option<Duration> {
    let (mut command, address) = world.replay_command();
    let began = Instant::now();
    let mut replay = command.spawn().unwrap();
    let mut appeared = None;
    loop {
        if let Some(status) = replay.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return Some(began.elapsed());
        }
        let is_due = match moment {
            Moment::After(pause) => began.elapsed() >= pause,
            Moment::Database(name, pause) => {
                if appeared.is_none() && databases(&address).lines().any(|line| line == name) {
                    appeared = Some(Instant::now());
                }
                appeared.is_some_and(|at| at.elapsed() >= pause)
            }
        };
        if is_due {
            replay.kill().unwrap();
            replay.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(serde::Deserialize)]
struct Name {
    name: String,
}

#[test]
fn inv5_a_replay_killed_at_any_moment_leaves_whole_tables_and_ends_well_when_run_again() {
    let kills = if is_long() { 60 } else { 12 };
    let mut world = eventful(2_000);
    let before = world.digests();
    let began = Instant::now();
    world.assert_replayed();
    let mut whole = began.elapsed();
    assert_eq!(world.digests(), before);
    let mut killed = 0;
    for round in 0..kills {
        let share = world.random.random_range(0.0..1.0);
        let few = Duration::from_secs(1).mul_f64(share * share);
        let moment = match round % 3 {
            0 => Moment::After(whole.mul_f64(share)),
            1 => Moment::Database("tongxing_former", few),
            _ => Moment::Database("tongxing_replay", whole.mul_f64(share)),
        };
        match kill_at(&world, moment) {
            None => killed += 1,
            Some(ended) => whole = whole.min(ended),
        }
        println!("round {round}: {moment:?}, {killed} killed");
        if world.random.random_bool(0.5) {
            assert_eq!(world.digests(), before, "round {round}");
        }
    }
    assert!(killed > kills / 3);
    world.assert_replayed();
    assert_eq!(world.digests(), before);
    let mut open = world.open();
    open.append_scans(300);
    open.aggregate_everything().unwrap();
    let store = open.engine.store(DATABASE);
    let left: Vec<Name> = open
        .world
        .runtime
        .block_on(store.rows(
            "SELECT name FROM system.databases WHERE startsWith(name, 'tongxing')",
            &[],
        ))
        .unwrap();
    let left: Vec<_> = left.into_iter().map(|found| found.name).collect();
    assert_eq!(left, [DATABASE]);
}
