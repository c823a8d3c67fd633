//! Facts (S4): what feeds say of persons, one by one and in bulk, kept with who supplied it (Y5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event_log::{Partition, Record, partition_for};
use futures::future::join_all;
use scan_model::{PersonId, Timestamp, codec};
use scheduling::Breather;
use status_cache::feed::FACTS;

use crate::authority::Right;
use crate::bulk;
use crate::forms::Facts;
use crate::problem::{self, Problem};
use crate::service::Ingest;
use crate::topics::FACT_HISTORY;

/// How long an answer waits until this node has applied what is durable, so that the caller reads its own write.
pub const APPLY_WAIT: Duration = Duration::from_secs(2);

/// `POST /v1/facts` and `POST /v1/facts:import`.
pub async fn supply(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    accept(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// What one partition gets.
#[derive(Default)]
struct Share {
    facts: Vec<Record>,
    history: Vec<Record>,
    indices: Vec<usize>,
}

/// The effect of facts is waited for (X2), so they breathe and do not give way.
const fn breather() -> Breather {
    Breather::every(bulk::BREATH)
}

async fn accept(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::SupplyFacts)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_import::<Facts, _>(headers, &body, breather(), Ok)?;
    let now = Timestamp::now();
    let _room = ingest.appends.admit(batch.items.len())?;
    let mut outcomes = Vec::with_capacity(batch.items.len());
    let mut shares: HashMap<Partition, Share> = HashMap::new();
    let mut changes: HashMap<PersonId, u16> = HashMap::new();
    let mut breather = breather();
    for (index, item) in batch.items.into_iter().enumerate() {
        breather.item();
        let ready = item.and_then(|form| {
            let named = form.named(&ingest.config.person_key, &ingest.cache, now)?;
            let known = named.enrolled(&ingest.cache, now)?;
            let last = changes.get(&named.person).copied();
            let change = last.unwrap_or(known.version).wrapping_add(1);
            let fact = form.into_fact(named.person, change, caller.operator, now)?;
            changes.insert(named.person, change);
            Ok(fact)
        });
        outcomes.push(ready.and_then(|fact| {
            let value = codec::encode(&fact).map_err(|e| Problem::malformed(e.to_string()))?;
            let share = shares
                .entry(partition_for(fact.person.0, ingest.partitions))
                .or_default();
            let person_key = fact.person.0.to_be_bytes().to_vec();
            share.history.push(Record::keyed(person_key, value.clone()));
            share.facts.push(Record::keyed(fact.topic_key(), value));
            share.indices.push(index);
            Ok(format!(
                r#"{{"person":"{}","category":"{}","change":{}}}"#,
                fact.person,
                fact.category.name(),
                fact.change
            ))
        }));
    }
    let appends = shares.into_iter().map(|(partition, share)| async move {
        let Share {
            facts,
            history,
            indices,
        } = share;
        let count = facts.len() as u64;
        // History first: a fact that counts always has its provenance.
        let outcome = match ingest.log.append(FACT_HISTORY, partition, history).await {
            Ok(_) => ingest.log.append(FACTS, partition, facts).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(appended) => {
                let last = appended.last;
                ingest
                    .feed
                    .wait_applied(FACTS, partition, last, APPLY_WAIT)
                    .await;
                ingest.instruments.facts.increment(count);
                None
            }
            Err(error) => Some((indices, problem::from_log(&error))),
        }
    });
    for (indices, problem) in join_all(appends).await.into_iter().flatten() {
        for index in indices {
            outcomes[index] = Err(problem.clone());
        }
    }
    if bulk::wants_refusals_only(headers) {
        return Ok(bulk::respond_refusals(&outcomes));
    }
    Ok(bulk::respond(batch.shape, StatusCode::CREATED, outcomes))
}
