//! Refusals that change nothing.

use axum::http::Method;
use serde_json::Value;

use super::{World, refusal};

pub const JSON: (&str, &str) = ("content-type", "application/json");

/// Sends one object, and asserts that it is refused with this status, field and rule and that nothing changed.
pub async fn refuses(
    world: &World,
    key: &str,
    path: &str,
    body: &Value,
    expected: (u16, &str, &str),
) {
    refuses_text(world, key, path, &body.to_string(), expected).await;
}

pub async fn refuses_text(
    world: &World,
    key: &str,
    path: &str,
    body: &str,
    (status, field, rule): (u16, &str, &str),
) {
    let before = world.state().await;
    let reply = world
        .call(Method::POST, Some(key), path, &[JSON], body)
        .await;
    assert_eq!(reply.problem(), refusal(status, field, rule), "{body}");
    assert_eq!(world.state().await, before, "{body} changed something");
}

/// A screening with some fields replaced.
pub async fn screening_with(world: &World, change: Value) -> Value {
    let mut scan = World::screening(&world.code().await);
    for (field, value) in change.as_object().unwrap() {
        scan[field] = value.clone();
    }
    scan
}
