//! Lookups (C1): by code, many at once, by document number in a body.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use scan_model::Timestamp;
use serde::Deserialize;

use super::audit;
use crate::authority::{Caller, Right};
use crate::bulk::{self, Shape};
use crate::decision::{self, AnswerContext, Moment, Named};
use crate::forms::DocumentForm;
use crate::problem::Problem;
use crate::service::Ingest;
use crate::wording::Language;

/// Most codes of one request (INV-6).
const MAX_LOOKUPS: usize = 1000;

/// `GET /v1/codes/{code}`. Touches memory only (INV-2).
pub async fn by_code(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    code: Result<Path<String>, PathRejection>,
) -> Response {
    // A path that is not text holds no code.
    let code = code.map_or_else(|_| String::new(), |Path(code)| code);
    match look_up(&ingest, &headers, &code) {
        Ok(answer) => bulk::json(StatusCode::OK, "application/json", answer),
        Err(problem) => problem.into_response(),
    }
}

fn look_up(ingest: &Ingest, headers: &HeaderMap, code: &str) -> Result<String, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::LookUpCode)?;
    let answer = answer_code(ingest, code, Timestamp::now(), Language::of(headers));
    match &answer {
        Ok(_) => ingest.instruments.lookups_answered.increment(1),
        Err(_) => ingest.instruments.lookups_refused.increment(1),
    }
    answer
}

fn answer_code(
    ingest: &Ingest,
    code: &str,
    now: Timestamp,
    language: Language,
) -> Result<String, Problem> {
    let keys = ingest.code_keys.load();
    let moment = Moment {
        now,
        shown_at: now,
        rotating_seconds: ingest.config.rotating_seconds,
    };
    let valid = decision::open_code(code, &keys, &ingest.cache, moment, language)?;
    let mut answer = String::with_capacity(512);
    let ruleset = ingest.ruleset.load();
    let context = AnswerContext {
        ruleset: &ruleset,
        knowledge_age_ms: ingest.knowledge_age_ms(now),
        stale_after_ms: ingest.config.stale_after_ms,
        language,
    };
    decision::write_answer(
        &mut answer,
        &valid.status,
        Named::Code(valid.payload),
        &context,
    );
    Ok(answer)
}

/// What `POST /v1/lookups` takes: codes, or one document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupsForm {
    #[serde(default)]
    codes: Option<Vec<String>>,
    #[serde(default)]
    document: Option<DocumentForm>,
}

/// `POST /v1/lookups`.
pub async fn many(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    match answer_many(&ingest, &headers, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer_many(
    ingest: &Ingest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<LookupsForm>(headers, &body)?;
    let (Shape::One, Some(item)) = (batch.shape, batch.items.into_iter().next()) else {
        return Err(Problem::malformed(
            "send one object with codes or with document",
        ));
    };
    let language = Language::of(headers);
    match item?.0 {
        LookupsForm {
            codes: Some(codes),
            document: None,
        } => {
            caller.require(Right::LookUpCode)?;
            if codes.len() > MAX_LOOKUPS {
                return Err(Problem::too_many_items(MAX_LOOKUPS));
            }
            let now = Timestamp::now();
            let answers: Vec<_> = codes
                .iter()
                .map(|code| answer_code(ingest, code, now, language))
                .collect();
            let answered = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            let refused = answers.len() as u64 - answered;
            ingest.instruments.lookups_answered.increment(answered);
            ingest.instruments.lookups_refused.increment(refused);
            Ok(bulk::respond(Shape::Array, StatusCode::OK, answers))
        }
        LookupsForm {
            codes: None,
            document: Some(document),
        } => {
            let answer = answer_document(ingest, caller, &document, language).await?;
            Ok(bulk::json(StatusCode::OK, "application/json", answer))
        }
        _ => Err(Problem::field(
            "codes",
            "exactly_one",
            "give either codes or document",
        )),
    }
}

/// By document number: needs a granted right, and the audit is durable before the answer.
async fn answer_document(
    ingest: &Ingest,
    caller: &Caller,
    document: &DocumentForm,
    language: Language,
) -> Result<String, Problem> {
    caller.require(Right::LookUpDocument)?;
    let now = Timestamp::now();
    let identity = ingest.config.person_key.identify(&document.parse(now)?);
    let entry = audit::Entry {
        action: "look_up_document",
        caller: &caller.name,
        person: Some(identity.person),
        site: None,
        at: now,
    };
    audit::write(ingest, &entry).await?;
    let found = ingest.cache.get(identity.person, now);
    let status = found
        .filter(|status| status.residue == identity.residue())
        .ok_or_else(|| decision::unknown_document(language))?;
    let mut answer = String::with_capacity(512);
    let ruleset = ingest.ruleset.load();
    let context = AnswerContext {
        ruleset: &ruleset,
        knowledge_age_ms: ingest.knowledge_age_ms(now),
        stale_after_ms: ingest.config.stale_after_ms,
        language,
    };
    decision::write_answer(&mut answer, &status, Named::Document, &context);
    Ok(answer)
}
