//! Lookups (C1): by code, many at once, by document number in a body.

mod batch;
pub mod compact;

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_service::{Headers, read_json};
use scan_model::{Ruleset, Timestamp};
use serde::{Deserialize, Deserializer};

use super::audit;
use crate::authority::{Caller, Right};
use crate::bulk;
use crate::decision::{self, AnswerContext, Moment, Named};
use crate::forms::DocumentForm;
use crate::problem::Problem;
use crate::service::Ingest;
use crate::wording::Language;

/// Most codes of one request (INV-6).
pub const MAX_LOOKUPS: usize = 1000;
/// Room for one answer; a longer one takes more.
const ANSWER_ROOM: usize = 1024;

/// `GET /v1/codes/{code}`. Touches memory only (INV-2).
pub async fn by_code(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    code: Result<Path<String>, PathRejection>,
) -> Response {
    // A path that is not text holds no code.
    let code = code.map_or_else(|_| String::new(), |Path(code)| code);
    let mut answer = Vec::with_capacity(ANSWER_ROOM);
    match answer_code(&ingest, &headers, &code, &mut answer) {
        Ok(()) => bulk::media(answer.into(), "application/json"),
        Err(problem) => problem.into_response(),
    }
}

/// Appends what `GET /v1/codes/{code}` answers, as JSON.
pub fn answer_code(
    ingest: &Ingest,
    headers: &impl Headers,
    code: &str,
    answer: &mut Vec<u8>,
) -> Result<(), Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::LookUpCode)?;
    let now = Timestamp::now();
    let language = Language::of(headers);
    let keys = ingest.code_keys.load();
    let moment = moment(ingest, now);
    match decision::open_code(code, &keys, &ingest.cache, moment) {
        Ok(valid) => {
            ingest.instruments.lookups_answered.increment(1);
            let ruleset = ingest.ruleset.load();
            let context = context(ingest, &ruleset, now, language);
            let named = Named::Code(valid.payload);
            decision::write_answer(answer, &valid.status, named, &context);
            Ok(())
        }
        Err(refusal) => {
            ingest.instruments.lookups_refused(refusal).increment(1);
            Err(refusal.problem(language))
        }
    }
}

fn moment(ingest: &Ingest, now: Timestamp) -> Moment {
    Moment {
        now,
        shown_at: now,
        rotating_seconds: ingest.config.rotating_seconds,
    }
}

fn context<'r>(
    ingest: &Ingest,
    ruleset: &'r Ruleset,
    now: Timestamp,
    language: Language,
) -> AnswerContext<'r> {
    AnswerContext {
        ruleset,
        knowledge_age_ms: ingest.knowledge_age_ms(now),
        stale_after_ms: ingest.config.stale_after_ms,
        language,
    }
}

/// Writes an answer in this thread's memory, and takes no more of it than the answer has.
fn in_buffer(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(ANSWER_ROOM));
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        write(buffer);
        Bytes::copy_from_slice(buffer)
    })
}

/// What `POST /v1/lookups` takes as JSON: codes, or one document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupsForm<'a> {
    #[serde(default, borrow)]
    codes: Option<Vec<CodeText<'a>>>,
    #[serde(default)]
    document: Option<DocumentForm>,
}

/// A code's text, copied only where it is written with escapes.
struct CodeText<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for CodeText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = CodeText<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(CodeText(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(CodeText(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
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
    match bulk::media_type(headers).as_str() {
        compact::CODES => {
            caller.require(Right::LookUpCode)?;
            let codes = compact::read_codes(&body)?;
            batch::answer(ingest, headers, batch::Codes::Sealed(codes))
        }
        "application/json" => {
            if body.trim_ascii_start().starts_with(b"[") {
                return Err(Problem::malformed(
                    "send one object with codes or with document",
                ));
            }
            let form: LookupsForm<'_> = read_json(&body)?;
            match form {
                LookupsForm {
                    codes: Some(codes),
                    document: None,
                } => {
                    caller.require(Right::LookUpCode)?;
                    batch::answer(ingest, headers, batch::Codes::Texts(&codes))
                }
                LookupsForm {
                    codes: None,
                    document: Some(document),
                } => {
                    let answer =
                        answer_document(ingest, caller, &document, Language::of(headers)).await?;
                    Ok(bulk::media(answer, "application/json"))
                }
                _ => Err(Problem::field(
                    "codes",
                    "exactly_one",
                    "give either codes or document",
                )),
            }
        }
        _ => Err(Problem::content_type(&format!(
            "application/json, {}",
            compact::CODES
        ))),
    }
}

/// By document number: needs a granted right, and the audit is durable before the answer.
async fn answer_document(
    ingest: &Ingest,
    caller: &Caller,
    document: &DocumentForm,
    language: Language,
) -> Result<Bytes, Problem> {
    caller.require(Right::LookUpDocument)?;
    let now = Timestamp::now();
    let identity = ingest.config.person_key.identify(&document.parse(now)?);
    let identity = ingest.cache.resolve(identity);
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
    let ruleset = ingest.ruleset.load();
    let context = context(ingest, &ruleset, now, language);
    Ok(in_buffer(|out| {
        decision::write_answer(out, &status, Named::Document, &context);
    }))
}
