//! The OpenAPI document is true: it has every route, and every answer is as it says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../ingest/tests/support/openapi.rs"]
mod openapi;
mod support;

use axum::http::Method;
use openapi::{Document, routed};
use query::routes::OPENAPI;
use serde_json::Value;
use support::{World, refusal};

fn document() -> Document {
    Document::parse(OPENAPI)
}

/// A path with the document's own examples in it; query parameters where they are asked for.
fn example_path(document: &Document, method: &str, path: &str, with_query: bool) -> String {
    let mut filled = path.to_owned();
    let mut asked = Vec::new();
    let parameters = document.operation(method, path)["parameters"]
        .as_array()
        .cloned();
    for parameter in parameters.unwrap_or_default() {
        let parameter = document.resolve(&parameter);
        let name = parameter["name"].as_str().unwrap();
        let example = match &parameter["example"] {
            Value::String(text) => text.replace('+', "%2B"),
            other => other.to_string(),
        };
        if parameter["in"] == "path" {
            filled = filled.replace(&format!("{{{name}}}"), &example);
        } else {
            asked.push(format!("{name}={example}"));
        }
    }
    assert!(!filled.contains('{'), "{path} documents no example");
    if with_query && !asked.is_empty() {
        filled = format!("{filled}?{}", asked.join("&"));
    }
    filled
}

#[test]
fn every_route_is_documented_and_every_documented_path_is_routed() {
    let source = include_str!("../src/routes.rs");
    assert_eq!(document().operations(), routed(source));
}

#[tokio::test]
async fn every_get_is_answered_as_documented() {
    let (world, document) = (World::with_store().await, document());
    for operation in document
        .operations()
        .iter()
        .filter(|o| o.starts_with("GET"))
    {
        let path = operation.split_once(' ').unwrap().1;
        for with_query in [false, true] {
            let filled = example_path(&document, "GET", path, with_query);
            let reply = world.get(&filled).await;
            assert_eq!(reply.status, 200, "{filled}: {}", reply.text);
            document.check("GET", path, 200, reply.content_type(), &reply.text);
            let other = world.call(Method::DELETE, &filled, None, "").await;
            assert_eq!(other.problem().0, 405, "{filled}");
        }
    }
    assert_eq!(
        world.get("/v1/nowhere").await.problem(),
        refusal(404, "", "")
    );
    assert_eq!(world.get("/openapi.json").await.text, OPENAPI);
}

#[tokio::test]
async fn t7_a_series_has_every_step_and_the_row_of_the_store_in_its_place() {
    let world = World::with_store().await;
    let path = "/v1/venues/1/flow?from=2026-11-21&to=2026-11-21";
    let flow = world.get(path).await.json();
    let buckets = flow["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 24);
    assert_eq!(
        (&buckets[0]["registrations"], &buckets[1]["registrations"]),
        (&3.into(), &0.into())
    );
    assert_eq!(flow["complete_up_to"], "2026-11-21T00:00:00.000+08:00");
}

#[tokio::test]
async fn every_example_is_answered_as_documented() {
    let (world, document) = (World::with_store().await, document());
    let examples = document.examples();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let path = example_path(&document, "POST", &example.path, false);
        let media_type = Some(example.media_type.as_str());
        let reply = world
            .call(Method::POST, &path, media_type, example.body)
            .await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        document.check(
            "POST",
            &example.path,
            200,
            reply.content_type(),
            &reply.text,
        );
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_a_503_with_retry_after() {
    let (world, document) = (World::without_store(), document());
    for operation in document.operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        let responses = &document.operation(method, path)["responses"];
        let filled = example_path(&document, method, path, true);
        let examples = document.examples();
        let example = examples.iter().find(|example| example.path == path);
        let (media_type, body) = example.map_or((None, String::new()), |example| {
            (Some(example.media_type.as_str()), example.body.clone())
        });
        let reply = world
            .call(method.parse().unwrap(), &filled, media_type, body)
            .await;
        let status = reply.status.as_u16();
        document.check(method, path, status, reply.content_type(), &reply.text);
        if responses.get("503").is_none() {
            assert_eq!(status, 200, "{operation} needs no store");
            continue;
        }
        assert_eq!(status, 503, "{operation}: {}", reply.text);
        if path != "/readyz" {
            assert_eq!(reply.problem(), refusal(503, "", ""));
            assert_eq!(reply.headers["retry-after"], "1");
        }
    }
}

/// What the document says of a panel holds for every panel of every dashboard.
#[tokio::test]
async fn every_panel_and_variable_of_every_dashboard_can_be_asked_for() {
    let world = World::with_store().await;
    let day = serde_json::json!({"from": "2026-11-21T00:00:00+08:00", "to": "2026-11-22T00:00:00+08:00",
        "variables": {"venue": "1", "grid": "1", "city": "440100", "traffic": "0"}});
    let dashboards = world.get("/v1/dashboards").await.json();
    assert!(dashboards.as_array().unwrap().len() >= 3);
    for summary in dashboards.as_array().unwrap() {
        let uid = summary["uid"].as_str().unwrap();
        let dashboard = world.get(&format!("/v1/dashboards/{uid}")).await.json();
        for panel in dashboard["panels"].as_array().unwrap() {
            let path = format!("/v1/dashboards/{uid}/panels/{}", panel["id"]);
            let reply = world.post(&path, &day).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let path = format!(
                "/v1/dashboards/{uid}/variables/{}",
                variable["name"].as_str().unwrap()
            );
            let expected = if variable["type"] == "query" {
                200
            } else {
                422
            };
            assert_eq!(world.post(&path, &day).await.status, expected, "{path}");
        }
    }
}
