//! A bad range or choice gets a 4xx problem that names field and rule, before the store is asked.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use axum::http::Method;
use serde_json::{Value, json};
use support::{World, refusal};

const SCOPES: [&str; 6] = [
    "/v1/venues/1/flow",
    "/v1/venues/1/statistics",
    "/v1/grids/1/flow",
    "/v1/grids/1/statistics",
    "/v1/regions/440106/flow",
    "/v1/regions/440106/statistics",
];

#[tokio::test]
async fn t1_a_bad_range_or_choice_names_field_and_rule() {
    let world = World::without_store();
    for path in SCOPES {
        for (asked, field, rule) in [
            ("from=2026-02-31", "from", "date"),
            ("from=2026-13-01", "from", "date"),
            ("from=yesterday", "from", "rfc3339"),
            ("from=2026-11-21T08:00:00", "from", "rfc3339"),
            ("from=", "from", "rfc3339"),
            ("from=2026-11-21&to=tomorrow", "to", "rfc3339"),
            ("from=2026-11-21&to=2026-11-31", "to", "date"),
            ("from=2026-11-21&to=2026-11-20", "to", "after_from"),
            (
                "from=2026-11-21T08:00:00Z&to=2026-11-21T08:00:00Z",
                "to",
                "after_from",
            ),
            ("from=2024-01-01&to=2026-01-01", "to", "longest_range"),
            ("from=1969-12-31&to=1970-01-02", "from", "range"),
            ("from=2026-11-21&to=2106-03-01", "to", "range"),
            ("from=9999-12-30", "from", "range"),
            ("step=week", "step", "allowed"),
            ("step=", "step", "allowed"),
            ("records=none", "records", "allowed"),
            ("traffic=fake", "traffic", "allowed"),
            ("colour=red", "colour", "unknown_field"),
            ("from=2026-11-21&from=2026-11-22", "from", "duplicate"),
        ] {
            let asked = format!("{path}?{asked}");
            let reply = world.get(&asked).await;
            assert_eq!(
                reply.problem(),
                refusal(422, field, rule),
                "{asked}: {}",
                reply.text
            );
        }
        let a_day = "from=2026-11-21&to=2026-11-21&step=day&records=corrected&traffic=all";
        assert_eq!(
            world.get(&format!("{path}?{a_day}")).await.problem().0,
            503,
            "{path}"
        );
    }
}

#[tokio::test]
async fn inv6_a_range_longer_than_its_step_allows_is_refused() {
    let world = World::without_store();
    for (asked, allowed) in [
        ("from=2026-10-01&to=2026-10-31&step=hour", true),
        ("from=2026-10-01&to=2026-11-01&step=hour", false),
        ("from=2024-01-01&to=2024-12-31&step=day", true),
        ("from=2024-01-01&to=2025-01-01&step=day", false),
    ] {
        let reply = world.get(&format!("/v1/venues/1/flow?{asked}")).await;
        let expected = if allowed {
            refusal(503, "", "")
        } else {
            refusal(422, "to", "longest_range")
        };
        assert_eq!(reply.problem(), expected, "{asked}");
    }
}

#[tokio::test]
async fn v1_an_id_that_is_no_number_and_an_unknown_division_are_refused() {
    let world = World::without_store();
    for figures in ["flow", "statistics"] {
        for (scope, field, rule) in [
            ("venues/x", "venue", "number"),
            ("venues/-1", "venue", "number"),
            ("venues/4294967296", "venue", "number"),
            ("venues/1%20OR%201=1", "venue", "number"),
            ("venues/%FF", "venue", "number"),
            ("grids/1.5", "grid", "number"),
            ("regions/tianhe", "region", "number"),
            ("regions/110101", "region", "known"),
            ("regions/440199", "region", "known"),
            ("regions/440106999", "region", "known"),
            ("regions/44", "region", "known"),
        ] {
            let path = format!("/v1/{scope}/{figures}");
            assert_eq!(
                world.get(&path).await.problem(),
                refusal(422, field, rule),
                "{path}"
            );
        }
    }
}

fn asked_with(change: &Value) -> Value {
    let mut asked = json!({"from": "2026-11-21T00:00:00+08:00", "to": "2026-11-22T00:00:00+08:00",
                           "variables": {"venue": "1", "traffic": "0"}});
    for (name, value) in change.as_object().unwrap() {
        asked[name] = value.clone();
    }
    asked
}

#[tokio::test]
async fn a_bad_panel_request_names_field_and_rule() {
    let world = World::without_store();
    for path in [
        "/v1/dashboards/tongxing-venue-flow/panels/1",
        "/v1/dashboards/tongxing-venue-flow/variables/venue",
    ] {
        for (change, field, rule) in [
            (json!({"from": "2026-11-21"}), "from", "rfc3339"),
            (json!({"from": null}), "from", "type"),
            (json!({"from": "1960-01-01T00:00:00Z"}), "from", "range"),
            (json!({"to": "2026-11-21T00:00:00+08:00"}), "to", "range"),
            (json!({"to": "2027-11-23T00:00:00+08:00"}), "to", "range"),
            (json!({"to": "2150-01-01T00:00:00+08:00"}), "to", "range"),
            (json!({"interval_s": 0}), "interval_s", "range"),
            (json!({"interval_s": u64::MAX}), "interval_s", "range"),
            (json!({"interval_s": "1h"}), "interval_s", "type"),
            (json!({"variables": {}}), "variables", "macro"),
            (
                json!({"variables": {"venue": "1 OR 1=1", "traffic": "0 OR 1=1"}}),
                "variables",
                "macro",
            ),
            (json!({"variables": []}), "variables", "type"),
            (json!({"sql": "SELECT 1"}), "sql", "unknown_field"),
        ] {
            let asked = asked_with(&change);
            let reply = world.post(path, &asked).await;
            assert_eq!(
                reply.problem(),
                refusal(422, field, rule),
                "{path} {change}: {}",
                reply.text
            );
        }
        let post = async |content_type, body: String| {
            world
                .call(Method::POST, path, content_type, body)
                .await
                .problem()
        };
        let asked = asked_with(&json!({})).to_string();
        assert_eq!(post(None, asked.clone()).await, refusal(415, "", ""));
        assert_eq!(
            post(Some("text/plain"), asked.clone()).await,
            refusal(415, "", "")
        );
        assert_eq!(
            post(Some("application/json"), asked[..9].into()).await,
            refusal(400, "", "")
        );
        assert_eq!(
            post(Some("application/json"), " ".repeat(65 << 10)).await,
            refusal(413, "", "")
        );
        assert_eq!(
            post(Some("application/json; charset=utf-8"), asked).await,
            refusal(503, "", "")
        );
    }
}

#[tokio::test]
async fn an_unknown_dashboard_panel_or_variable_is_named() {
    let world = World::without_store();
    let asked = asked_with(&json!({}));
    for (path, field, rule) in [
        ("/v1/dashboards/nothing/panels/1", "uid", "known"),
        ("/v1/dashboards/nothing/variables/venue", "uid", "known"),
        (
            "/v1/dashboards/tongxing-venue-flow/panels/999",
            "panel",
            "known",
        ),
        (
            "/v1/dashboards/tongxing-venue-flow/panels/first",
            "panel",
            "number",
        ),
        (
            "/v1/dashboards/tongxing-venue-flow/panels/%FF",
            "panel",
            "utf8",
        ),
        (
            "/v1/dashboards/tongxing-venue-flow/variables/nothing",
            "variable",
            "known",
        ),
        (
            "/v1/dashboards/tongxing-venue-flow/variables/traffic",
            "variable",
            "known",
        ),
    ] {
        assert_eq!(
            world.post(path, &asked).await.problem(),
            refusal(422, field, rule),
            "{path}"
        );
    }
    assert_eq!(
        world.get("/v1/dashboards/nothing").await.problem(),
        refusal(422, "uid", "known")
    );
    assert_eq!(
        world.get("/v1/dashboards/%FF").await.problem(),
        refusal(422, "uid", "utf8")
    );
}
