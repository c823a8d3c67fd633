//! The OpenAPI document is true: it has every route, and every answer is as it says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use axum::http::Method;
use ingest::routes::OPENAPI;
use scan_model::{Category, ScanKind, VenueType};
use serde_json::{Value, json};
use support::World;
use support::openapi::{Document, routed};

/// Stands in the examples for a code, which only a deployment can seal.
const EXAMPLE_CODE: &str = "AQAAAAAAAAAAAAAAAAAAAAA";

fn document() -> Document {
    Document::parse(OPENAPI)
}

#[test]
fn every_route_is_documented_and_every_documented_path_is_routed() {
    let source = include_str!("../src/routes.rs");
    assert_eq!(document().operations(), routed(source));
}

#[tokio::test]
async fn every_documented_path_answers_its_method_and_405_any_other() {
    let world = World::start().await;
    for operation in document().operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        let path = path.replace("{code}", "x");
        let method: Method = method.parse().unwrap();
        let reply = world.call(method, Some("everything"), &path, &[], "").await;
        assert!(![404, 405].contains(&reply.status.as_u16()), "{operation}");
        let other = world
            .call(Method::DELETE, Some("everything"), &path, &[], "")
            .await;
        assert_eq!(other.problem().0, 405, "{operation}");
    }
    let nowhere = world.get("everything", "/v1/nowhere").await;
    assert_eq!(nowhere.problem().0, 404);
    assert_eq!(world.get("tester", "/openapi.json").await.text, OPENAPI);
}

/// Who may do what a path does.
fn key_of(path: &str) -> &'static str {
    match path {
        "/v1/persons" | "/v1/persons:import" | "/v1/codes" | "/v1/codes:revoke" => {
            "identity_service"
        }
        "/v1/facts" | "/v1/facts:import" | "/v1/facts:query" => "health_feed",
        "/v1/declarations" => "citizen_app",
        path if path.ends_with(":import") || path.ends_with(":dissolve") => "operator",
        _ => "everything",
    }
}

/// Sites and persons come before codes, scans before facts that make red, revocations and dissolutions last.
fn turn_of(path: &str) -> usize {
    let order = [
        "venues",
        "grids",
        "compounds",
        "persons",
        "codes",
        "declarations",
        "displays",
        "lookups",
        "scans",
        "facts",
    ];
    if path.ends_with("revoke") || path.ends_with("dissolve") {
        return order.len();
    }
    order.iter().position(|part| path.contains(part)).unwrap()
}

#[tokio::test]
async fn every_example_is_answered_as_documented() {
    let (world, document) = (World::start().await, document());
    let code = world.code().await;
    let mut examples = document.examples();
    examples.sort_by_key(|example| turn_of(&example.path));
    let mut succeeded = BTreeSet::new();
    for example in &examples {
        let body = example.body.replace(EXAMPLE_CODE, &code);
        let content_type = [("content-type", example.media_type.as_str())];
        let key = key_of(&example.path);
        let reply = world
            .call(Method::POST, Some(key), &example.path, &content_type, body)
            .await;
        let place = format!("{} {} {}", example.path, example.media_type, example.name);
        let status = reply.status.as_u16();
        document.check(
            "POST",
            &example.path,
            status,
            reply.content_type(),
            &reply.text,
        );
        assert!(reply.status.is_success(), "{place}: {}", reply.text);
        // No text is a sealed code of this deployment.
        let is_sealed = example.media_type.contains("tongxing.codes");
        if status == 200 && reply.content_type() == "application/json" && !is_sealed {
            assert!(
                reply
                    .json()
                    .get("refused")
                    .is_none_or(|refused| *refused == 0),
                "{place}: {}",
                reply.text
            );
        }
        succeeded.insert(format!("{status} {}", example.path));
    }
    for path in document.0["paths"].as_object().unwrap().keys() {
        let responses = &document.0["paths"][path]["post"]["responses"];
        for status in ["200", "201"]
            .iter()
            .filter(|status| responses.get(**status).is_some())
        {
            assert!(
                succeeded.contains(&format!("{status} {path}")),
                "no example gets {status} from {path}"
            );
        }
    }
}

#[tokio::test]
async fn every_get_is_answered_as_documented() {
    let (world, document) = (World::start().await, document());
    let path = "/v1/codes/{code}";
    let code = world.code().await;
    for color in ["green", "red"] {
        let reply = world.look_up(&code, "en").await;
        document.check("GET", path, 200, reply.content_type(), &reply.text);
        assert_eq!(reply.json()["colour"], color);
        world.redden("confirmed").await;
    }
    let forged = world.look_up(EXAMPLE_CODE, "en").await;
    document.check(
        "GET",
        path,
        forged.status.as_u16(),
        forged.content_type(),
        &forged.text,
    );
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        let reply = world.call(Method::GET, None, path, &[], "").await;
        document.check(
            "GET",
            path,
            reply.status.as_u16(),
            reply.content_type(),
            &reply.text,
        );
        assert_eq!(reply.status, 200, "{path}");
    }
    world.ingest.drain();
    let reply = world.get("tester", "/readyz").await;
    document.check("GET", "/readyz", 503, reply.content_type(), &reply.text);
    assert_eq!(reply.status, 503);
}

#[tokio::test]
async fn every_refusal_of_a_whole_request_is_documented() {
    let (world, document) = (World::start().await, document());
    let json_type = ("content-type", "application/json");
    for operation in document
        .operations()
        .iter()
        .filter(|o| o.starts_with("POST"))
    {
        let path = operation.split_once(' ').unwrap().1;
        let right = key_of(path);
        let wrong = if right == "operator" {
            "tester"
        } else {
            "operator"
        };
        let big = " ".repeat((8 << 20) + 1);
        let examples = document.examples();
        let mut of_path = examples.iter().filter(|example| example.path == path);
        let single = of_path.find(|example| example.body.starts_with('{'));
        let valid = single
            .unwrap()
            .body
            .replace(EXAMPLE_CODE, &world.code().await);
        for (key, headers, body, status) in [
            (None, vec![json_type], valid.clone(), 401),
            (Some("nobody"), vec![json_type], valid.clone(), 401),
            (Some(wrong), vec![json_type], valid.clone(), 403),
            (Some(right), vec![json_type], "{".to_owned(), 400),
            (Some(right), vec![json_type], big, 413),
            (Some(right), vec![], valid.clone(), 415),
            (
                Some(right),
                vec![("content-type", "text/plain")],
                valid,
                415,
            ),
            (
                Some(right),
                vec![json_type],
                r#"{"nonsense":1}"#.to_owned(),
                422,
            ),
        ] {
            let reply = world.call(Method::POST, key, path, &headers, body).await;
            assert_eq!(reply.status, status, "{operation}: {}", reply.text);
            document.check("POST", path, status, reply.content_type(), &reply.text);
        }
    }
}

#[test]
fn the_documents_enumerations_are_the_codes() {
    let document = document();
    let schemas = &document.0["components"]["schemas"];
    let names = |all: Vec<&str>| json!(all);
    let kinds = names(ScanKind::ALL.map(ScanKind::name).into());
    assert_eq!(schemas["Scan"]["properties"]["kind"]["enum"], kinds);
    let categories = names(Category::ALL.map(Category::name).into());
    assert_eq!(
        schemas["Fact"]["properties"]["category"]["enum"],
        categories
    );
    let venue_types = names(VenueType::ALL.map(VenueType::name).into());
    assert_eq!(
        schemas["Venue"]["properties"]["venue_type"]["enum"],
        venue_types
    );
    let kinds: Vec<&str> = schemas["Document"]["properties"]["kind"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(kinds.join(", "), scan_model::DocumentKind::NAMES);
}

/// A property of the request schemas that the code does not know would be refused as unknown.
#[tokio::test]
async fn every_documented_request_property_is_read() {
    let (world, document) = (World::start().await, document());
    for (path, schema) in [
        ("/v1/scans", "Scan"),
        ("/v1/persons", "Person"),
        ("/v1/facts", "Fact"),
        ("/v1/codes", "CodeRequest"),
        ("/v1/codes:revoke", "Revocation"),
        ("/v1/lookups", "Lookups"),
        ("/v1/venues:import", "Venue"),
        ("/v1/grids:import", "Site"),
        ("/v1/grids:dissolve", "Dissolution"),
    ] {
        let properties = document.0["components"]["schemas"][schema]["properties"]
            .as_object()
            .unwrap();
        for name in properties.keys() {
            // An object fits no property but a document or a temperature, and those lack what they need.
            let reply = world
                .post(key_of(path), path, &json!({name: {"nonsense": 1}}))
                .await;
            let (_, field, rule) = reply.problem();
            let own = [name.clone(), format!("{name}.nonsense")];
            assert!(own.contains(&field), "{path} {name}: {}", reply.text);
            assert!(
                rule != "unknown_field" || field != *name,
                "{path} does not know {name}"
            );
        }
    }
}
