//! Many codes at once, for gates and partner systems: opened first, then read together, so that memory is waited for once.

use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use scan_model::code::SEALED_LENGTH;
use scan_model::{CodePayload, PersonId, Timestamp};

use super::{CodeText, MAX_LOOKUPS, compact};
use crate::bulk;
use crate::decision::{self, AnswerContext, CodeRefusal, Named, ValidCode};
use crate::problem::Problem;
use crate::service::Ingest;
use crate::wording::Language;

/// What a request names its codes by.
pub(super) enum Codes<'a> {
    /// Texts, as they are printed.
    Texts(&'a [CodeText<'a>]),
    /// The bytes behind the texts.
    Sealed(&'a [[u8; SEALED_LENGTH]]),
}

/// What became of one code.
pub(super) type Verdict = Result<ValidCode, CodeRefusal>;

/// Answers in the form that the request accepts.
pub(super) fn answer(
    ingest: &Ingest,
    headers: &HeaderMap,
    codes: Codes<'_>,
) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let verdicts = look_up(ingest, codes, now)?;
    count(ingest, &verdicts);
    let language = Language::of(headers);
    let ruleset = ingest.ruleset.load();
    let context = super::context(ingest, &ruleset, now, language);
    Ok(if wants_compact(headers) {
        let answer = compact::write_answers(&verdicts, &context, now);
        bulk::media(answer, compact::ANSWERS)
    } else {
        bulk::media(write_json(&verdicts, &context), "application/json")
    })
}

fn wants_compact(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(compact::ANSWERS))
}

fn look_up(ingest: &Ingest, codes: Codes<'_>, now: Timestamp) -> Result<Vec<Verdict>, Problem> {
    let keys = ingest.code_keys.load();
    let opened: Vec<Result<CodePayload, CodeRefusal>> = match codes {
        Codes::Texts(codes) if codes.len() <= MAX_LOOKUPS => codes
            .iter()
            .map(|code| keys.open(&code.0).map_err(CodeRefusal::from))
            .collect(),
        Codes::Sealed(codes) if codes.len() <= MAX_LOOKUPS => codes
            .iter()
            .map(|code| keys.open_sealed(code).map_err(CodeRefusal::from))
            .collect(),
        _ => return Err(Problem::too_many_items(MAX_LOOKUPS)),
    };
    let persons: Vec<PersonId> = opened.iter().flatten().map(|code| code.person).collect();
    let mut statuses = Vec::with_capacity(persons.len());
    ingest
        .cache
        .get_each(&persons, now, |status| statuses.push(status));
    let moment = super::moment(ingest, now);
    let mut statuses = statuses.into_iter();
    let judge = |opened: Result<CodePayload, CodeRefusal>| {
        opened.and_then(|payload| decision::judge(payload, statuses.next().flatten(), moment))
    };
    Ok(opened.into_iter().map(judge).collect())
}

fn count(ingest: &Ingest, verdicts: &[Verdict]) {
    let answered = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
    ingest
        .instruments
        .lookups_answered
        .increment(answered as u64);
    for verdict in verdicts {
        if let Err(refusal) = verdict {
            ingest.instruments.lookups_refused(*refusal).increment(1);
        }
    }
}

/// The shape of every batch: counts, then a status and a result or a problem each, in order.
fn write_json(verdicts: &[Verdict], context: &AnswerContext<'_>) -> Bytes {
    let refused = verdicts.iter().filter(|verdict| verdict.is_err()).count();
    let mut digits = itoa::Buffer::new();
    let mut out = Vec::with_capacity(128 + verdicts.len() * 512);
    out.extend_from_slice(br#"{"accepted":"#);
    out.extend_from_slice(digits.format(verdicts.len() - refused).as_bytes());
    out.extend_from_slice(br#","refused":"#);
    out.extend_from_slice(digits.format(refused).as_bytes());
    out.extend_from_slice(br#","results":["#);
    for (index, verdict) in verdicts.iter().enumerate() {
        out.extend_from_slice(if index == 0 {
            br#"{"index":"#.as_slice()
        } else {
            br#",{"index":"#.as_slice()
        });
        out.extend_from_slice(digits.format(index).as_bytes());
        match verdict {
            Ok(valid) => {
                out.extend_from_slice(br#","status":200,"result":"#);
                let named = Named::Code(valid.payload);
                decision::write_answer(&mut out, &valid.status, named, context);
            }
            Err(refusal) => {
                let problem = refusal.problem(context.language);
                out.extend_from_slice(br#","status":"#);
                out.extend_from_slice(digits.format(problem.status().as_u16()).as_bytes());
                out.extend_from_slice(br#","problem":"#);
                out.extend_from_slice(&serde_json::to_vec(&problem).unwrap_or_default());
            }
        }
        out.extend_from_slice(b"}");
    }
    out.extend_from_slice(b"]}");
    out.into()
}
