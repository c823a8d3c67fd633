//! Enrolment (P8): one by one and in bulk.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event_log::{Partition, Record, partition_for};
use futures::future::join_all;
use scan_model::{Enrolment, PersonId, Timestamp, codec};
use status_cache::feed::PERSONS;

use super::facts::APPLY_WAIT;
use crate::authority::Right;
use crate::bulk;
use crate::forms::PersonForm;
use crate::problem::{self, Problem};
use crate::service::Ingest;

/// `POST /v1/persons` and `POST /v1/persons:import`.
pub async fn enrol(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    accept(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn accept(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::EnrolPersons)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items_or_rows::<PersonForm>(headers, &body)?;
    let now = Timestamp::now();
    let _room = ingest.appends.admit(batch.items.len())?;
    let mut outcomes = Vec::with_capacity(batch.items.len());
    let mut by_partition: HashMap<Partition, (Vec<Record>, Vec<usize>)> = HashMap::new();
    let mut seen: HashMap<PersonId, u128> = HashMap::new();
    for (index, item) in batch.items.into_iter().enumerate() {
        let ready = item.and_then(|(form, _)| {
            let mut enrolment = form.into_enrolment(&ingest.config.person_key, now)?;
            enrolment.synthetic |= caller.synthetic;
            check_collision(ingest, &enrolment, &mut seen, now)?;
            if let Some(known) = ingest.cache.get(enrolment.identity.person, now) {
                enrolment.change = known.version.wrapping_add(1);
            }
            Ok(enrolment)
        });
        outcomes.push(ready.and_then(|enrolment| {
            let person = enrolment.identity.person;
            let value = codec::encode(&enrolment).map_err(|e| Problem::malformed(e.to_string()))?;
            let record = Record::keyed(person.0.to_be_bytes().to_vec(), value);
            let partition = partition_for(person.0, ingest.partitions);
            let (records, indices) = by_partition.entry(partition).or_default();
            records.push(record);
            indices.push(index);
            Ok(person)
        }));
    }
    let appends = by_partition
        .into_iter()
        .map(|(partition, (records, indices))| async move {
            let count = records.len() as u64;
            match ingest.log.append(PERSONS, partition, records).await {
                Ok(appended) => {
                    let last = appended.last;
                    ingest
                        .feed
                        .wait_applied(PERSONS, partition, last, APPLY_WAIT)
                        .await;
                    ingest.instruments.persons.increment(count);
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
        let outcomes: Vec<_> = outcomes.into_iter().map(|o| o.map(|_| ())).collect();
        return Ok(bulk::respond_refusals(&outcomes));
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|person| format!(r#"{{"person":"{person}"}}"#)))
        .collect();
    Ok(bulk::respond(batch.shape, StatusCode::CREATED, outcomes))
}

/// Two documents with one id are told apart by their further keyed bits, before anything is appended (P1).
fn check_collision(
    ingest: &Ingest,
    enrolment: &Enrolment,
    seen: &mut HashMap<PersonId, u128>,
    now: Timestamp,
) -> Result<(), Problem> {
    let identity = enrolment.identity;
    let resident = ingest.cache.get(identity.person, now);
    let collides = resident.is_some_and(|known| known.residue != identity.residue())
        || *seen.entry(identity.person).or_insert(identity.check) != identity.check;
    if collides {
        return Err(Problem::conflict(
            "document",
            "another document has the same person id; report it to the operator",
        ));
    }
    Ok(())
}
