//! Declarations (D1): durable before they are answered, and a renewal of a Suikang code from then on (D3, P5). While the log is away they
//! wait in the spool, as scans do, and count on this node at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event_log::{Partition, Record, Taken, partition_for};
use futures::future::join_all;
use scan_model::declaration::DeclarationKind;
use scan_model::{Declaration, PersonId, Timestamp, codec};
use status_cache::feed::DECLARATIONS;

use crate::authority::{Caller, Right};
use crate::bulk::{self, Done};
use crate::decision::{self, CodeRefusal};
use crate::forms::{DeclarationForm, NamedPerson};
use crate::problem::{self, Problem};
use crate::service::Ingest;
use crate::wording::Language;

/// `POST /v1/declarations`.
pub async fn submit(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    accept(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// What one partition gets.
type Share = (Vec<Record>, Vec<(usize, Declaration)>);

async fn accept(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<DeclarationForm>(headers, &body)?;
    let language = Language::of(headers);
    let now = Timestamp::now();
    let count = batch.items.len();
    let _room = ingest
        .appends
        .admit(count)
        .inspect_err(|_| ingest.instruments.shed.increment(1))?;
    let mut outcomes: Vec<Option<Result<Done, Problem>>> = (0..count).map(|_| None).collect();
    let mut shares: BTreeMap<Partition, Share> = BTreeMap::new();
    for (index, item) in batch.items.into_iter().enumerate() {
        let ready = item.and_then(|(form, _)| {
            let declaration = check(ingest, caller, form, now, language)?;
            let value = codec::encode(&declaration)
                .map_err(|error| Problem::malformed(error.to_string()))?;
            Ok((declaration, value))
        });
        match ready {
            Ok((declaration, value)) => {
                let key = declaration.person.0;
                let share = shares.entry(partition_for(key, ingest.partitions));
                let (records, items) = share.or_default();
                records.push(Record::keyed(key.to_be_bytes().to_vec(), value));
                items.push((index, declaration));
            }
            Err(problem) => outcomes[index] = Some(Err(problem)),
        }
    }
    let appends = shares
        .into_iter()
        .map(|(partition, (records, items))| async move {
            (ingest.take(DECLARATIONS, partition, records).await, items)
        });
    for (taken, items) in join_all(appends).await {
        for (index, declaration) in items {
            outcomes[index] = Some(match &taken {
                Ok(taken) => {
                    // Durable, so that it counts here before the log brings it back; the later day stays whatever comes twice.
                    ingest.cache.apply_declaration(&declaration);
                    ingest.instruments.declarations.increment(1);
                    Ok(answer(&declaration, *taken))
                }
                Err(error) => Err(problem::from_log(error)),
            });
        }
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|| Err(Problem::unavailable("not appended"))))
        .collect();
    Ok(bulk::respond_each(batch.shape, outcomes))
}

fn check(
    ingest: &Ingest,
    caller: &Caller,
    form: DeclarationForm,
    now: Timestamp,
    language: Language,
) -> Result<Declaration, Problem> {
    caller.require(match form.kind() {
        DeclarationKind::GridCollection => Right::CollectInGrid,
        _ => Right::Declare,
    })?;
    let person = declarer(ingest, &form, now, language)?;
    let mut declaration = form.into_declaration(person, caller.operator, now)?;
    declaration.synthetic |= caller.synthetic;
    Ok(declaration)
}

/// Whose declaration it is. An expired code still says whose it is, for a declaration is what renews it; an ended one does not.
fn declarer(
    ingest: &Ingest,
    form: &DeclarationForm,
    now: Timestamp,
    language: Language,
) -> Result<PersonId, Problem> {
    let Some(code) = &form.code else {
        let key = &ingest.config.person_key;
        let named = NamedPerson::of(None, form.document.as_ref(), key, &ingest.cache, now);
        let named = named.map_err(|problem| problem.moved("person", "code"))?;
        named.enrolled(&ingest.cache, now)?;
        return Ok(named.person);
    };
    if form.document.is_some() {
        let detail = "give either code or document";
        return Err(Problem::field("code", "exactly_one", detail));
    }
    let keys = ingest.code_keys.load();
    let payload = keys
        .open(code)
        .map_err(|error| CodeRefusal::from(error).problem(language))?;
    let status = ingest.cache.get(payload.person, now);
    let moment = decision::Moment {
        now,
        shown_at: now,
        rotating_seconds: ingest.config.rotating_seconds,
    };
    match decision::judge(payload, status, moment) {
        Ok(_) | Err(CodeRefusal::Expired) => Ok(payload.person),
        Err(refusal) => Err(refusal.problem(language)),
    }
}

fn answer(declaration: &Declaration, taken: Taken) -> Done {
    let id = declaration.declaration_id;
    match taken {
        Taken::Appended(_) => Done {
            status: StatusCode::CREATED,
            body: format!(r#"{{"declaration_id":"{id}","recorded":true}}"#),
        },
        Taken::Spooled => Done {
            status: StatusCode::ACCEPTED,
            body: format!(r#"{{"declaration_id":"{id}","recorded":true,"spooled":true}}"#),
        },
    }
}
