//! What is known of a person, and from whom (S4, Y5): every fact with its source, its times, and who supplied it and why.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use scan_model::{Fact, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit;
use crate::authority::Right;
use crate::bulk::{self, Shape};
use crate::forms::{DocumentForm, NamedPerson};
use crate::problem::Problem;
use crate::service::Ingest;

/// What `POST /v1/facts:query` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryForm {
    #[serde(default)]
    person: Option<String>,
    #[serde(default)]
    document: Option<DocumentForm>,
}

/// `POST /v1/facts:query`. The audit is durable before the answer.
pub async fn query(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    answer(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn answer(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::ReadFacts)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<QueryForm>(headers, &body)?;
    let (Shape::One, Some(item)) = (batch.shape, batch.items.into_iter().next()) else {
        return Err(Problem::malformed("send one object"));
    };
    let (form, _) = item?;
    let now = Timestamp::now();
    let key = &ingest.config.person_key;
    let (person, document) = (form.person.as_deref(), form.document.as_ref());
    let named = NamedPerson::of(person, document, key, &ingest.cache, now)?;
    let entry = audit::Entry {
        action: "read_facts",
        caller: &caller.name,
        person: Some(named.person),
        site: None,
        at: now,
    };
    audit::write(ingest, &entry).await?;
    let status = named.enrolled(&ingest.cache, now)?;
    let facts = ingest.cache.facts(named.person);
    let answer = json!({
        "person": named.person.to_string(),
        "status_version": status.version,
        "knowledge_age_ms": ingest.knowledge_age_ms(now),
        "facts": facts.iter().map(|fact| described(fact, now)).collect::<Vec<_>>(),
    });
    Ok(bulk::json(
        StatusCode::OK,
        "application/json",
        answer.to_string(),
    ))
}

fn described(fact: &Fact, now: Timestamp) -> Value {
    json!({
        "category": fact.category.name(),
        "source": fact.source,
        "reference": fact.reference,
        "effective": fact.effective.to_rfc3339(),
        "expiry": fact.expiry.map(Timestamp::to_rfc3339),
        "active": fact.is_active_at(now),
        "recorded_at": fact.recorded_at.to_rfc3339(),
        "supplied_by": format!("{:016x}", fact.supplied_by),
        "note": fact.note,
        "change": fact.change,
    })
}
