//! Who said what of a person is answered to those whom ingest lets know it (S4, Y5, INV-8).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::json;
use support::{World, refusal};

#[tokio::test]
async fn y5_the_history_of_a_person_s_facts_is_beside_what_ingest_says_of_them() {
    let world = World::with_store().await;
    let asked = json!({"person": "00000000000000aa"});
    let answer = world.post("/v1/facts:history", &asked).await.json();
    assert_eq!(answer["person"], "00000000000000aa");
    assert_eq!(answer["is_whole"], true);
    let change = &answer["history"][0];
    assert_eq!(change["category"], "confirmed");
    assert_eq!(change["supplied_by"], "00000000000000aa");
    assert_eq!(change["effective"], "2026-11-21T00:00:00.000+08:00");
    assert!(change["expiry"].is_null());
}

#[tokio::test]
async fn inv8_whom_ingest_refuses_is_refused_in_its_words() {
    let world = World::with_store().await;
    let asked = json!({"person": "00000000000000aa"});
    let refused = world.post_as("refused", "/v1/facts:history", &asked).await;
    assert_eq!(refused.problem(), refusal(403, "", "read_facts"));
    assert!(!refused.text.contains("history"));
}
