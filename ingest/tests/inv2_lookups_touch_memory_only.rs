//! INV-2: lookups go on, and stay right, whatever the log and the cache's writers do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scan_model::{Category, Fact, Timestamp};
use serde_json::{Value, json};
use support::failing_log::{FailingLog, Mood};
use support::{NUMBER, World, document, refusal};

/// Far above what a lookup takes, far below any time-out of the log.
const PROMPT: Duration = Duration::from_secs(2);

async fn world_over(mood: &Mood, stale_after_ms: i64) -> World {
    let mood = mood.clone();
    World::with(
        |config| config.stale_after_ms = stale_after_ms,
        |inner| Arc::new(FailingLog { inner, mood }),
    )
    .await
}

/// Looks up, one by one and many at once, and answers what is seen.
async fn seen(world: &World, code: &str) -> Value {
    let looked_up = tokio::time::timeout(PROMPT, async {
        let one = world.look_up(code, "en").await;
        assert_eq!(one.status, 200, "{}", one.text);
        let many = world
            .done("tester", "/v1/lookups", &json!({"codes": [code, code]}))
            .await;
        assert_eq!(many["accepted"], 2);
        one.json()
    });
    looked_up.await.expect("a lookup waits for nothing")
}

#[tokio::test]
async fn inv2_lookups_go_on_while_the_log_hangs() {
    let mood = Mood::default();
    let world = Arc::new(world_over(&mood, 300).await);
    world.redden("confirmed").await;
    let code = world.code().await;
    mood.set(Mood::HANGS);
    let scan = World::screening(&code);
    let hanging = tokio::spawn({
        let (world, scan) = (Arc::clone(&world), scan.clone());
        async move { world.post("tester", "/v1/scans", &scan).await }
    });
    let mut oldest = 0;
    let until = Instant::now() + Duration::from_millis(600);
    while Instant::now() < until {
        let answer = seen(&world, &code).await;
        assert_eq!(
            answer["outcome"], "red",
            "old knowledge never turns red into green or stale"
        );
        oldest = answer["knowledge_age_ms"].as_i64().unwrap().max(oldest);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        oldest >= 300,
        "S6: the answer says how old it is, {oldest} ms"
    );
    let altered = world.look_up("AQAAAAAAAAAAAAAAAAAAAAA", "en").await;
    assert_eq!(altered.problem(), refusal(422, "code", "altered"));
    assert!(
        !hanging.is_finished(),
        "INV-7: a scan is not acknowledged before it is durable"
    );
    mood.set(Mood::WORKS);
    assert_eq!(hanging.await.unwrap().status, 201);
    assert_eq!(
        world.done("tester", "/v1/scans", &scan).await["recorded"],
        true
    );
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn inv2_lookups_go_on_while_the_log_refuses_and_nothing_else_is_acknowledged() {
    let mood = Mood::default();
    let world = world_over(&mood, 300).await;
    let code = world.code().await;
    mood.set(Mood::REFUSES);
    let scan = World::screening(&code);
    let person = world.person.to_string();
    let fact =
        json!({"person": person, "category": "confirmed", "source": "cdc", "reference": "1"});
    let enrolment = json!({"document": document(NUMBER), "name": "新名字"});
    let venue = json!({"id": 9, "name": "venue", "region": 440_106, "venue_type": "mall"});
    for (key, path, body) in [
        ("tester", "/v1/scans", &scan),
        ("health_feed", "/v1/facts", &fact),
        ("identity_service", "/v1/persons", &enrolment),
        (
            "identity_service",
            "/v1/codes:revoke",
            &json!({"person": person}),
        ),
        ("operator", "/v1/venues:import", &venue),
        (
            "everything",
            "/v1/lookups",
            &json!({"document": document(NUMBER)}),
        ),
    ] {
        let reply = world.post(key, path, body).await;
        assert_eq!(reply.problem(), refusal(503, "", ""), "{path}");
        assert_eq!(reply.headers["retry-after"], "1");
    }
    let answer = seen(&world, &code).await;
    assert_eq!(
        (&answer["colour"], &answer["status_version"]),
        (&json!("green"), &json!(1))
    );
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(seen(&world, &code).await["outcome"], "stale");
    assert_eq!(
        world.get("tester", "/readyz").await.status,
        503,
        "the status feed has stopped"
    );
    mood.set(Mood::WORKS);
    // A refused scan was not remembered as recorded.
    assert_eq!(
        world.done("tester", "/v1/scans", &scan).await["recorded"],
        true
    );
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv2_lookups_see_a_whole_status_while_writers_and_snapshots_never_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    let world = World::configured(|config| config.snapshot = Some(file)).await;
    let code = world.code().await;
    let stop = Arc::new(AtomicBool::new(false));
    let fact = move |person, active: bool, change| Fact {
        person,
        category: Category::Confirmed,
        source: "cdc".into(),
        reference: "1".into(),
        effective: Timestamp(1_600_000_000_000),
        expiry: (!active).then_some(Timestamp(1_600_000_000_000)),
        recorded_at: Timestamp(i64::from(change)),
        supplied_by: 0,
        note: String::new(),
        change,
    };
    let writer = std::thread::spawn({
        let (ingest, person, stop) = (Arc::clone(&world.ingest), world.person, Arc::clone(&stop));
        move || {
            let mut change = 2_u16;
            while !stop.load(Ordering::Relaxed) {
                ingest
                    .cache
                    .apply_fact(fact(person, change.is_multiple_of(2), change));
                change = change.wrapping_add(1).max(2);
            }
        }
    });
    let snapshots = std::thread::spawn({
        let (ingest, stop) = (Arc::clone(&world.ingest), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                ingest.write_snapshot().unwrap();
            }
        }
    });
    let mut colours = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        let answer = world.look_up(&code, "en").await.json();
        let reasons = answer["reasons"].as_array().unwrap().len();
        assert_eq!(answer["colour"] == "red", reasons == 1, "{answer}");
        assert_eq!(
            (&answer["name"], &answer["phone"]),
            (&json!("欧***"), &json!("+86 138****5678"))
        );
        colours.insert(answer["colour"].as_str().unwrap().to_owned());
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    snapshots.join().unwrap();
    assert_eq!(
        colours.len(),
        2,
        "the writer did change the status meanwhile"
    );
}

#[tokio::test]
async fn s6_a_node_told_to_keep_serving_stays_green_however_old_its_knowledge_is() {
    let mood = Mood::default();
    let world = world_over(&mood, 0).await;
    let code = world.code().await;
    mood.set(Mood::HANGS);
    let mut answer = seen(&world, &code).await;
    while answer["knowledge_age_ms"].as_i64().unwrap() < 300 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = seen(&world, &code).await;
    }
    assert_eq!(answer["outcome"], "green");
}
