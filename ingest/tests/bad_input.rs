//! Bad bodies, codes and batches get a 4xx problem that names field and rule, and change nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use axum::http::Method;
use scan_model::{CodeForm, Scheme, Timestamp};
use serde_json::{Value, json};
use support::refusals::{JSON, refuses, screening_with};
use support::{NUMBER, OTHER_NUMBER, Reply, World, document, field_and_rule, refusal};

/// Codes that are not in force, each with its rule.
async fn bad_codes(world: &World) -> Vec<(String, &'static str)> {
    let code = world.code().await;
    let mut altered = code.clone();
    let swapped = if &code[10..11] == "A" { "B" } else { "A" };
    altered.replace_range(10..11, swapped);
    let stranger = scan_model::CodePayload {
        person: scan_model::PersonId(7),
        issued_second: Timestamp::now().seconds() as u32,
        scheme: Scheme::Yuekang,
        form: CodeForm::App,
    };
    let foreign = scan_model::CodeKeys::new(&[(1, [9; 32])].into()).unwrap();
    let retired = scan_model::CodeKeys::new(&[(2, [1; 32])].into()).unwrap();
    let of_person = scan_model::CodePayload {
        person: world.person,
        ..stranger
    };
    vec![
        (altered, "altered"),
        (foreign.seal(&of_person), "altered"),
        (retired.seal(&of_person), "forged"),
        (world.ingest.code_keys.load().seal(&stranger), "forged"),
        (code[1..].to_owned(), "malformed"),
        (format!("{}!", &code[1..]), "malformed"),
        (
            world.code_issued(8 * 86_400, Scheme::Suikang, CodeForm::App),
            "expired",
        ),
        (
            world.code_issued(61, Scheme::Yuekang, CodeForm::Rotating),
            "expired",
        ),
    ]
}

#[tokio::test]
async fn c10_a_code_that_is_not_in_force_is_refused_with_a_next_step() {
    let world = World::start().await;
    for (code, rule) in bad_codes(&world).await {
        refuses(
            &world,
            "tester",
            "/v1/scans",
            &World::screening(&code),
            (422, "code", rule),
        )
        .await;
        for language in ["zh", "en"] {
            let reply = world.look_up(&code, language).await;
            assert_eq!(reply.problem(), refusal(422, "code", rule));
            let problem = reply.json();
            assert_eq!(problem["type"], format!("urn:tongxing:problem:code-{rule}"));
            let next_step = problem["next_step"].as_str().unwrap();
            assert_eq!(next_step.is_ascii(), language == "en", "{next_step}");
        }
    }
    for path in ["/v1/codes/%FF", "/v1/codes/%20"] {
        assert_eq!(
            world.get("tester", path).await.problem(),
            refusal(422, "code", "malformed")
        );
    }
}

#[tokio::test]
async fn x13_revoked_codes_are_refused_and_later_ones_are_not() {
    let world = World::start().await;
    let revocation = json!({"person": world.person.to_string()});
    let mut ended = Vec::new();
    // The second revocation falls into the same minute as the first.
    for _ in 0..2 {
        ended.push(world.code().await);
        assert_eq!(world.look_up(ended.last().unwrap(), "en").await.status, 200);
        world
            .done("identity_service", "/v1/codes:revoke", &revocation)
            .await;
        for code in &ended {
            refuses(
                &world,
                "tester",
                "/v1/scans",
                &World::screening(code),
                (422, "code", "revoked"),
            )
            .await;
            assert_eq!(
                world.look_up(code, "en").await.problem(),
                refusal(422, "code", "revoked")
            );
        }
    }
    assert_eq!(world.look_up(&world.code().await, "en").await.status, 200);
    let both = json!({"person": world.person.to_string(), "document": document(NUMBER)});
    for path in ["/v1/codes", "/v1/codes:revoke"] {
        refuses(
            &world,
            "identity_service",
            path,
            &both,
            (422, "person", "exactly_one"),
        )
        .await;
        refuses(
            &world,
            "identity_service",
            path,
            &json!({}),
            (422, "person", "exactly_one"),
        )
        .await;
        let stranger = json!({"document": document(OTHER_NUMBER)});
        refuses(
            &world,
            "identity_service",
            path,
            &stranger,
            (422, "person", "known"),
        )
        .await;
    }
}

/// Paths that take bodies, with a key that may use them.
const PATHS: [(&str, &str); 12] = [
    ("everything", "/v1/lookups"),
    ("everything", "/v1/scans"),
    ("everything", "/v1/displays"),
    ("identity_service", "/v1/persons"),
    ("identity_service", "/v1/persons:import"),
    ("identity_service", "/v1/codes"),
    ("identity_service", "/v1/codes:revoke"),
    ("health_feed", "/v1/facts"),
    ("health_feed", "/v1/facts:import"),
    ("operator", "/v1/venues:import"),
    ("operator", "/v1/grids:import"),
    ("operator", "/v1/compounds:import"),
];

#[tokio::test]
async fn x13_codes_revoked_over_and_over_are_not_valid_from_ever_further_ahead() {
    let world = World::start().await;
    let revocation = json!({"person": world.person.to_string()});
    for revoked in 1.. {
        let answer = world
            .post("identity_service", "/v1/codes:revoke", &revocation)
            .await;
        if answer.status == 429 {
            assert!(revoked > 2, "two within a minute are taken");
            assert_eq!(answer.headers["retry-after"], "60");
            break;
        }
        assert_eq!(answer.status, 201);
        assert!(revoked < 5, "the fifth is refused");
    }
    let now = Timestamp::now();
    let status = world.ingest.cache.get(world.person, now).unwrap();
    assert!(status.codes_valid_from.0 - now.0 <= 181_000);
    assert_eq!(world.look_up(&world.code().await, "en").await.status, 200);
}

#[tokio::test]
async fn inv6_bodies_that_are_too_large_truncated_or_of_another_type_are_refused() {
    let world = World::start().await;
    let before = world.state().await;
    let post = async |key, path, headers: &[(&str, &str)], body: Vec<u8>| -> Reply {
        world
            .call(Method::POST, Some(key), path, headers, body)
            .await
    };
    let name = |reply: &Reply| reply.json()["type"].as_str().unwrap().to_owned();
    for (key, path) in PATHS {
        let ten_megabytes = post(key, path, &[JSON], vec![b' '; 10 << 20]).await;
        assert_eq!(ten_megabytes.problem(), refusal(413, "", ""), "{path}");
        assert!(name(&ten_megabytes).ends_with("body-too-large"));
        for body in [
            "",
            " ",
            "{",
            r#"{"codes":["#,
            r#"[{"id":1}"#,
            "\u{feff}{}",
            "{} {}",
            "nonsense",
        ] {
            let reply = post(key, path, &[JSON], body.into()).await;
            assert_eq!(reply.problem(), refusal(400, "", ""), "{path} {body}");
        }
        let not_utf8 = post(key, path, &[JSON], b"{\"\xFF\":1}".to_vec()).await;
        assert_eq!(not_utf8.problem().0, 400, "{path}");
        for headers in [
            vec![],
            vec![("content-type", "text/plain")],
            vec![("content-type", "application/jsonl")],
        ] {
            let reply = post(key, path, &headers, b"{}".to_vec()).await;
            assert_eq!(reply.problem(), refusal(415, "", ""), "{path}");
        }
        for scalar in ["7", "null", "true", "\"44010619900307001X\""] {
            let reply = post(key, path, &[JSON], scalar.into()).await;
            assert_eq!(
                reply.problem(),
                refusal(422, "body", "type"),
                "{path} {scalar}"
            );
        }
        if !["/v1/lookups", "/v1/codes:revoke"].contains(&path) {
            for (content_type, body) in [
                (
                    "application/json",
                    format!("[{}{{}}]", "{},".repeat(10_000)),
                ),
                ("application/x-ndjson", "{}\n".repeat(10_001)),
            ] {
                let reply = post(key, path, &[("content-type", content_type)], body.into()).await;
                assert_eq!(reply.problem(), refusal(413, "", ""), "{path}");
                assert!(name(&reply).ends_with("too-many-items"));
            }
        }
    }
    let codes = json!({"codes": vec!["x"; 1001]});
    let reply = world.post("tester", "/v1/lookups", &codes).await;
    assert_eq!(reply.problem(), refusal(413, "", ""));
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn a_bad_item_of_a_batch_leaves_the_others_alone() {
    let world = World::start().await;
    let code = world.code().await;
    let mut bad = World::screening(&code);
    bad["venue"] = json!(77);
    let items = [
        World::screening(&code),
        bad,
        json!({"nonsense": NUMBER}),
        World::screening("forged"),
        json!(OTHER_NUMBER),
        World::screening(&code),
    ];
    let expected = [
        (201, "", ""),
        (422, "venue", "known"),
        (422, "nonsense", "unknown_field"),
        (422, "code", "malformed"),
        (422, "body", "type"),
        (201, "", ""),
    ];
    let lines = items.each_ref().map(Value::to_string).join("\r\n");
    let array = json!(items).to_string();
    for (content_type, body) in [
        ("application/json; charset=utf-8", array),
        ("application/x-ndjson", lines),
    ] {
        let reply = world
            .call(
                Method::POST,
                Some("tester"),
                "/v1/scans",
                &[("content-type", content_type)],
                body,
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let results: Vec<Value> = if content_type.contains("ndjson") {
            reply
                .text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        } else {
            let answer = reply.json();
            assert_eq!(
                (&answer["accepted"], &answer["refused"]),
                (&json!(2), &json!(4))
            );
            answer["results"].as_array().unwrap().clone()
        };
        assert_eq!(results.len(), items.len());
        for (index, (result, (status, field, rule))) in results.iter().zip(expected).enumerate() {
            assert_eq!(
                (&result["index"], &result["status"]),
                (&json!(index), &json!(status))
            );
            if status == 201 {
                assert_eq!(result["result"]["scan_id"], items[index]["scan_id"]);
            } else {
                assert_eq!(
                    field_and_rule(&result["problem"]),
                    refusal(status, field, rule)
                );
            }
        }
    }
    assert_eq!(
        world.scans().await.len(),
        2,
        "the second request repeats the first"
    );
}

#[tokio::test]
async fn a_site_of_the_largest_size_that_is_allowed_goes_through_in_any_number() {
    let world = World::start().await;
    let venue = |id: u32| {
        json!({"id": id, "name": "长".repeat(100), "address": "长".repeat(100), "region": 440_106,
               "venue_type": "park", "checkpoints": vec!["长".repeat(50); 100]})
    };
    let venues: Vec<Value> = (100..350).map(venue).collect();
    let answer = world
        .done("operator", "/v1/venues:import", &json!(venues))
        .await;
    assert_eq!(answer["accepted"], 250);
    let scan = screening_with(&world, json!({"venue": 349})).await;
    world.done("tester", "/v1/scans", &scan).await;
}

#[tokio::test]
async fn p8_a_csv_import_answers_the_refused_lines_alone_where_asked() {
    let world = World::start().await;
    let lines = "kind,number,name\nresident_id,11010519491231002X,张伟\nresident_id,110105194912310021,李雷\npassport,X1234567,A B\n";
    let headers = [("content-type", "text/csv"), ("prefer", "return=minimal")];
    let path = "/v1/persons:import";
    let reply = world
        .call(
            Method::POST,
            Some("identity_service"),
            path,
            &headers,
            lines,
        )
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["preference-applied"], "return=minimal");
    let answer = reply.json();
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&1.into(), &2.into())
    );
    let results = answer["results"].as_array().unwrap();
    let refused: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result["index"].as_u64(),
                result["problem"]["field"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        refused,
        [
            (Some(1), Some("document.number")),
            (Some(2), Some("document.issuer"))
        ]
    );
}
