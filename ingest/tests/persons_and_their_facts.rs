//! Who is who after a document was renewed (P1), and who said what of a person (Y5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use axum::http::Method;
use scan_model::enrolment::{Sex, Verification};
use scan_model::mask::MaskedName;
use scan_model::{Alias, CodeKeys, Document, DocumentKind, Enrolment, Identity, Timestamp};
use serde_json::{Value, json};
use support::{NUMBER, OTHER_NUMBER, World, document, refusal};

/// Sends CSV; answers each line's status.
async fn send_csv(world: &World, key: &str, path: &str, lines: &str) -> Vec<u64> {
    let headers = [("content-type", "text/csv")];
    let reply = world
        .call(Method::POST, Some(key), path, &headers, lines)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let results = reply.text.lines().map(|line| {
        let result: Value = serde_json::from_str(line).unwrap();
        result["status"].as_u64().unwrap()
    });
    results.collect()
}

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

#[tokio::test]
async fn p8_a_renewed_document_comes_as_csv_too() {
    let world = World::start().await;
    let lines = format!(
        "kind,number,issuer,name,renews_kind,renews_number,renews_issuer\n\
         passport,X00000001,SGP,A B,resident_id,{NUMBER},\n\
         passport,X00000002,SGP,A B,,X00000001,SGP\n\
         passport,X00000003,SGP,C D,,,\n\
         passport,X00000004,SGP,E F,,X00000009,SGP\n\
         passport,X00000005,SGP,G H,passport,,\n"
    );
    let path = "/v1/persons:import";
    // The second line's earlier document is known once the first has been taken.
    let statuses = send_csv(&world, "identity_service", path, &lines).await;
    assert_eq!(statuses, [201, 422, 201, 422, 422]);
    let statuses = send_csv(&world, "identity_service", path, &lines).await;
    assert_eq!(statuses, [201, 201, 201, 422, 422]);
    let asked = json!({"document": {"kind": "passport", "number": "X00000002", "issuer": "SGP"}});
    let issued = world.done("identity_service", "/v1/codes", &asked).await;
    let keys = world.ingest.code_keys.load();
    let opened = keys.open(issued["code"].as_str().unwrap()).unwrap();
    assert_eq!(opened.person, world.person);
}

#[tokio::test]
async fn p8_facts_come_as_csv_too() {
    let world = World::start().await;
    let lines = format!(
        "person,kind,number,category,source,reference,effective,expiry,note\n\
         {},,,close_contact,cdc,1,2020-01-01T00:00:00+08:00,2099-01-01T00:00:00+08:00,by train\n\
         ,resident_id,{NUMBER},confirmed,cdc,2,,,\n\
         ,resident_id,{OTHER_NUMBER},confirmed,cdc,3,,,\n\
         {},,,no_such_category,cdc,4,,,\n",
        world.person, world.person
    );
    let statuses = send_csv(&world, "health_feed", "/v1/facts:import", &lines).await;
    assert_eq!(statuses, [201, 201, 422, 422]);
    let asked = json!({"person": world.person.to_string()});
    let answer = world.done("health_feed", "/v1/facts:query", &asked).await;
    let mut notes: Vec<_> = answer["facts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fact| (fact["category"].as_str().unwrap(), &fact["note"]))
        .collect();
    notes.sort_by_key(|(category, _)| *category);
    assert_eq!(notes[0], ("close_contact", &json!("by train")));
    assert_eq!(notes[1].0, "confirmed");
    let code = world.code().await;
    assert_eq!(world.look_up(&code, "en").await.json()["outcome"], "red");
}

#[tokio::test]
async fn p1_a_document_whose_id_is_another_s_is_refused_before_anything_is_appended() {
    let world = World::start().await;
    let now = Timestamp::now();
    let kind = DocumentKind::ResidentId;
    let parsed = Document::parse(kind, OTHER_NUMBER, None, None, (2026, 1, 1)).unwrap();
    let Identity { person, check } = world.ingest.config.person_key.identify(&parsed);
    let other = Enrolment {
        identity: Identity {
            person,
            check: !check,
        },
        verification: Verification::NameMatched,
        sex: Sex::Unknown,
        birth_year: None,
        name: MaskedName::of("李雷").unwrap(),
        phone: None,
        name_hash: 1,
        phone_hash: None,
        residence: None,
        recorded_at: now,
        synthetic: false,
        change: 1,
    };
    world.ingest.cache.apply_enrolment(&other).unwrap();
    let records = world.count("persons").await;
    let refused = json!({"document": document(OTHER_NUMBER), "name": "韩梅梅"});
    let refused = world
        .post("identity_service", "/v1/persons", &refused)
        .await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.problem().1, "document");
    let renewal =
        json!({"document": document(OTHER_NUMBER), "renews": document(NUMBER), "name": "韩梅梅"});
    let refused = world
        .post("identity_service", "/v1/persons", &renewal)
        .await;
    assert_eq!(refused.status, 409);
    assert_eq!(world.count("persons").await, records);
}

#[tokio::test]
async fn p1_a_document_whose_id_is_a_renewed_document_s_is_refused_before_anything_is_appended() {
    let world = World::start().await;
    let kind = DocumentKind::ResidentId;
    let parsed = Document::parse(kind, OTHER_NUMBER, None, None, (2026, 1, 1)).unwrap();
    let Identity { person, check } = world.ingest.config.person_key.identify(&parsed);
    let own = Document::parse(kind, NUMBER, None, None, (2026, 1, 1)).unwrap();
    let alias = Alias {
        identity: Identity {
            person,
            check: !check,
        },
        of: world.ingest.config.person_key.identify(&own),
        recorded_at: Timestamp::now(),
        supplied_by: 0,
    };
    world.ingest.cache.apply_alias(&alias);
    let records = world.count("persons").await;
    for refused in [
        json!({"document": document(OTHER_NUMBER), "name": "韩梅梅"}),
        json!({"document": document(OTHER_NUMBER), "renews": document(NUMBER), "name": "韩梅梅"}),
    ] {
        let refused = world
            .post("identity_service", "/v1/persons", &refused)
            .await;
        assert_eq!(refused.problem().1, "document");
        assert_eq!(refused.status, 409);
    }
    assert_eq!(world.count("persons").await, records);
}

#[tokio::test]
async fn p4_codes_of_the_earlier_and_the_later_key_are_in_force_through_a_rotation() {
    let world = World::start().await;
    let earlier = world.code().await;
    let keys = BTreeMap::from([(1, [1; 32]), (2, [2; 32])]);
    // First every node opens codes of the later key, then one after another seals with it.
    let opens_both = CodeKeys::new(&keys).unwrap().sealing_under(1);
    world.ingest.set_code_keys(opens_both);
    let between = world.code().await;
    world.ingest.set_code_keys(CodeKeys::new(&keys).unwrap());
    let later = world.code().await;
    for code in [&earlier, &between, &later] {
        assert_eq!(world.look_up(code, "en").await.status, 200);
    }
    let later_alone = CodeKeys::new(&BTreeMap::from([(2, [2; 32])])).unwrap();
    world.ingest.set_code_keys(later_alone);
    assert_eq!(world.look_up(&later, "en").await.status, 200);
    for code in [&earlier, &between] {
        assert_eq!(
            world.look_up(code, "en").await.problem(),
            refusal(422, "code", "forged")
        );
    }
}
