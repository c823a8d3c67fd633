//! Who said what of a person, when and why, whatever was said later (S4, Y5).
//!
//! What ingest answers of a person's facts is as of now, each with the provenance of its newest record. Every earlier record is in the
//! store.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_service::Problem;
use scan_model::{PersonId, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use warehouse::{Store, StoreError};

use crate::ingest::Forwarded;
use crate::routes::MAX_BODY;
use crate::service::{Query, store_problem};

/// Changes of one answer, the newest (INV-6).
const MAX_CHANGES: usize = 1000;

/// Where ingest answers what a person's facts are.
const FACTS: &str = "/v1/facts:query";

/// `POST /v1/facts:history`: what ingest answers to the same request at [`FACTS`], and every change that led there.
pub async fn answer(
    State(query): State<Arc<Query>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(MAX_BODY),
        _ => Problem::malformed("the body ended early"),
    })?;
    let ingest = query.ingest.as_ref().ok_or_else(|| {
        Problem::unavailable("this node of query does not know where ingest is; set ingest_url")
    })?;
    let known = match ingest.post(FACTS, &headers, body).await? {
        Forwarded::Answered(known) => known,
        Forwarded::Refused(refused) => return Ok(refused),
    };
    let Some((person, mut known)) = read(&known) else {
        tracing::error!("ingest's answer names no person");
        return Err(Problem::unavailable("ingest's answer cannot be read"));
    };
    let mut changes = changes(&query.store, person)
        .await
        .map_err(|error| store_problem(&error))?;
    known["is_whole"] = json!(changes.len() <= MAX_CHANGES);
    changes.truncate(MAX_CHANGES);
    known["history"] = changes.iter().map(Change::described).collect();
    Ok(Json(known).into_response())
}

/// The person of ingest's answer, and the answer.
fn read(answer: &[u8]) -> Option<(PersonId, Value)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let person = answer.get("person")?.as_str()?.parse().ok()?;
    Some((person, answer))
}

#[derive(Deserialize)]
struct Change {
    category: String,
    source: String,
    reference: String,
    effective_ms: i64,
    expiry_ms: Option<i64>,
    recorded_ms: i64,
    supplied_by: u64,
    note: String,
    change: u16,
}

impl Change {
    fn described(&self) -> Value {
        let time = |ms| Timestamp(ms).to_rfc3339();
        json!({
            "category": self.category,
            "source": self.source,
            "reference": self.reference,
            "effective": time(self.effective_ms),
            "expiry": self.expiry_ms.map(time),
            "recorded_at": time(self.recorded_ms),
            "supplied_by": format!("{:016x}", self.supplied_by),
            "note": self.note,
            "change": self.change,
        })
    }
}

/// A person's changes, the newest first, and one more than an answer holds where there are more.
async fn changes(store: &Store, person: PersonId) -> Result<Vec<Change>, StoreError> {
    let sql = format!(
        "SELECT category, source, reference, toUnixTimestamp64Milli(effective) AS effective_ms,
                toUnixTimestamp64Milli(expiry) AS expiry_ms, toUnixTimestamp64Milli(recorded_at) AS recorded_ms,
                supplied_by, note, change
         FROM fact_history FINAL WHERE person = {{person:UInt64}}
         ORDER BY log_offset DESC LIMIT {}
         SETTINGS do_not_merge_across_partitions_select_final = 1",
        MAX_CHANGES + 1
    );
    let parameters = [("person", person.0.to_string())];
    store.rows(&sql, &parameters).await
}
