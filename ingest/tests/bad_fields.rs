//! A field that breaks a rule gets a 422 that names field and rule, and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use scan_model::Timestamp;
use serde_json::json;
use support::refusals::{refuses, refuses_text, screening_with};
use support::{DAY_MS, NUMBER, OTHER_NUMBER, World, document, scan_id, scan_id_at};

#[tokio::test]
async fn p1_a_document_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::start().await;
    for (change, field, rule) in [
        (
            json!({"number": "440106199003070011"}),
            "number",
            "check_digit",
        ),
        (
            json!({"number": "440106199002310018"}),
            "number",
            "birth_date",
        ),
        (
            json!({"number": "440106209903070013"}),
            "number",
            "birth_date_range",
        ),
        (
            json!({"number": "990106199003070010"}),
            "number",
            "division",
        ),
        (
            json!({"number": "440106199003070000"}),
            "number",
            "sequence",
        ),
        (json!({"number": "4401061990030700"}), "number", "length"),
        (
            json!({"number": "44010619900307001Y"}),
            "number",
            "character",
        ),
        (json!({"issuer": "CHN"}), "issuer", "unexpected_issuer"),
        (
            json!({"issue_count": "01"}),
            "issue_count",
            "unexpected_issue_count",
        ),
        (json!({"kind": "passport"}), "issuer", "issuer_missing"),
        (
            json!({"kind": "passport", "issuer": "XXQ"}),
            "issuer",
            "issuer",
        ),
        (
            json!({"kind": "taiwan_permit", "number": "00000001", "issue_count": "1"}),
            "issue_count",
            "issue_count",
        ),
        (json!({"kind": "library_card"}), "kind", "allowed"),
        (json!({"kind": 4}), "kind", "type"),
        (
            json!({"number": 440_106_199_003_070_011_i64}),
            "number",
            "type",
        ),
        (json!({"number": null}), "number", "type"),
        (json!({"expires": "2030"}), "expires", "unknown_field"),
    ] {
        let mut document = document(NUMBER);
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        let field = format!("document.{field}");
        let expected = (422, field.as_str(), rule);
        let person = json!({"document": document, "name": "李示例"});
        refuses(&world, "identity_service", "/v1/persons", &person, expected).await;
        let lookup = json!({"document": document});
        refuses(&world, "everything", "/v1/lookups", &lookup, expected).await;
        let scan = screening_with(&world, json!({"code": null, "document": document})).await;
        refuses(&world, "everything", "/v1/scans", &scan, expected).await;
        let mut fact = json!({"category": "confirmed", "source": "cdc", "reference": "1"});
        fact["document"] = document.clone();
        refuses(&world, "health_feed", "/v1/facts", &fact, expected).await;
        refuses(&world, "identity_service", "/v1/codes", &lookup, expected).await;
        refuses(
            &world,
            "identity_service",
            "/v1/codes:revoke",
            &lookup,
            expected,
        )
        .await;
    }
}

#[tokio::test]
async fn p8_a_person_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::start().await;
    let this_year = Timestamp::now().shanghai_year();
    for (change, field, rule) in [
        (json!({"name": ""}), "name", "name"),
        (json!({"name": "-".repeat(5)}), "name", "name"),
        (json!({"name": "长".repeat(101)}), "name", "name"),
        (json!({"name": 13_812_345_678_u64}), "name", "type"),
        (json!({"phone": "1234567"}), "phone", "phone"),
        (json!({"phone": 13_812_345_678_u64}), "phone", "type"),
        (json!({"sex": "male"}), "sex", "agrees_with_document"),
        (json!({"sex": "m"}), "sex", "allowed"),
        (
            json!({"birth_year": 1991}),
            "birth_year",
            "agrees_with_document",
        ),
        (json!({"birth_year": -1}), "birth_year", "type"),
        (json!({"residence": 110_101}), "residence", "known_division"),
        (
            json!({"verification": "trusted"}),
            "verification",
            "allowed",
        ),
        (json!({"synthetic": 1}), "synthetic", "type"),
        (json!({"document": NUMBER}), "document", "type"),
        (
            json!({"telephone": "13812345678"}),
            "telephone",
            "unknown_field",
        ),
        (
            json!({"document": {"kind": "passport", "number": "X00000001", "issuer": "SGP"}, "birth_year": this_year + 1}),
            "birth_year",
            "range",
        ),
    ] {
        let mut person = json!({"document": document(OTHER_NUMBER), "name": "李示例样本"});
        for (name, value) in change.as_object().unwrap() {
            person[name] = value.clone();
        }
        let expected = (422, field, rule);
        refuses(&world, "identity_service", "/v1/persons", &person, expected).await;
    }
    let nameless = json!({"document": document(OTHER_NUMBER)});
    refuses(
        &world,
        "identity_service",
        "/v1/persons",
        &nameless,
        (422, "name", "required"),
    )
    .await;
}

#[tokio::test]
async fn v1_a_site_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::start().await;
    let too_many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
    for (change, field, rule) in [
        (json!({"region": 440_199_999}), "region", "allowed"),
        (json!({"region": 110_101}), "region", "allowed"),
        (json!({"region": "440106"}), "region", "type"),
        (json!({"id": 0}), "id", "allowed"),
        (json!({"id": 4_294_967_296_u64}), "id", "type"),
        (json!({"name": " "}), "name", "allowed"),
        (json!({"name": "a\u{7}"}), "name", "allowed"),
        (json!({"address": "a".repeat(101)}), "address", "allowed"),
        (json!({"venue_type": null}), "venue_type", "allowed"),
        (json!({"venue_type": "stadium"}), "venue_type", "allowed"),
        (
            json!({"venue_type": "unspecified"}),
            "venue_type",
            "allowed",
        ),
        (json!({"checkpoints": too_many}), "checkpoints", "allowed"),
        (
            json!({"checkpoints": vec!["长".repeat(100); 200]}),
            "checkpoints",
            "size",
        ),
        (json!({"checkpoints": [1]}), "checkpoints[0]", "type"),
        (json!({"admin": 1}), "admin", "unknown_field"),
    ] {
        let mut venue = json!({"id": 9, "name": "venue", "region": 440_106, "venue_type": "mall"});
        for (name, value) in change.as_object().unwrap() {
            venue[name] = value.clone();
        }
        refuses(
            &world,
            "operator",
            "/v1/venues:import",
            &venue,
            (422, field, rule),
        )
        .await;
    }
    let mall = json!({"id": 9, "name": "grid", "region": 440_106, "venue_type": "mall"});
    refuses(
        &world,
        "operator",
        "/v1/grids:import",
        &mall,
        (422, "venue_type", "allowed"),
    )
    .await;
}

#[tokio::test]
async fn s4_a_fact_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::start().await;
    for (change, field, rule) in [
        (json!({"person": "7"}), "person", "person_id"),
        (json!({"person": "0000000000000007"}), "person", "known"),
        (json!({"person": null}), "person", "exactly_one"),
        (
            json!({"document": document(NUMBER)}),
            "person",
            "exactly_one",
        ),
        (json!({"category": "contact"}), "category", "allowed"),
        (json!({"source": ""}), "source", "text"),
        (json!({"reference": "a\n"}), "reference", "text"),
        (json!({"note": "a".repeat(201)}), "note", "text"),
        (json!({"effective": "2026-11-21"}), "effective", "rfc3339"),
        (
            json!({"expiry": "2026-02-31T00:00:00Z"}),
            "expiry",
            "rfc3339",
        ),
        (
            json!({"expiry": "2001-01-01T00:00:00Z"}),
            "expiry",
            "after_effective",
        ),
        (json!({"withdrawn": "yes"}), "withdrawn", "type"),
    ] {
        let mut fact = json!({"person": world.person.to_string(), "category": "confirmed", "source": "cdc", "reference": "1"});
        for (name, value) in change.as_object().unwrap() {
            fact[name] = value.clone();
        }
        refuses(
            &world,
            "health_feed",
            "/v1/facts",
            &fact,
            (422, field, rule),
        )
        .await;
    }
}

#[tokio::test]
async fn c2_a_scan_that_breaks_a_rule_is_refused_by_that_rule() {
    let world = World::start().await;
    let now = Timestamp::now();
    let future = now.plus_ms(6 * 60_000);
    let id = scan_id();
    let code = world.code().await;
    for (change, field, rule) in [
        (
            json!({"time": future.to_rfc3339()}),
            "time",
            "not_in_future",
        ),
        (
            json!({"time": now.plus_ms(-32 * DAY_MS).to_rfc3339()}),
            "time",
            "lateness",
        ),
        (
            json!({"time": "2026-02-31T08:00:00+08:00"}),
            "time",
            "rfc3339",
        ),
        (json!({"time": "2026-11-21T08:00:00"}), "time", "rfc3339"),
        (json!({"venue": 77}), "venue", "known"),
        (json!({"venue": "1"}), "venue", "type"),
        (json!({"venue": null}), "venue", "required"),
        (json!({"grid": 1}), "grid", "belongs_to_kind"),
        (
            json!({"kind": "grid_collection", "venue": null, "grid": 77}),
            "grid",
            "known",
        ),
        (
            json!({"kind": "grid_collection", "venue": null}),
            "grid",
            "required",
        ),
        (
            json!({"kind": "compound_pass", "venue": null, "compound": 77}),
            "compound",
            "known",
        ),
        (
            json!({"kind": "release_notice", "venue": null, "institution": 7}),
            "institution",
            "known",
        ),
        (json!({"kind": "stroll"}), "kind", "allowed"),
        (
            json!({"scan_id": "6f2b0f9e-0000-4000-8000-000000000001"}),
            "scan_id",
            "uuid_v7",
        ),
        (json!({"scan_id": "7"}), "scan_id", "uuid_v7"),
        (
            json!({"scan_id": scan_id_at(future)}),
            "scan_id",
            "not_in_future",
        ),
        (
            json!({"scan_id": id, "corrects": id}),
            "corrects",
            "another_scan",
        ),
        (json!({"corrects": "7"}), "corrects", "uuid_v7"),
        (json!({"party": "7"}), "party", "uuid"),
        (json!({"temperature": null}), "temperature", "required"),
        (json!({"temperature": {}}), "temperature.band", "required"),
        (
            json!({"temperature": {"band": "not_taken"}}),
            "temperature.band",
            "allowed",
        ),
        (
            json!({"temperature": {"band": "hot"}}),
            "temperature.band",
            "allowed",
        ),
        (
            json!({"temperature": {"band": "normal", "celsius": 36_500}}),
            "temperature.celsius",
            "range",
        ),
        (
            json!({"temperature": {"band": "normal", "celsius": "36.5"}}),
            "temperature.celsius",
            "type",
        ),
        (
            json!({"temperature": {"band": "normal", "kelvin": 310}}),
            "temperature.kelvin",
            "unknown_field",
        ),
        (json!({"direction": "up"}), "direction", "allowed"),
        (json!({"disposition": "arrested"}), "disposition", "allowed"),
        (json!({"checkpoint": 65_536}), "checkpoint", "type"),
        (json!({"checkpoint": 2}), "checkpoint", "known_checkpoint"),
        (json!({"synthetic": "no"}), "synthetic", "type"),
        (json!({"document": document(NUMBER)}), "code", "exactly_one"),
        (json!({"code": null}), "code", "exactly_one"),
        (json!({"code": 7}), "code", "type"),
        (json!({"colour": "green"}), "colour", "unknown_field"),
    ] {
        let scan = screening_with(&world, change).await;
        refuses(&world, "everything", "/v1/scans", &scan, (422, field, rule)).await;
    }
    let check_in = json!({"scan_id": id, "kind": "quick_check_in", "code": code, "venue": 1});
    refuses(
        &world,
        "everything",
        "/v1/displays",
        &check_in,
        (422, "kind", "allowed"),
    )
    .await;
    let twice = format!(r#"{{"scan_id":"{id}","kind":"display","code":"{code}","code":"{code}"}}"#);
    refuses_text(
        &world,
        "everything",
        "/v1/scans",
        &twice,
        (422, "code", "duplicate"),
    )
    .await;
    let no_id = json!({"kind": "display", "code": code});
    refuses(
        &world,
        "everything",
        "/v1/scans",
        &no_id,
        (422, "scan_id", "required"),
    )
    .await;
}
