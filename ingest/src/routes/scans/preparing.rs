//! From a form to a scan: authorises, looks up in memory, decides. No I/O (INV-2).

use std::hash::{DefaultHasher, Hasher};

use axum::http::StatusCode;
use bytes::Bytes;
use registry::Site;
use scan_model::scan::{Carrier, Disposition, ShownStatus};
use scan_model::{CodeForm, Colour, PersonId, Scan, ScanKind, SiteRef, Timestamp, VenueType};
use status_cache::PersonStatus;

use crate::authority::{Caller, Right};
use crate::bulk::Done;
use crate::decision::{self, Moment};
use crate::forms::ScanForm;
use crate::forms::scan::{CheckedScan, Subject};
use crate::idempotency::Recollection;
use crate::problem::Problem;
use crate::service::Ingest;
use crate::wording::Language;

/// What becomes of a scan that breaks no rule.
pub(super) enum Ready {
    /// It was sent before: the same answer again.
    Answered(Result<Done, Problem>),
    /// It is to be made durable, and then answered.
    Append {
        scan: Box<Scan>,
        body_hash: u64,
        outcome: Result<Done, Problem>,
    },
}

/// Authorises, looks up in memory, decides. No I/O.
pub(super) fn prepare(
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
pub(in crate::routes) fn unknown_site(ingest: &Ingest, site: SiteRef, field: &str) -> Problem {
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
            let valid = decision::open_code(code, &keys, &ingest.cache, moment)
                .map_err(|refusal| refusal.problem(language))?;
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
            let identity = ingest.cache.resolve(identity);
            let found = ingest.cache.get(identity.person, now);
            let status = found
                .filter(|status| status.residue == identity.residue())
                .ok_or_else(|| decision::unknown_document(language))?;
            Ok((identity.person, status, Carrier::Document))
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
