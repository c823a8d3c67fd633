//! Claim (X15): a backup made while the service works restores what was acknowledged before it, each scan counted once, under the
//! same keys and with the same answers; a damaged one is refused by the name of its file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loadtest::profile::Profile;
use loadtest::setup::{self, Setting};
use loadtest::traffic::{DrawnScan, Traffic};
use rand::Rng;
use scan_model::Timestamp;
use serde_json::Value;
use support::{Place, TONGXING, seeded, wait_until};

fn tongxing(arguments: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(TONGXING);
    command.args(arguments);
    for (option, path) in paths {
        if !option.is_empty() {
            command.arg(option);
        }
        command.arg(path);
    }
    command.output().unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fingerprint(data: &Path) -> String {
    let keys = data.join("keys");
    succeeded(
        Command::new(TONGXING)
            .args(["keys", "--folder"])
            .arg(keys)
            .arg("fingerprint")
            .output()
            .unwrap(),
    )
}

async fn set_up(place: &Place, seed: u64) -> Setting {
    let profile = Profile::guangdong_weekday().unwrap();
    let mut feed = place.caller("synthetic-feed");
    setup::set_up(&mut feed, seed, &profile, 200, |_, _, _| {})
        .await
        .unwrap()
}

fn scan_id(scan: &DrawnScan) -> String {
    let body: Value = serde_json::from_slice(scan.body.as_ref()).unwrap();
    body["scan_id"].as_str().unwrap().to_owned()
}

/// What a lookup of each code shows.
async fn shown(place: &Place, codes: &[String]) -> Vec<Value> {
    let mut tester = place.caller("tester");
    let mut answers = Vec::new();
    for code in codes {
        let answer = tester.get(&format!("/v1/codes/{code}")).await.unwrap();
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
        body.as_object_mut().unwrap().remove("knowledge_age_ms");
        answers.push(body);
    }
    answers
}

/// Sends scans, one after the other, until told to stop; answers the ids of those acknowledged.
async fn send(place: Arc<Place>, scans: Vec<DrawnScan>, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut client = place.caller("synthetic-load");
    let mut acknowledged = Vec::new();
    for scan in scans {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = scan_id(&scan);
        let body = scan.body.clone().into();
        let answer = client.post("/v1/scans", "application/json", body).await;
        let answer = answer.unwrap();
        assert!(matches!(answer.status, 201 | 403), "{}", answer.text());
        acknowledged.push(id);
    }
    acknowledged
}

fn traffic(setting: &Setting, seed: u64, count: usize) -> Vec<DrawnScan> {
    let profile = Profile::guangdong_weekday().unwrap();
    let mut traffic = Traffic::new(seed, profile, &setting.world, setting.codes.clone()).unwrap();
    (0..count)
        .map(|_| traffic.draw_now(Timestamp::now()))
        .collect()
}

/// How many of some scans the store holds, and how many rows it holds in all.
async fn stored(place: &Place, ids: &[String]) -> (String, u64) {
    let list: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
    let sql = format!(
        "SELECT count(), uniqExact(scan_id) FROM scans WHERE scan_id IN ({})",
        list.join(",")
    );
    let all = place.sql("SELECT count() FROM scans").await;
    (place.sql(&sql).await, all.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x15_what_was_acknowledged_before_a_backup_is_restored_and_counted_once() {
    let (seed, _) = seeded("backup");
    let place = Arc::new(Place::new());
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("backup");
    let service = place.start().await;
    let setting = set_up(&place, seed).await;
    let never = Arc::new(AtomicBool::new(false));
    let before = send(Arc::clone(&place), traffic(&setting, seed, 500), never).await;
    let (answers, keys) = (
        shown(&place, &setting.codes).await,
        fingerprint(&place.data()),
    );

    // While it works.
    let stop = Arc::new(AtomicBool::new(false));
    let scans = traffic(&setting, seed ^ 1, 5_000);
    let sending = tokio::spawn(send(Arc::clone(&place), scans, Arc::clone(&stop)));
    let data = place.data();
    let made = tokio::task::spawn_blocking({
        let backup = backup.clone();
        move || tongxing(&["backup"], &[("", &backup), ("--data", &data)])
    });
    print!("{}", succeeded(made.await.unwrap()));
    stop.store(true, Ordering::Relaxed);
    let meanwhile = sending.await.unwrap();
    assert!(!meanwhile.is_empty());

    // Everything is lost.
    drop(service);
    fs::remove_dir_all(place.data()).unwrap();
    print!(
        "{}",
        succeeded(tongxing(
            &["restore"],
            &[("", &backup), ("--data", &place.data())]
        ))
    );
    let replayed = Command::new(TONGXING)
        .args(["replay", "local", "--data"])
        .arg(place.data())
        .args(["--clickhouse-listen", &place.engine().authority])
        .output()
        .unwrap();
    print!("{}", succeeded(replayed));
    assert_eq!(fingerprint(&place.data()), keys);
    let service = place.start().await;
    wait_until("the engine answers", async || place.engine_answers().await).await;
    place.wait_counted().await;
    let (found, rows) = stored(&place, &before).await;
    assert_eq!(found, format!("{0}\t{0}", before.len()));
    // What came meanwhile is there or not, and never twice.
    let (found, _) = stored(&place, &meanwhile).await;
    let (count, distinct) = found.split_once('\t').unwrap();
    assert_eq!(count, distinct);
    assert_eq!(rows, before.len() as u64 + count.parse::<u64>().unwrap());
    println!(
        "{} before, {count} of {} meanwhile",
        before.len(),
        meanwhile.len()
    );
    assert_eq!(shown(&place, &setting.codes).await, answers);
    place.assert_rollups_whole();

    // It goes on, and the aggregator knows the restored scans for what they are when they are sent again.
    let never = Arc::new(AtomicBool::new(false));
    let after = send(Arc::clone(&place), traffic(&setting, seed ^ 2, 100), never).await;
    place.wait_counted().await;
    assert_eq!(stored(&place, &after).await.1, rows + after.len() as u64);
    assert!(service.terminate().await.success());
}

fn restore(backup: &Path, data: &Path) -> String {
    let output = tongxing(&["restore"], &[("", backup), ("--data", data)]);
    assert!(!output.status.success(), "{output:?}");
    assert!(!data.exists(), "nothing was restored");
    String::from_utf8(output.stderr).unwrap()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x15_a_damaged_backup_is_refused_by_the_name_of_its_file() {
    let (seed, mut random) = seeded("damage");
    let place = Place::new();
    let service = place.start().await;
    set_up(&place, seed).await;
    assert!(service.terminate().await.success());
    let folder = tempfile::tempdir().unwrap();
    let (backup, data) = (folder.path().join("backup"), folder.path().join("new"));
    succeeded(tongxing(
        &["backup"],
        &[("", &backup), ("--data", &place.data())],
    ));
    let again = tongxing(&["backup"], &[("", &backup), ("--data", &place.data())]);
    assert!(!again.status.success(), "a backup is not written over");
    for file in files(&backup) {
        let intact = fs::read(&file).unwrap();
        let name = file.display().to_string();
        if !intact.is_empty() {
            let mut damaged = intact.clone();
            let position = random.random_range(0..damaged.len());
            damaged[position] ^= 1 << random.random_range(0..8);
            fs::write(&file, &damaged).unwrap();
            assert!(restore(&backup, &data).contains(&name), "{name}");
            fs::write(&file, &intact[..random.random_range(0..intact.len())]).unwrap();
            assert!(restore(&backup, &data).contains(&name), "{name}");
        }
        fs::write(&file, &intact).unwrap();
        let aside = folder.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        assert!(restore(&backup, &data).contains(&name), "{name}");
        fs::rename(&aside, &file).unwrap();
    }
    let foreign = backup.join("log/scans/00000/00000000000000000009.log");
    fs::write(&foreign, b"x").unwrap();
    assert!(restore(&backup, &data).contains("00000000000000000009.log"));
    fs::remove_file(&foreign).unwrap();
    // Whole again, it is restored; and not over what is there.
    succeeded(tongxing(&["restore"], &[("", &backup), ("--data", &data)]));
    let over = tongxing(&["restore"], &[("", &backup), ("--data", &data)]);
    let error = String::from_utf8(over.stderr).unwrap();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(fingerprint(&data), fingerprint(&place.data()));
}
