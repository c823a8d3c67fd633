//! Batches of codes in the compact form that docs/compact-lookups.md describes (C1).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use axum::http::Method;
use serde_json::json;
use support::{World, refusal};

#[tokio::test]
async fn c1_a_partner_system_sends_sealed_codes_and_reads_compact_answers() {
    use base64::Engine;
    let world = World::start().await;
    let sealed = |code: &str| {
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        engine.decode(code).unwrap()
    };
    let code = world.code().await;
    let mut foreign = sealed(&code);
    foreign[0] = 9;
    let mut altered = sealed(&code);
    altered[5] ^= 1;
    let body = [sealed(&code), foreign, altered, sealed(&code)].concat();
    let headers = [
        ("content-type", "application/vnd.tongxing.codes"),
        ("accept", "application/vnd.tongxing.answers"),
    ];
    let path = "/v1/lookups";
    let reply = world
        .call(Method::POST, Some("tester"), path, &headers, body.clone())
        .await;
    assert_eq!(
        reply.headers["content-type"],
        "application/vnd.tongxing.answers"
    );
    let answer = &reply.bytes;
    assert_eq!(&answer[..8], b"TXA1\x04\0\0\0");
    assert_eq!(&answer[20..32], b"edition-4\0\0\0");
    assert_eq!(answer.len(), 32 + 4 * 16);
    let (answers, _) = answer[32..].as_chunks::<16>();
    let status = world
        .ingest
        .cache
        .get(world.person, scan_model::Timestamp::now())
        .unwrap();
    let shown = status_cache::layout::ShownWord::new(status.name, status.phone);
    let [outcome, colour, flags, zero, ..] = answers[0];
    assert_eq!((outcome, colour, flags & 0b11, zero), (0, 0, 0b01, 0));
    assert_eq!(answers[0][6..8], status.version.to_le_bytes());
    assert_eq!(answers[0][8..], shown.0.to_le_bytes());
    assert_eq!(answers[0], answers[3]);
    let refused = |number: u8| {
        let mut answer = [0; 16];
        answer[0] = number;
        answer
    };
    assert_eq!((answers[1], answers[2]), (refused(17), refused(18)));
    // The same request may ask for JSON, and a JSON request for the compact answer.
    let as_json = world
        .call(Method::POST, Some("tester"), path, &headers[..1], body)
        .await
        .json();
    assert_eq!(as_json["results"][3]["result"]["outcome"], "green");
    assert_eq!(as_json["results"][1]["problem"]["rule"], "forged");
    let asked = json!({"codes": [code]}).to_string();
    let headers = [("content-type", "application/json"), headers[1]];
    let compact = world
        .call(Method::POST, Some("tester"), path, &headers, asked)
        .await;
    assert_eq!(compact.bytes[32..], answers[0]);
}

#[tokio::test]
async fn c1_sealed_codes_of_no_whole_number_or_too_many_are_refused_by_name() {
    let world = World::start().await;
    let headers = [("content-type", "application/vnd.tongxing.codes")];
    let post = |length| {
        let body = vec![1; length];
        world.call(Method::POST, Some("tester"), "/v1/lookups", &headers, body)
    };
    for length in [0, 16, 18] {
        let reply = post(length).await;
        assert_eq!(reply.problem(), refusal(422, "body", "length"), "{length}");
    }
    assert_eq!(post(17 * 1001).await.status, 413);
}
