//! Nobody is enrolled who does not fit, and those who are there go on (P8).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use axum::http::StatusCode;
use serde_json::{Value, json};
use support::{NAME, NUMBER, PHONE, World, document};

fn passport(number: u32, name: &str) -> Value {
    json!({"document": {"kind": "passport", "number": format!("X{number:08}"), "issuer": "SGP"}, "name": name})
}

#[tokio::test]
async fn p8_whoever_does_not_fit_is_refused_before_anything_is_appended() {
    let world = World::configured(|config| config.capacity = 3).await;
    let records = world.count("persons").await;
    let batch = json!([
        passport(1, "A"),
        passport(1, "B"),
        passport(2, "C"),
        passport(3, "D"),
        passport(3, "E"),
        {"document": document(NUMBER), "name": NAME, "phone": PHONE},
    ]);
    let answer = world.post("identity_service", "/v1/persons", &batch).await;
    let statuses: Vec<_> = answer.json()["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"].as_u64().unwrap())
        .collect();
    // The same person takes one place, and one who has a place needs no other.
    assert_eq!(statuses, [201, 201, 201, 507, 507, 201]);
    assert_eq!(world.count("persons").await, records + 4);
    let refused = world
        .post("identity_service", "/v1/persons", &passport(4, "F"))
        .await;
    assert_eq!(refused.status, StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(refused.problem().0, 507);
    assert!(refused.json()["detail"].as_str().unwrap().contains('3'));
    // Whoever is there is renewed, reddened and looked up as before.
    world.enrol(NUMBER, "新名字", Some(PHONE)).await;
    world.redden("confirmed").await;
    let code = world.code().await;
    assert_eq!(world.look_up(&code, "en").await.json()["outcome"], "red");
    let ready = world.get("operator", "/readyz").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(ready.json()["persons"], 3);
    assert_eq!(ready.json()["persons_without_place"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_of_many_who_come_at_once_exactly_as_many_are_enrolled_as_fit() {
    const CAPACITY: usize = 100;
    let world = World::configured(|config| config.capacity = CAPACITY).await;
    let batches = (0..10).map(|batch| {
        let persons: Vec<_> = (0..30).map(|n| passport(batch * 30 + n, "A")).collect();
        let world = &world;
        async move {
            let persons = Value::Array(persons);
            let answer = world
                .post("identity_service", "/v1/persons", &persons)
                .await;
            answer.json()["accepted"].as_u64().unwrap() as usize
        }
    });
    let enrolled: usize = futures::future::join_all(batches).await.iter().sum();
    assert_eq!(enrolled, CAPACITY - 1);
    assert_eq!(world.ingest.cache.table().len(), CAPACITY);
    assert_eq!(world.ingest.cache.without_place(), 0);
    assert_eq!(world.ingest.feed.failure(), None);
}
