//! Scans (C2–C7): one, an array, or NDJSON; durable before they are answered (INV-7): 201 in the log, 202 in the spool while the
//! log is away.

mod preparing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use event_log::{Partition, Record, Taken, partition_for};
use futures::future::join_all;
use scan_model::{PersonId, Scan, ScanKind, Timestamp};

pub(super) use self::preparing::unknown_site;
use self::preparing::{Ready, prepare};
use crate::bulk::{self, Done};
use crate::forms::ScanForm;
use crate::idempotency::Remembered;
use crate::problem::{self, Problem};
use crate::service::Ingest;
use crate::topics::SCANS;
use crate::wording::Language;

/// `POST /v1/scans`.
pub async fn submit(State(ingest): State<Arc<Ingest>>, headers: HeaderMap, body: Body) -> Response {
    accept(&ingest, &headers, body, None)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// `POST /v1/displays`: scans of the kind display (P6).
pub async fn submit_displays(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let only = Some(ScanKind::Display);
    accept(&ingest, &headers, body, only)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// A scan that is to be appended, and what will be answered.
struct Prepared {
    index: usize,
    scan: Scan,
    body_hash: u64,
    outcome: Result<Done, Problem>,
}

async fn accept(
    ingest: &Ingest,
    headers: &HeaderMap,
    body: Body,
    only: Option<ScanKind>,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let caller = ingest.authority.identify(headers)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<ScanForm>(headers, &body)?;
    let language = Language::of(headers);
    let now = Timestamp::now();
    let count = batch.items.len();
    let _room = ingest
        .appends
        .admit(count)
        .inspect_err(|_| ingest.instruments.shed.increment(1))?;
    let mut outcomes: Vec<Option<Result<Done, Problem>>> = (0..count).map(|_| None).collect();
    let mut prepared = Vec::with_capacity(count);
    let mut first_of: HashMap<(PersonId, u128), usize> = HashMap::new();
    let mut repeats_of = Vec::new();
    for (index, item) in batch.items.into_iter().enumerate() {
        let ready = item
            .and_then(|(form, bytes)| prepare(ingest, caller, form, &bytes, only, now, language));
        match ready {
            Err(problem) => outcomes[index] = Some(Err(problem)),
            Ok(Ready::Answered(outcome)) => {
                ingest.instruments.scans_repeated.increment(1);
                outcomes[index] = Some(outcome);
            }
            Ok(Ready::Append {
                scan,
                body_hash,
                outcome,
            }) => {
                // The same scan twice in one batch is appended once.
                if count > 1 {
                    let id = (scan.person, scan.scan_id.0);
                    let first = *first_of.entry(id).or_insert(prepared.len());
                    if first < prepared.len() {
                        repeats_of.push((index, first, body_hash));
                        continue;
                    }
                }
                prepared.push(Prepared {
                    index,
                    scan: *scan,
                    body_hash,
                    outcome,
                });
            }
        }
    }
    let repeats: Vec<_> = repeats_of
        .into_iter()
        .map(|(index, first, hash)| {
            (
                index,
                prepared[first].index,
                prepared[first].body_hash == hash,
            )
        })
        .collect();
    append(ingest, prepared, &mut outcomes).await;
    for (index, first, is_same) in repeats {
        outcomes[index] = if is_same {
            outcomes[first].clone()
        } else {
            Some(Err(Problem::conflict(
                "scan_id",
                "this scan id stands twice in the batch, with different contents",
            )))
        };
    }
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|| Err(Problem::unavailable("not appended"))))
        .collect();
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    ingest.instruments.items_refused.increment(refused as u64);
    ingest
        .instruments
        .scan_seconds
        .record(started.elapsed().as_secs_f64());
    Ok(bulk::respond_each(batch.shape, outcomes))
}

/// Appends each partition's scans together, all partitions at once; remembers what became durable.
async fn append(
    ingest: &Ingest,
    prepared: Vec<Prepared>,
    outcomes: &mut [Option<Result<Done, Problem>>],
) {
    let mut by_partition: BTreeMap<Partition, (Vec<Record>, Vec<Prepared>)> = BTreeMap::new();
    for item in prepared {
        let encoded = ingest
            .config
            .scans_format
            .encode_as(&item.scan, ingest.config.scan_version);
        let record = match encoded {
            Ok(value) => Record::keyed(item.scan.person.0.to_be_bytes().to_vec(), value),
            Err(error) => {
                outcomes[item.index] = Some(Err(Problem::malformed(error.to_string())));
                continue;
            }
        };
        let partition = partition_for(item.scan.person.0, ingest.partitions);
        let (records, items) = by_partition.entry(partition).or_default();
        records.push(record);
        items.push(item);
    }
    let appends = by_partition
        .into_iter()
        .map(|(partition, (records, items))| async move {
            (ingest.take(SCANS, partition, records).await, items)
        });
    for (appended, items) in join_all(appends).await {
        match appended {
            Ok(taken) => {
                for Prepared {
                    index,
                    scan,
                    body_hash,
                    outcome,
                } in items
                {
                    ingest.instruments.scans(scan.kind).increment(1);
                    let outcome = outcome.map(|done| answer(done, taken));
                    let remembered = Remembered {
                        body: body_hash,
                        outcome: outcome.clone(),
                    };
                    ingest
                        .answers
                        .remember(scan.person, scan.scan_id, remembered);
                    outcomes[index] = Some(outcome);
                }
            }
            Err(error) => {
                ingest.instruments.shed.increment(items.len() as u64);
                let problem = problem::from_log(&error);
                for item in items {
                    outcomes[item.index] = Some(Err(problem.clone()));
                }
            }
        }
    }
}

/// What is answered to a scan, by where it came to stand.
fn answer(done: Done, taken: Taken) -> Done {
    match taken {
        Taken::Appended(_) => done,
        Taken::Spooled => Done {
            status: StatusCode::ACCEPTED,
            body: format!(r#"{},"spooled":true}}"#, done.body.trim_end_matches('}')),
        },
    }
}
