//! Liveness, readiness, metrics, the OpenAPI document.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event_log::SpoolState;
use scan_model::Timestamp;
use serde_json::{Value, json};

use super::OPENAPI;
use crate::service::Ingest;

/// `GET /livez`: the process answers.
pub async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether traffic should come here, and how the node is.
pub async fn ready(State(ingest): State<Arc<Ingest>>) -> Response {
    let failure = ingest.feed.failure();
    let is_ready = failure.is_none() && !ingest.is_draining();
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": is_ready,
        "draining": ingest.is_draining(),
        "persons": ingest.cache.table().len(),
        "persons_capacity": ingest.config.capacity,
        "persons_without_place": ingest.cache.without_place(),
        "persons_with_facts": ingest.cache.side_table().len(),
        "status_table_bytes": ingest.cache.table().bytes(),
        "knowledge_age_ms": ingest.knowledge_age_ms(Timestamp::now()),
        "ruleset": ingest.ruleset.load().name(),
        "feed_failure": failure,
        "appends_room": ingest.appends.room(),
        "durability": *ingest.durability(),
        "spool": ingest.spool.as_ref().map(|spool| spool_state(spool.state())),
    });
    (status, axum::Json(body)).into_response()
}

fn spool_state(state: SpoolState) -> Value {
    let age_ms = state
        .oldest_ms
        .map_or(0, |oldest| (Timestamp::now().0 - oldest).max(0));
    json!({
        "records": state.records,
        "bytes": state.bytes,
        "age_ms": age_ms,
        "partitions_spooling": state.spooling,
    })
}

/// `GET /openapi.json`.
pub async fn openapi() -> Response {
    let mut response = OPENAPI.into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
