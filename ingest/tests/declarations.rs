//! Declarations (D1, D3) and what they do to codes (P5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use scan_model::{CodeForm, CodePayload, Declaration, Scheme, Timestamp, codec};
use serde_json::{Value, json};
use support::{NUMBER, World, document, refusal};

const DAY_MS: i64 = 86_400_000;

fn declaration(number: u32, code: &str) -> Value {
    json!({
        "declaration_id": format!("0198c5a0-0000-7000-8000-{number:012}"),
        "kind": "personal", "code": code, "symptoms": ["fever"], "contact": false, "travelled": [420_100],
    })
}

/// A Suikang code of the world's person, issued some days ago.
fn suikang(world: &World, days_ago: i64) -> String {
    let issued = Timestamp::now().plus_ms(-days_ago * DAY_MS);
    world.ingest.code_keys.load().seal(&CodePayload {
        person: world.person,
        issued_second: issued.seconds() as u32,
        scheme: Scheme::Suikang,
        form: CodeForm::App,
    })
}

#[tokio::test]
async fn d3_a_declaration_renews_an_expired_suikang_code_for_seven_days() {
    let world = World::start().await;
    let (fresh, old) = (suikang(&world, 6), suikang(&world, 30));
    assert_eq!(world.look_up(&fresh, "en").await.status, 200);
    let expired = world.look_up(&old, "en").await;
    assert_eq!(expired.problem(), refusal(422, "code", "expired"));
    let version = world.look_up(&fresh, "en").await.json()["status_version"].clone();
    let declared = declaration(1, &old);
    let answer = world
        .done("citizen_app", "/v1/declarations", &declared)
        .await;
    assert_eq!(answer["recorded"], true);
    let renewed = world.look_up(&old, "en").await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    assert_eq!(
        renewed.json()["status_version"],
        version,
        "a declaration is no change of status"
    );
    // An older one sent later takes nothing back.
    let mut earlier = declaration(2, &old);
    earlier["time"] = json!(Timestamp::now().plus_ms(-10 * DAY_MS).to_rfc3339());
    world
        .done("citizen_app", "/v1/declarations", &earlier)
        .await;
    assert_eq!(world.look_up(&old, "en").await.status, 200);
    assert_eq!(world.count("declarations").await, 2);
}

#[tokio::test]
async fn d3_a_declaration_of_more_than_seven_days_ago_renews_nothing() {
    let world = World::start().await;
    let old = suikang(&world, 30);
    let mut declared = declaration(1, &old);
    declared["time"] = json!(Timestamp::now().plus_ms(-9 * DAY_MS).to_rfc3339());
    world
        .done("citizen_app", "/v1/declarations", &declared)
        .await;
    let expired = world.look_up(&old, "en").await;
    assert_eq!(expired.problem(), refusal(422, "code", "expired"));
}

#[tokio::test]
async fn d1_a_declaration_is_kept_as_it_was_made() {
    let world = World::start().await;
    let mut declared = declaration(1, "");
    declared.as_object_mut().unwrap().remove("code");
    declared["document"] = document(NUMBER);
    declared["kind"] = json!("employee");
    declared["organisation"] = json!(7);
    declared["note"] = json!("从武汉返回");
    world
        .done("citizen_app", "/v1/declarations", &declared)
        .await;
    let values = world.values("declarations").await;
    let kept: Declaration = codec::decode(&values[0]).unwrap();
    assert_eq!((kept.person, kept.organisation), (world.person, Some(7)));
    assert_eq!((kept.symptoms.0, kept.travelled), (1, vec![420_100]));
    assert_eq!(kept.note, "从武汉返回");
}

#[tokio::test]
async fn d1_a_declaration_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::start().await;
    let code = world.code().await;
    let with = |field: &str, value: Value| {
        let mut declared = declaration(1, &code);
        declared[field] = value;
        declared
    };
    for (declared, refused) in [
        (
            with("declaration_id", json!("x")),
            ("declaration_id", "uuid_v7"),
        ),
        (with("kind", json!("visitor")), ("kind", "allowed")),
        (with("kind", json!("employee")), ("organisation", "by_kind")),
        (with("organisation", json!(7)), ("organisation", "by_kind")),
        (
            with("symptoms", json!(["cold"])),
            ("symptoms[0]", "allowed"),
        ),
        (with("travelled", json!([42])), ("travelled", "regions")),
        (with("residence", json!(1)), ("residence", "known_division")),
        (with("note", json!("字".repeat(100))), ("note", "text")),
        (
            with("time", json!("2100-01-01T00:00:00Z")),
            ("time", "not_in_future"),
        ),
        (with("document", document(NUMBER)), ("code", "exactly_one")),
        (with("code", json!("x")), ("code", "malformed")),
        (with("code", Value::Null), ("code", "exactly_one")),
    ] {
        let reply = world
            .post("citizen_app", "/v1/declarations", &declared)
            .await;
        assert_eq!(
            reply.problem(),
            refusal(422, refused.0, refused.1),
            "{declared}"
        );
    }
    let collected = with("kind", json!("grid_collection"));
    let refused = world
        .post("citizen_app", "/v1/declarations", &collected)
        .await;
    assert_eq!(refused.problem(), refusal(403, "", "collect_in_grid"));
    let taken = world
        .post("grid_worker", "/v1/declarations", &collected)
        .await;
    assert_eq!(taken.status, 201, "{}", taken.text);
    assert_eq!(world.count("declarations").await, 1);
}
