//! X3: a scan sent twice is recorded once and answered the same; what is refused, by which right or bound, is said.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use axum::http::{Method, header};
use scan_model::scan::Disposition;
use scan_model::{CodeForm, Scheme, Timestamp};
use serde_json::{Value, json};
use support::refusals::screening_with;
use support::{NUMBER, Reply, World, document, field_and_rule, refusal, scan_id};

fn retry_after(reply: &Reply) -> &str {
    reply
        .headers
        .get(header::RETRY_AFTER)
        .map_or("", |value| value.to_str().unwrap())
}

/// A scan of a kind at the site that belongs to it.
fn scan_of(kind: &str, code: &str) -> Value {
    let mut scan = json!({"scan_id": scan_id(), "kind": kind, "code": code});
    match kind {
        "temperature_screening" => {
            scan["venue"] = json!(1);
            scan["temperature"] = json!({"band": "normal"});
        }
        "quick_check_in" => scan["venue"] = json!(1),
        "grid_collection" => scan["grid"] = json!(1),
        "compound_pass" => scan["compound"] = json!(1),
        _ => {}
    }
    scan
}

#[tokio::test]
async fn x3_the_same_scan_again_is_answered_the_same_and_recorded_once() {
    let world = World::start().await;
    let scan = World::screening(&world.code().await);
    let first = world.post("tester", "/v1/scans", &scan).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let answer = json!({"scan_id": scan["scan_id"], "recorded": true, "colour": "green", "disposition": "admitted"});
    assert_eq!(first.json(), answer);
    let again = world.post("tester", "/v1/scans", &scan).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    // Contents are the same in whatever shape they come, and whatever space surrounds them.
    let in_batch = world.done("tester", "/v1/scans", &json!([scan])).await;
    assert_eq!(in_batch["results"][0]["result"], answer);
    for body in [format!("{scan}\r\n"), format!("  {scan}\n\n")] {
        for content_type in ["application/json", "application/x-ndjson"] {
            let headers = [("content-type", content_type)];
            let reply = world
                .call(
                    Method::POST,
                    Some("tester"),
                    "/v1/scans",
                    &headers,
                    body.clone(),
                )
                .await;
            assert!(
                reply.status.is_success() && reply.text.contains("\"recorded\":true"),
                "{}",
                reply.text
            );
        }
    }
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn x3_an_id_used_again_for_other_contents_is_a_conflict() {
    let world = World::start().await;
    let scan = World::screening(&world.code().await);
    world.done("tester", "/v1/scans", &scan).await;
    let mut other = scan.clone();
    other["temperature"] = json!({"band": "fever"});
    assert_eq!(
        world.post("tester", "/v1/scans", &other).await.problem(),
        refusal(409, "scan_id", "")
    );
    let batch = world
        .post("tester", "/v1/scans", &json!([other, scan]))
        .await
        .json();
    assert_eq!(field_and_rule(&batch["results"][0]["problem"]).0, 409);
    assert_eq!(batch["results"][1]["status"], 201);
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn x3_a_scan_twice_in_one_batch_is_recorded_once() {
    let world = World::start().await;
    let scan = World::screening(&world.code().await);
    let mut other = scan.clone();
    other["direction"] = json!("out");
    let batch = world
        .post("tester", "/v1/scans", &json!([scan, scan, other]))
        .await
        .json();
    assert_eq!(batch["results"][0]["result"], batch["results"][1]["result"]);
    assert_eq!(
        field_and_rule(&batch["results"][2]["problem"]),
        refusal(409, "scan_id", "")
    );
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn x3_a_retry_is_answered_the_same_though_the_code_has_ended_since() {
    let world = World::start().await;
    let rotating = world.code_issued(0, Scheme::Yuekang, CodeForm::Rotating);
    let scan = World::screening(&rotating);
    let first = world.done("tester", "/v1/scans", &scan).await;
    world
        .done(
            "identity_service",
            "/v1/codes:revoke",
            &json!({"document": document(NUMBER)}),
        )
        .await;
    assert_eq!(world.done("tester", "/v1/scans", &scan).await, first);
    let fresh = World::screening(&rotating);
    assert_eq!(
        world.post("tester", "/v1/scans", &fresh).await.problem(),
        refusal(422, "code", "revoked")
    );
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn p4_a_rotating_code_is_as_old_as_it_was_when_it_was_shown() {
    let world = World::start().await;
    let code = world.code_issued(600, Scheme::Yuekang, CodeForm::Rotating);
    let shown = |seconds_ago: i64| {
        let mut scan = World::screening(&code);
        let time = Timestamp::now().plus_ms(-1000 * seconds_ago);
        scan["time"] = json!(time.to_rfc3339());
        scan
    };
    world.done("tester", "/v1/scans", &shown(570)).await;
    for seconds_ago in [0, 530] {
        assert_eq!(
            world
                .post("tester", "/v1/scans", &shown(seconds_ago))
                .await
                .problem(),
            refusal(422, "code", "expired")
        );
    }
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn c8_a_correction_is_a_scan_of_its_own() {
    let world = World::start().await;
    let scan = World::screening(&world.code().await);
    world.done("tester", "/v1/scans", &scan).await;
    let correction = screening_with(&world, json!({"corrects": scan["scan_id"]})).await;
    world.done("tester", "/v1/scans", &correction).await;
    let corrects = world.scans().await[1].corrects.unwrap().to_string();
    assert_eq!(corrects, scan["scan_id"].as_str().unwrap());
}

#[tokio::test]
async fn c3_a_red_check_in_is_refused_and_recorded_once() {
    let world = World::start().await;
    world.redden("confirmed").await;
    let mut scan = scan_of("quick_check_in", &world.code().await);
    scan["disposition"] = json!("admitted");
    for _ in 0..2 {
        let reply = world.post("citizen_app", "/v1/scans", &scan).await;
        assert_eq!(reply.problem(), refusal(403, "", ""));
        let problem = reply.json();
        assert_eq!(problem["type"], "urn:tongxing:problem:red-refused");
        assert_eq!(problem["recorded"], true);
        assert!(problem["next_step"].is_string());
    }
    let scans = world.scans().await;
    assert_eq!(scans.len(), 1);
    assert_eq!(scans[0].disposition, Disposition::Refused);
    assert!(scans[0].is_red_encounter() && !scans[0].is_registration());
}

#[tokio::test]
async fn c3_a_city_may_let_red_check_ins_in() {
    let world = World::configured(|config| config.refuse_red_check_ins = false).await;
    world.redden("confirmed").await;
    let scan = scan_of("quick_check_in", &world.code().await);
    let answer = world.done("citizen_app", "/v1/scans", &scan).await;
    assert_eq!(
        (&answer["colour"], &answer["disposition"]),
        (&json!("red"), &json!("admitted"))
    );
    assert!(world.scans().await[0].is_registration());
}

#[tokio::test]
async fn s1_the_disposition_of_a_red_screening_is_refused_unless_the_tester_says_otherwise() {
    let world = World::start().await;
    world.redden("confirmed").await;
    for (stated, recorded) in [
        (Value::Null, "refused"),
        (json!("referred"), "referred"),
        (json!("admitted"), "admitted"),
    ] {
        let scan = screening_with(&world, json!({"disposition": stated})).await;
        let answer = world.done("tester", "/v1/scans", &scan).await;
        assert_eq!(
            (&answer["colour"], &answer["disposition"]),
            (&json!("red"), &json!(recorded))
        );
    }
}

#[tokio::test]
async fn x11_whatever_is_synthetic_marks_the_scan() {
    let world = World::start().await;
    let marked = async |key: &str, change: Value| {
        let scan = screening_with(&world, change).await;
        world.done(key, "/v1/scans", &scan).await;
        let id = scan["scan_id"].as_str().unwrap().to_owned();
        let scans = world.scans().await;
        scans
            .iter()
            .find(|scan| scan.scan_id.to_string() == id)
            .unwrap()
            .synthetic
    };
    assert!(!marked("tester", json!({})).await);
    assert!(marked("load", json!({})).await, "the key");
    assert!(marked("tester", json!({"venue": 3})).await, "the venue");
    assert!(
        marked("tester", json!({"synthetic": true})).await,
        "the scan"
    );
    let person = json!({"document": document(NUMBER), "name": "合成", "synthetic": true});
    world.done("identity_service", "/v1/persons", &person).await;
    assert!(marked("tester", json!({})).await, "the person");
}

#[tokio::test]
async fn inv8_each_role_may_do_its_own_work_and_a_refusal_names_the_right() {
    let world = World::start().await;
    let code = world.code().await;
    let work = [
        ("temperature_screening", "screen", &["tester", "gate"][..]),
        ("quick_check_in", "quick_check_in", &["citizen_app"]),
        (
            "display",
            "record_display",
            &["tester", "gate", "citizen_app"],
        ),
        ("grid_collection", "collect_in_grid", &["grid_worker"]),
        ("compound_pass", "pass_compound", &["compound_checker"]),
        ("release_notice", "issue_release_notice", &["medical_staff"]),
    ];
    let roles = [
        "tester",
        "gate",
        "citizen_app",
        "grid_worker",
        "compound_checker",
        "medical_staff",
        "identity_service",
        "health_feed",
        "operator",
    ];
    for (kind, right, allowed) in work {
        for role in roles {
            let before = world.state().await;
            let reply = world.post(role, "/v1/scans", &scan_of(kind, &code)).await;
            if allowed.contains(&role) {
                assert_eq!(reply.status, 201, "{role} {kind}: {}", reply.text);
            } else {
                assert_eq!(reply.problem(), refusal(403, "", right), "{role} {kind}");
                assert_eq!(world.state().await, before);
            }
        }
    }
    let mut by_document = scan_of("grid_collection", "");
    by_document["code"] = Value::Null;
    by_document["document"] = document(NUMBER);
    let refused = world.post("grid_worker", "/v1/scans", &by_document).await;
    assert_eq!(refused.problem(), refusal(403, "", "look_up_document"));
    world.done("everything", "/v1/scans", &by_document).await;
}

#[tokio::test]
async fn inv8_a_key_limited_to_sites_works_there_only() {
    let world = World::start().await;
    let elsewhere = World::screening(&world.code().await);
    let refused = world
        .post("tester_of_venue_2", "/v1/scans", &elsewhere)
        .await;
    assert_eq!(refused.problem(), refusal(403, "", "to work at venue 1"));
    let here = screening_with(&world, json!({"venue": 2})).await;
    world.done("tester_of_venue_2", "/v1/scans", &here).await;
    assert_eq!(world.scans().await.len(), 1);
}

#[tokio::test]
async fn inv6_a_caller_beyond_its_rate_is_told_when_to_retry() {
    let world = World::start().await;
    let code = world.code().await;
    let path = format!("/v1/codes/{code}");
    let mut replies = Vec::new();
    for _ in 0..10 {
        replies.push(world.get("slow", &path).await);
    }
    assert_eq!(replies[0].status, 200);
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(refused.len() >= 5, "{} of 10 were refused", refused.len());
    for reply in refused {
        assert_eq!(reply.problem(), refusal(429, "", ""));
        assert_eq!(retry_after(reply), "1");
    }
    assert_eq!(
        world.get("tester", &path).await.status,
        200,
        "another caller is not refused"
    );
}

#[tokio::test]
async fn inv6_scans_beyond_the_bound_are_refused_at_once_and_lookups_are_not() {
    let world = World::configured(|config| config.appends = 5).await;
    let code = world.code().await;
    let scans: Vec<Value> = (0..6).map(|_| World::screening(&code)).collect();
    let before = world.state().await;
    let refused = world.post("tester", "/v1/scans", &json!(scans)).await;
    assert_eq!(refused.problem(), refusal(503, "", ""));
    assert_eq!(retry_after(&refused), "1");
    assert_eq!(world.state().await, before);
    let held = world.ingest.appends.admit(5).unwrap();
    let refused = world.post("tester", "/v1/scans", &scans[0]).await;
    assert_eq!((refused.problem().0, retry_after(&refused)), (503, "1"));
    assert_eq!(world.look_up(&code, "en").await.status, 200);
    drop(held);
    world.done("tester", "/v1/scans", &json!(scans[..5])).await;
    assert_eq!(world.scans().await.len(), 5);
}
