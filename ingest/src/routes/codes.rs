//! Codes (P4, X13): issued for a person, and ended by the person.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event_log::{Record, partition_for};
use scan_model::{CodeForm, CodePayload, CodeRevocation, PersonId, Scheme, Timestamp, codec};
use serde::Deserialize;
use status_cache::PersonStatus;
use status_cache::feed::CODE_REVOCATIONS;

use super::audit;
use super::facts::APPLY_WAIT;
use crate::authority::Right;
use crate::bulk::{self, Shape};
use crate::forms::{DocumentForm, NamedPerson};
use crate::problem::{self, Problem};
use crate::service::Ingest;

/// How far ahead codes may be valid from, in milliseconds, for another revocation to be taken.
const MOST_AHEAD_MS: i64 = 120_000;

/// What `POST /v1/codes` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueForm {
    #[serde(default)]
    person: Option<String>,
    #[serde(default)]
    document: Option<DocumentForm>,
    #[serde(default = "yuekang")]
    scheme: Scheme,
    #[serde(default = "app")]
    form: CodeForm,
}

const fn yuekang() -> Scheme {
    Scheme::Yuekang
}

const fn app() -> CodeForm {
    CodeForm::App
}

/// What `POST /v1/codes:revoke` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationForm {
    #[serde(default)]
    person: Option<String>,
    #[serde(default)]
    document: Option<DocumentForm>,
}

/// `POST /v1/codes`. Sealing is arithmetic: nothing is appended.
pub async fn issue(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    issue_all(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn issue_all(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::IssueCodes)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<IssueForm>(headers, &body)?;
    let now = Timestamp::now();
    let keys = ingest.code_keys.load();
    let issue_one = |form: IssueForm| {
        let (person, status) = known(ingest, form.person.as_deref(), form.document.as_ref(), now)?;
        // A code issued right after a revocation must not fall under it.
        let issued = now.seconds().max(status.codes_valid_from.seconds());
        let payload = CodePayload {
            person,
            issued_second: u32::try_from(issued).unwrap_or(u32::MAX),
            scheme: form.scheme,
            form: form.form,
        };
        Ok(format!(r#"{{"code":"{}"}}"#, keys.seal(&payload)))
    };
    let outcomes = batch
        .items
        .into_iter()
        .map(|item| issue_one(item?.0))
        .collect();
    Ok(bulk::respond(batch.shape, StatusCode::CREATED, outcomes))
}

/// `POST /v1/codes:revoke`: ends every code of a person issued so far.
pub async fn revoke(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    revoke_one(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn revoke_one(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::IssueCodes)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<RevocationForm>(headers, &body)?;
    let (Shape::One, Some(item)) = (batch.shape, batch.items.into_iter().next()) else {
        return Err(Problem::malformed("send one object"));
    };
    let (form, _) = item?;
    let now = Timestamp::now();
    let (person, status) = known(ingest, form.person.as_deref(), form.document.as_ref(), now)?;
    // Each revocation within one minute ends the codes of a further minute, and rotating codes live as much longer.
    if status.codes_valid_from.0 - now.0 > MOST_AHEAD_MS {
        return Err(Problem::too_many_revocations());
    }
    let revocation = CodeRevocation {
        person,
        // The table keeps minutes, rounded up; a second more ends codes of this very second too. Codes issued since a
        // revocation of this same minute bear its instant, and must end as well.
        valid_from: now.plus_ms(1000).max(status.codes_valid_from.plus_ms(1)),
        recorded_at: now,
        supplied_by: caller.operator,
        change: status.version.wrapping_add(1),
    };
    let value = codec::encode(&revocation).map_err(|e| Problem::malformed(e.to_string()))?;
    let entry = audit::Entry {
        action: "revoke_codes",
        caller: &caller.name,
        person: Some(person),
        site: None,
        at: now,
    };
    audit::write(ingest, &entry).await?;
    let partition = partition_for(person.0, ingest.partitions);
    let record = Record::keyed(revocation.topic_key(), value);
    let appended = ingest
        .log
        .append(CODE_REVOCATIONS, partition, vec![record])
        .await;
    let appended = appended.map_err(|error| problem::from_log(&error))?;
    ingest
        .feed
        .wait_applied(CODE_REVOCATIONS, partition, appended.first, APPLY_WAIT)
        .await;
    let answer = format!(r#"{{"person":"{person}","revoked":true}}"#);
    Ok(bulk::json(StatusCode::CREATED, "application/json", answer))
}

/// The enrolled person whom a form names.
fn known(
    ingest: &Ingest,
    person: Option<&str>,
    document: Option<&DocumentForm>,
    now: Timestamp,
) -> Result<(PersonId, PersonStatus), Problem> {
    let key = &ingest.config.person_key;
    let named = NamedPerson::of(person, document, key, &ingest.cache, now)?;
    let status = named.enrolled(&ingest.cache, now)?;
    Ok((named.person, status))
}
