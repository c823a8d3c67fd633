//! Scans (C2–C7): one, an array, or NDJSON; durable before they are answered (INV-7): 201 in the log, 202 in the spool while the
//! log is away.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use event_log::{Partition, Record, Taken, partition_for};
use futures::future::join_all;
use registry::Site;
use scan_model::scan::{Carrier, Disposition, ShownStatus};
use scan_model::{CodeForm, Colour, PersonId, Scan, ScanKind, SiteRef, Timestamp, VenueType};
use status_cache::PersonStatus;

use crate::authority::{Caller, Right};
use crate::bulk::{self, Done};
use crate::decision::{self, Moment};
use crate::forms::ScanForm;
use crate::forms::scan::{CheckedScan, Subject};
use crate::idempotency::{Recollection, Remembered};
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
                match first_of.entry((scan.person, scan.scan_id.0)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        repeats_of.push((index, *first.get(), body_hash));
                    }
                    std::collections::hash_map::Entry::Vacant(place) => {
                        place.insert(prepared.len());
                        prepared.push(Prepared {
                            index,
                            scan: *scan,
                            body_hash,
                            outcome,
                        });
                    }
                }
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

enum Ready {
    Answered(Result<Done, Problem>),
    Append {
        scan: Box<Scan>,
        body_hash: u64,
        outcome: Result<Done, Problem>,
    },
}

/// Authorises, looks up in memory, decides. No I/O.
fn prepare(
    ingest: &Ingest,
    caller: &Caller,
    form: ScanForm,
    bytes: &Bytes,
    only: Option<ScanKind>,
    now: Timestamp,
    language: Language,
) -> Result<Ready, Problem> {
    let lateness_ms = i64::from(ingest.config.lateness_days) * 86_400_000;
    let checked = form.check(now, lateness_ms)?;
    if only.is_some_and(|kind| kind != checked.kind) {
        return Err(Problem::field("kind", "allowed", "must be display here"));
    }
    caller.require(Right::of_scan(checked.kind))?;
    if let Some(site) = checked.site {
        caller.require_site(site)?;
    }
    let site = match checked.site {
        None => None,
        Some(site) => Some(
            ingest
                .registry
                .site(site)
                .ok_or_else(|| unknown_site(ingest, site, site.kind.name()))?,
        ),
    };
    check_checkpoint(checked.checkpoint, site.as_deref())?;
    let identified = identify(ingest, caller, &checked, now, language);
    let body_hash = hash(bytes.trim_ascii());
    // A retry gets its answer even where the code has expired or been ended since.
    let person = match (&identified, &checked.subject) {
        (Ok((person, ..)), _) => Some(*person),
        (Err(_), Subject::Code(code)) => {
            let payload = ingest.code_keys.load().open(code).ok();
            payload.map(|payload| payload.person)
        }
        (Err(_), Subject::Document(_)) => None,
    };
    if let Some(person) = person {
        match ingest.answers.recall(person, checked.scan_id, body_hash) {
            Recollection::Repeat(outcome) => return Ok(Ready::Answered(outcome)),
            Recollection::Conflict(problem) => return Err(problem),
            Recollection::New => {}
        }
    }
    let (person, status, carrier) = identified?;
    let ruleset = ingest.ruleset.load();
    let colour = ruleset.colour(status.active);
    let passes = ruleset.rule(colour).passes;
    let refuses = checked.kind == ScanKind::QuickCheckIn
        && colour == Colour::RED
        && ingest.config.refuse_red_check_ins;
    // A check-in that the city does not refuse is let in (C3).
    let default = if passes || checked.kind == ScanKind::QuickCheckIn {
        Disposition::Admitted
    } else {
        Disposition::Refused
    };
    let disposition = if refuses {
        Disposition::Refused
    } else {
        checked.disposition.unwrap_or(default)
    };
    let synthetic = checked.synthetic
        || caller.synthetic
        || status.synthetic
        || site.as_ref().is_some_and(|site| site.synthetic);
    let CheckedScan {
        scan_id,
        kind,
        checkpoint,
        direction,
        band,
        decidegrees,
        ..
    } = checked;
    let scan = Scan {
        scan_id,
        person,
        kind,
        site: checked.site,
        checkpoint,
        region: site.as_ref().map_or(0, |site| site.region),
        venue_type: site
            .as_ref()
            .map_or(VenueType::Unspecified, |site| site.venue_type),
        direction,
        band,
        decidegrees,
        shown: ShownStatus {
            colour,
            categories: status.active,
            version: status.version,
        },
        disposition,
        sex: status.sex,
        birth_year: status.birth_year,
        carrier,
        operator: if kind == ScanKind::QuickCheckIn {
            0
        } else {
            caller.operator
        },
        event_time: checked.event_time,
        received_at: now,
        corrects: checked.corrects,
        party: checked.party,
        synthetic,
    };
    let outcome = if refuses {
        ingest.instruments.red_refusals.increment(1);
        Err(Problem::red_refused(language.red()))
    } else {
        let body = format!(
            r#"{{"scan_id":"{scan_id}","recorded":true,"colour":"{}","disposition":"{}"}}"#,
            ruleset.rule(colour).name,
            disposition.name(),
        );
        Ok(Done {
            status: StatusCode::CREATED,
            body,
        })
    };
    Ok(Ready::Append {
        scan: Box::new(scan),
        body_hash,
        outcome,
    })
}

/// Why a site is not known.
pub(super) fn unknown_site(ingest: &Ingest, site: SiteRef, field: &str) -> Problem {
    let detail = if ingest.registry.is_dissolved(site) {
        "this grid was dissolved; its id is never given again".to_owned()
    } else {
        format!("no {} has this id", site.kind.name())
    };
    Problem::unknown(field, detail)
}

/// Checkpoint 0 says nothing; any other must be one of the site's entrances (V1).
fn check_checkpoint(checkpoint: u16, site: Option<&Site>) -> Result<(), Problem> {
    let entrances = site.map_or(0, |site| site.checkpoints.len());
    if usize::from(checkpoint) <= entrances {
        return Ok(());
    }
    let detail = if entrances == 0 {
        "must be left out: this site has no checkpoints".to_owned()
    } else {
        format!("must lie between 1 and {entrances}, the site's checkpoints")
    };
    Err(Problem::field("checkpoint", "known_checkpoint", detail))
}

/// Who is scanned, with their status.
fn identify(
    ingest: &Ingest,
    caller: &Caller,
    checked: &CheckedScan,
    now: Timestamp,
    language: Language,
) -> Result<(PersonId, PersonStatus, Carrier), Problem> {
    match &checked.subject {
        Subject::Code(code) => {
            let keys = ingest.code_keys.load();
            let moment = Moment {
                now,
                // A scan that is uploaded later was shown its code when it happened.
                shown_at: checked.event_time,
                rotating_seconds: ingest.config.rotating_seconds,
            };
            let valid = decision::open_code(code, &keys, &ingest.cache, moment, language)?;
            let carrier = match valid.payload.form {
                CodeForm::App => Carrier::AppCode,
                CodeForm::Rotating => Carrier::RotatingCode,
                CodeForm::Paper => Carrier::PaperCode,
            };
            Ok((valid.payload.person, valid.status, carrier))
        }
        Subject::Document(document) => {
            caller.require(Right::LookUpDocument)?;
            let identity = ingest.config.person_key.identify(&document.parse(now)?);
            let found = ingest.cache.get(identity.person, now);
            let status = found
                .filter(|status| status.residue == identity.residue())
                .ok_or_else(|| decision::unknown_document(language))?;
            Ok((identity.person, status, Carrier::Document))
        }
    }
}

/// Appends each partition's scans together, all partitions at once; remembers what became durable.
async fn append(
    ingest: &Ingest,
    prepared: Vec<Prepared>,
    outcomes: &mut [Option<Result<Done, Problem>>],
) {
    let mut by_partition: HashMap<Partition, (Vec<Record>, Vec<Prepared>)> = HashMap::new();
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

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
