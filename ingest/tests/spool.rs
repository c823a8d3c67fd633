//! Claim (INV-7): while the log is away scans are durable on the node's disk and answered 202, everything else is answered 503,
//! lookups never notice, and what was spooled reaches the log once it is back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::SpoolOptions;
use ingest::topics::SCANS;
use scan_model::{Scan, codec};
use serde_json::json;
use status_cache::feed::DECLARATIONS;
use support::failing_log::{FailingLog, Mood};
use support::openapi::Document;
use support::{OTHER_NUMBER, PARTITIONS, World, document, scan_id};

const PATIENCE: Duration = Duration::from_secs(30);

async fn world(folder: &tempfile::TempDir) -> (World, Mood) {
    let mood = Mood::default();
    let spool = SpoolOptions {
        folder: folder.path().to_owned(),
        topics: vec![SCANS.to_owned(), DECLARATIONS.to_owned()],
        bytes: 1 << 20,
        patience: Duration::from_millis(100),
    };
    let world = World::with(
        |config| config.spool = Some(spool),
        |inner| {
            let mood = mood.clone();
            Arc::new(FailingLog { inner, mood })
        },
    )
    .await;
    world.ingest.open_spool();
    (world, mood)
}

async fn scans_in_the_log(world: &World) -> Vec<Scan> {
    let mut scans = Vec::new();
    for partition in 0..PARTITIONS {
        let end = world.log.bounds(SCANS, partition).await.unwrap().end;
        let mut reader = world.log.read(SCANS, partition, 0).await.unwrap();
        while reader.position() < end {
            for stored in reader.next(1 << 20, Duration::ZERO).await.unwrap() {
                scans.push(codec::decode(&stored.record.value.unwrap()).unwrap());
            }
        }
    }
    scans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_a_scan_is_answered_202_while_the_log_is_away_and_reaches_it_later() {
    for away in [Mood::AWAY, Mood::HANGS] {
        let folder = tempfile::tempdir().unwrap();
        let (world, mood) = world(&folder).await;
        let code = world.code().await;
        mood.set(away);
        let screening = World::screening(&code);
        let reply = world.post("tester", "/v1/scans", &screening).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        let answer = reply.json();
        assert_eq!(
            (&answer["recorded"], &answer["spooled"]),
            (&json!(true), &json!(true))
        );
        Document::parse(ingest::routes::OPENAPI).check(
            "post",
            "/v1/scans",
            202,
            "application/json",
            &reply.text,
        );
        let again = world.post("tester", "/v1/scans", &screening).await;
        assert_eq!((again.status, &again.text), (reply.status, &reply.text));

        let display = json!({"scan_id": scan_id(), "kind": "display", "code": code});
        let displayed = world.post("tester", "/v1/displays", &display).await;
        assert_eq!(displayed.status, 202, "{}", displayed.text);
        let ready = world.get("tester", "/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text);
        assert_eq!(ready.json()["spool"]["records"], 2);
        let lookup = world.get("tester", &format!("/v1/codes/{code}")).await;
        assert_eq!(lookup.status, 200, "{}", lookup.text);

        mood.set(Mood::WORKS);
        let started = Instant::now();
        while world.ingest.spool.as_ref().unwrap().state().records > 0 {
            assert!(started.elapsed() < PATIENCE, "the spool is not passed on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let scans = scans_in_the_log(&world).await;
        assert_eq!(scans.len(), 2, "{scans:?}");
        let reply = world
            .post("tester", "/v1/scans", &World::screening(&code))
            .await;
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_a_declaration_is_spooled_renews_a_code_at_once_and_reaches_the_log_later() {
    let folder = tempfile::tempdir().unwrap();
    let (world, mood) = world(&folder).await;
    let expired = world
        .ingest
        .code_keys
        .load()
        .seal(&scan_model::CodePayload {
            person: world.person,
            issued_second: 1_600_000_000,
            scheme: scan_model::Scheme::Suikang,
            form: scan_model::CodeForm::App,
        });
    let lookup = format!("/v1/codes/{expired}");
    assert_eq!(world.get("tester", &lookup).await.status, 422);
    mood.set(Mood::AWAY);
    let declaration = json!({
        "declaration_id": scan_id(), "kind": "personal", "code": expired,
        "symptoms": [], "contact": false, "travelled": [],
    });
    let reply = world
        .post("citizen_app", "/v1/declarations", &declaration)
        .await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert_eq!(reply.json()["spooled"], true);
    assert_eq!(world.get("tester", &lookup).await.status, 200);
    mood.set(Mood::WORKS);
    let started = Instant::now();
    while world.ingest.spool.as_ref().unwrap().state().records > 0 {
        assert!(started.elapsed() < PATIENCE, "the spool is not passed on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.count(DECLARATIONS).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv7_facts_persons_and_sites_are_answered_503_while_the_log_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (world, mood) = world(&folder).await;
    mood.set(Mood::AWAY);
    let fact = json!({"person": world.person.to_string(), "category": "confirmed", "source": "cdc", "reference": "1"});
    let person = json!({"document": document(OTHER_NUMBER), "name": "示例"});
    let site = json!({"id": 9, "name": "site", "region": 440_106});
    for (key, path, body) in [
        ("health_feed", "/v1/facts", &fact),
        ("identity_service", "/v1/persons", &person),
        ("operator", "/v1/grids:import", &site),
    ] {
        let reply = world.post(key, path, body).await;
        assert_eq!(reply.problem().0, 503, "{path}: {}", reply.text);
        assert!(reply.headers.contains_key("retry-after"), "{path}");
    }
    assert_eq!(world.ingest.spool.as_ref().unwrap().state().records, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv6_beyond_the_spools_bound_scans_are_answered_503() {
    let folder = tempfile::tempdir().unwrap();
    let (world, mood) = world(&folder).await;
    let code = world.code().await;
    mood.set(Mood::AWAY);
    let started = Instant::now();
    let refused = loop {
        let batch: Vec<_> = (0..500).map(|_| World::screening(&code)).collect();
        let reply = world.post("tester", "/v1/scans", &json!(batch)).await;
        let answer = reply.json();
        if let Some(refused) = answer["results"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["status"] != 202)
        {
            break refused.clone();
        }
        assert!(started.elapsed() < PATIENCE, "1 MiB takes it all");
    };
    assert_eq!(refused["status"], 503, "{refused}");
    let lookup = world.get("tester", &format!("/v1/codes/{code}")).await;
    assert_eq!(lookup.status, 200, "{}", lookup.text);
}
