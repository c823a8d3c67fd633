//! Claim (INV-10): two builds run side by side while a cluster is upgraded under load, and every acknowledged scan is counted
//! once: readers first, then writers. In the wrong order partitions pause, say so, lose nothing, and go on once the readers
//! are upgraded.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster_support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cluster_support::engine_support::program;
use cluster_support::scenario::{Scenario, short_or_long};
use cluster_support::wait_until;

/// Of the next build's scans.
const NEXT_VERSION: &str = "2";

/// The build after this one, as a file that nothing replaces.
struct Builds {
    next: PathBuf,
}

/// Builds the next version where everything else was built, so that only what differs is compiled; puts the program that
/// stands there back.
fn builds() -> &'static Builds {
    static BUILDS: OnceLock<Builds> = OnceLock::new();
    BUILDS.get_or_init(|| {
        let started = Instant::now();
        let built = Path::new(env!("CARGO_BIN_EXE_tongxing"));
        let target = built
            .parent()
            .and_then(Path::parent)
            .expect("the target folder");
        // The same files at each run, so that runs do not add up.
        let folder = target.join("rolling-upgrade");
        std::fs::create_dir_all(&folder).unwrap();
        let (current, next) = (folder.join("current"), folder.join("next"));
        std::fs::copy(built, &current).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--locked", "--offline", "--package", "launcher"])
            .args(["--features", "next-version", "--target-dir"])
            .arg(target)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let output = build.output().unwrap();
        std::fs::copy(built, &next).unwrap();
        // A new file in its place: the built one is shared with the compiler's own.
        std::fs::rename(&current, built).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        println!(
            "the next build took {:.1} s",
            started.elapsed().as_secs_f64()
        );
        Builds { next }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv10_readers_first_and_then_writers_counts_everything_once() {
    let next = &builds().next;
    let mut scenario = Scenario::start(2, 2).await;
    let pause = short_or_long(2, 20);
    let Scenario {
        cluster,
        ingest,
        aggregators,
        load,
        ..
    } = &mut scenario;
    for aggregator in aggregators.iter_mut() {
        tokio::time::sleep(pause).await;
        aggregator.stop().await;
        aggregator.program.clone_from(next);
        aggregator.start(cluster).await;
    }
    // First the build, then, when no old one is left, what it writes.
    for version in [None, Some(NEXT_VERSION)] {
        for node in ingest.iter_mut() {
            tokio::time::sleep(pause).await;
            load.outage_begins();
            node.stop().await;
            node.program.clone_from(next);
            if let Some(version) = version {
                node.set("TONGXING_SCAN_VERSION", version);
            }
            node.start(cluster).await;
            load.outage_ends();
        }
    }
    tokio::time::sleep(pause).await;
    for aggregator in aggregators.iter() {
        let paused = aggregator.metric("aggregator_paused_partitions").await;
        let is_paused = paused.is_some_and(|paused| paused > 0.0);
        assert!(!is_paused, "{} paused", aggregator.name);
    }
    scenario.conclude().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv10_a_writer_before_the_readers_pauses_partitions_and_loses_nothing() {
    let next = &builds().next;
    let mut scenario = Scenario::start(2, 2).await;
    let Scenario {
        cluster,
        ingest,
        aggregators,
        load,
        ..
    } = &mut scenario;
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.outage_begins();
    ingest[1].stop().await;
    ingest[1].program.clone_from(next);
    ingest[1].set("TONGXING_SCAN_VERSION", NEXT_VERSION);
    ingest[1].start(cluster).await;
    load.outage_ends();
    wait_until("every partition is paused, and it is said", async || {
        let mut paused = 0.0;
        for aggregator in aggregators.iter() {
            let metric = aggregator.metric("aggregator_paused_partitions").await;
            paused += metric.unwrap_or(0.0);
        }
        paused >= f64::from(cluster_support::PARTITIONS)
    })
    .await;
    // What stood before the newer records may still be under way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let inserts = cluster.proxy.inserts();
    let acknowledged = load.acknowledged();
    tokio::time::sleep(short_or_long(3, 30)).await;
    assert_eq!(
        cluster.proxy.inserts(),
        inserts,
        "what stands behind is not counted"
    );
    assert!(
        load.acknowledged() > acknowledged,
        "scans are taken as before"
    );
    for aggregator in aggregators.iter_mut() {
        let log = aggregator.log();
        assert!(log.contains("partition paused (INV-10)"), "{log}");
        aggregator.stop().await;
        aggregator.program.clone_from(next);
        aggregator.start(cluster).await;
    }
    tokio::time::sleep(short_or_long(3, 30)).await;
    scenario.conclude().await;
}

#[tokio::test]
async fn a_version_that_this_build_does_not_write_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Command::new(program())
        .args(["ingest", "--scan-version", NEXT_VERSION])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("scan_version"), "{said}");
}
