//! Who is who after a document was renewed (P1), and who said what of a person (Y5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::json;
use support::{NUMBER, World, document, refusal};

#[tokio::test]
async fn p1_a_renewed_document_leads_to_the_same_person_with_status_and_codes() {
    let world = World::start().await;
    let code = world.code().await;
    let passport = json!({"kind": "passport", "number": "X00000001", "issuer": "SGP"});
    let renewal = json!({"document": passport, "renews": document(NUMBER), "name": "新名字"});
    let person = world.person.to_string();
    let done = world
        .done("identity_service", "/v1/persons", &renewal)
        .await;
    assert_eq!(done["person"], person);
    // Sent again it changes nothing about who is who.
    let again = world
        .done("identity_service", "/v1/persons", &renewal)
        .await;
    assert_eq!(again["person"], person);
    assert_eq!(world.look_up(&code, "en").await.json()["name"], "新**");
    let fact =
        json!({"document": passport, "category": "confirmed", "source": "cdc", "reference": "1"});
    let taken = world.done("health_feed", "/v1/facts", &fact).await;
    assert_eq!(taken["person"], person);
    assert_eq!(world.look_up(&code, "en").await.json()["outcome"], "red");
    let by_document = json!({"document": passport});
    let seen = world.done("everything", "/v1/lookups", &by_document).await;
    assert_eq!(seen["outcome"], "red");
    let issued = world
        .done("identity_service", "/v1/codes", &by_document)
        .await;
    let keys = world.ingest.code_keys.load();
    let opened = keys.open(issued["code"].as_str().unwrap()).unwrap();
    assert_eq!(opened.person, world.person);
    // It is nobody else's, and nobody is renewed who is not enrolled.
    let other = json!({"document": {"kind": "passport", "number": "X00000002", "issuer": "SGP"}, "name": "A B"});
    world.done("identity_service", "/v1/persons", &other).await;
    let taken = json!({"document": other["document"], "renews": document(NUMBER), "name": "A B"});
    let refused = world.post("identity_service", "/v1/persons", &taken).await;
    assert_eq!(refused.status, 409);
    let unknown = json!({
        "document": {"kind": "passport", "number": "X00000003", "issuer": "SGP"},
        "renews": {"kind": "passport", "number": "X00000004", "issuer": "SGP"},
        "name": "A B",
    });
    let refused = world
        .post("identity_service", "/v1/persons", &unknown)
        .await;
    assert_eq!(refused.problem(), refusal(422, "renews", "known"));
    let malformed = json!({"document": passport, "renews": {"kind": "passport", "number": "X1"}, "name": "A B"});
    let refused = world
        .post("identity_service", "/v1/persons", &malformed)
        .await;
    assert_eq!(refused.problem().1, "renews.issuer");
}

#[tokio::test]
async fn y5_a_person_s_facts_are_read_with_who_supplied_them_and_the_reading_is_audited() {
    let world = World::start().await;
    world.redden("close_contact").await;
    let asked = json!({"person": world.person.to_string()});
    let refused = world.post("tester", "/v1/facts:query", &asked).await;
    assert_eq!(refused.problem(), refusal(403, "", "read_facts"));
    let before = world.count("audit").await;
    let answer = world.done("health_feed", "/v1/facts:query", &asked).await;
    let facts = answer["facts"].as_array().unwrap();
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0]["category"], "close_contact");
    assert_eq!(facts[0]["active"], true);
    assert_eq!(facts[0]["supplied_by"].as_str().unwrap().len(), 16);
    assert_eq!(world.count("audit").await, before + 1);
    let nobody = json!({"person": "00000000000000ff"});
    let unknown = world.post("health_feed", "/v1/facts:query", &nobody).await;
    assert_eq!(unknown.problem(), refusal(422, "person", "known"));
}
