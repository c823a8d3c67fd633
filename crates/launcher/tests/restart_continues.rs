//! Claim: a stopped service loses nothing and continues where it was: counts (INV-1), status (S6), keys.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use loadtest::client::Client;
use loadtest::profile::Profile;
use loadtest::setup::{self, Setting};
use loadtest::traffic::{CountedScan, DrawnScan, Traffic};
use loadtest::verify;
use rand::Rng;
use scan_model::Timestamp;
use serde_json::{Value, json};
use support::{GLANCE, Place, seeded};

async fn set_up(place: &Place, seed: u64, people: u32) -> Setting {
    let profile = Profile::guangdong_weekday().unwrap();
    let mut feed = place.caller("synthetic-feed");
    setup::set_up(&mut feed, seed, &profile, people, |_, _, _| {})
        .await
        .unwrap()
}

/// Sends scans one by one until the service ends or all are answered; answers the acknowledged ones and the rest.
async fn send(client: &mut Client, scans: Vec<DrawnScan>) -> (Vec<CountedScan>, Vec<DrawnScan>) {
    let (mut acknowledged, mut rest) = (Vec::new(), Vec::new());
    for scan in scans {
        let body = scan.body.clone().into();
        match client.post("/v1/scans", "application/json", body).await {
            Ok(answer) if matches!(answer.status, 201 | 403) => {
                acknowledged.push(scan.counted);
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_) => rest.push(scan),
        }
    }
    (acknowledged, rest)
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let inner = contents(&entry.path());
            files.extend(
                inner
                    .into_iter()
                    .map(|(file, bytes)| (format!("{name}/{file}"), bytes)),
            );
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_sigterm_under_load_ends_cleanly_and_every_acknowledged_scan_is_counted_after_the_restart()
 {
    let (seed, mut random) = seeded("restart");
    let place = Place::new();
    let mut service = place.start().await;
    let setting = set_up(&place, seed, 200).await;
    let keys = contents(&place.data().join("keys"));
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let profile = Profile::guangdong_weekday().unwrap();
        let codes = setting.codes.clone();
        let mut traffic = Traffic::new(seed ^ round, profile, &setting.world, codes).unwrap();
        let scans: Vec<_> = (0..600)
            .map(|_| traffic.draw_now(Timestamp::now()))
            .collect();
        let mut client = place.caller("synthetic-load");
        let sender = tokio::spawn(async move { send(&mut client, scans).await });
        // Somewhere in the middle of them, by what the engine has seen of earlier ones or by nothing at all.
        let pause = GLANCE.mul_f64(random.random_range(0.0..20.0));
        tokio::time::sleep(pause).await;
        let status = service.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", place.log());
        let (first, rest) = sender.await.unwrap();
        println!(
            "round {round}: {} acknowledged before the end, {} open",
            first.len(),
            rest.len()
        );
        service = place.start().await;
        assert_eq!(
            contents(&place.data().join("keys")),
            keys,
            "the keys are the same"
        );
        let (second, open) = send(&mut place.caller("synthetic-load"), rest).await;
        assert!(open.is_empty());
        acknowledged.extend(first.into_iter().chain(second));
        place.wait_counted().await;
        let rows = place
            .sql("SELECT count(), uniqExact(scan_id) FROM scans")
            .await;
        assert_eq!(rows, format!("{0}\t{0}", acknowledged.len()));
        let expected = verify::expected(&acknowledged);
        let counted = verify::counted(&place.query(), &expected).await.unwrap();
        let differences = verify::differences(&expected, &verify::Counts::new(), &counted);
        assert!(differences.is_empty(), "{differences:#?}");
        place.assert_rollups_whole();
    }
    assert!(service.terminate().await.success());
}

/// What a lookup of a code shows.
async fn shown(place: &Place, code: &str) -> Value {
    let mut tester = place.caller("tester");
    let answer = tester.get(&format!("/v1/codes/{code}")).await.unwrap();
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["status"] = json!(answer.status);
    body.as_object_mut().unwrap().remove("knowledge_age_ms");
    body
}

async fn all_shown(place: &Place, codes: &[String]) -> Vec<Value> {
    let mut answers = Vec::new();
    for code in codes {
        answers.push(shown(place, code).await);
    }
    answers
}

async fn make_red(place: &Place, person: &str) {
    let mut feed = place.caller("synthetic-feed");
    let fact =
        json!({ "person": person, "category": "confirmed", "source": "test", "reference": person });
    setup::import(&mut feed, "/v1/facts:import", &[fact], |_, _| {})
        .await
        .unwrap();
}

async fn revoke_codes(place: &Place, person: &str) {
    let body = json!({ "person": person }).to_string().into();
    let mut feed = place.caller("synthetic-feed");
    let answer = feed
        .post("/v1/codes:revoke", "application/json", body)
        .await
        .unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
}

async fn new_code(place: &Place, person: &str) -> String {
    let mut feed = place.caller("synthetic-feed");
    let request = json!({ "person": person });
    let issued = setup::import(&mut feed, "/v1/codes", &[request], |_, _| {})
        .await
        .unwrap();
    issued[0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_red_facts_and_ended_codes_survive_with_the_snapshot_without_it_and_with_a_damaged_one()
{
    let (seed, mut random) = seeded("status");
    let place = Place::new();
    let snapshot = place.data().join("status.snapshot");
    let mut service = place.start().await;
    let setting = set_up(&place, seed, 100).await;
    let green: Vec<usize> = {
        let shown = all_shown(&place, &setting.codes).await;
        (0..shown.len())
            .filter(|index| shown[*index]["colour"] == "green")
            .collect()
    };
    make_red(&place, &setting.persons[green[0]]).await;
    revoke_codes(&place, &setting.persons[green[1]]).await;
    // Two more have both, in either order, and new codes afterwards: their versions count every change.
    make_red(&place, &setting.persons[green[3]]).await;
    revoke_codes(&place, &setting.persons[green[3]]).await;
    revoke_codes(&place, &setting.persons[green[4]]).await;
    make_red(&place, &setting.persons[green[4]]).await;
    let mut codes = setting.codes.clone();
    for person in [green[3], green[4]] {
        codes.push(new_code(&place, &setting.persons[person]).await);
    }
    let mut before = all_shown(&place, &codes).await;
    assert_eq!(before[green[0]]["colour"], "red");
    assert_eq!(
        before[green[1]]["type"],
        "urn:tongxing:problem:code-revoked"
    );

    for both in [codes.len() - 2, codes.len() - 1] {
        assert_eq!(before[both]["colour"], "red");
        assert_eq!(before[both]["status_version"], 3);
    }

    // With the snapshot that a clean stop leaves.
    assert!(service.terminate().await.success());
    let written = fs::read(&snapshot).expect("a clean stop writes a snapshot");
    service = place.start().await;
    assert_eq!(all_shown(&place, &codes).await, before);
    assert!(
        !place.log().contains("snapshot is refused"),
        "{}",
        place.log()
    );

    // With a snapshot that is older than the log's end.
    make_red(&place, &setting.persons[green[2]]).await;
    before = all_shown(&place, &codes).await;
    assert_eq!(before[green[2]]["colour"], "red");
    service.kill();
    assert_eq!(fs::read(&snapshot).unwrap(), written, "kill -9 writes none");
    service = place.start().await;
    assert_eq!(all_shown(&place, &codes).await, before);

    // Without one.
    assert!(service.terminate().await.success());
    fs::remove_file(&snapshot).unwrap();
    service = place.start().await;
    assert_eq!(all_shown(&place, &codes).await, before);

    // With one that is damaged, somewhere or at its end; and with an empty file.
    for damage in ["a byte", "the end", "everything"] {
        assert!(service.terminate().await.success());
        let mut bytes = fs::read(&snapshot).unwrap();
        match damage {
            "a byte" => {
                let position = random.random_range(0..bytes.len());
                bytes[position] ^= 1 << random.random_range(0..8);
                println!("damaged at byte {position} of {}", bytes.len());
            }
            "the end" => bytes.truncate(random.random_range(1..bytes.len())),
            _ => bytes.clear(),
        }
        fs::write(&snapshot, bytes).unwrap();
        let logged = place.log().len();
        service = place.start().await;
        let log = place.log()[logged..].to_owned();
        assert!(
            log.contains("the status snapshot is refused") && log.contains("status.snapshot"),
            "{damage}: {log}"
        );
        assert_eq!(all_shown(&place, &codes).await, before, "{damage}");
    }
    assert!(service.terminate().await.success());
}
