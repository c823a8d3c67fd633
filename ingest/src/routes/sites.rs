//! Import of venues, grids and compounds (V1, G1).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use registry::command::{Body as CommandBody, MAX_SITES};
use registry::state::RULE_VERSION;
use registry::{Command, RegistryError, Site, SiteForm, Verdict};
use scan_model::codec::MAX_RECORD;
use scan_model::{SiteKind, Timestamp};

use crate::authority::Right;
use crate::bulk;
use crate::problem::{self, Problem};
use crate::service::Ingest;

/// Bytes of sites in one command; a command's own fields take less than the rest of a record.
const MAX_COMMAND: usize = MAX_RECORD - 1024;

/// `POST /v1/venues:import`, `/v1/grids:import` and `/v1/compounds:import`.
pub async fn submit(
    ingest: State<Arc<Ingest>>,
    headers: HeaderMap,
    body: Body,
    kind: SiteKind,
) -> Response {
    import(&ingest, &headers, body, kind)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// A site that fits into a command.
fn fitting(site: Site) -> Result<Site, Problem> {
    if decoded_size(&site) <= MAX_COMMAND {
        return Ok(site);
    }
    let detail = format!("must have at most {MAX_COMMAND} bytes together");
    Err(Problem::field("checkpoints", "size", detail))
}

/// Sites in commands that stay within the largest record, in order.
fn commands_of(sites: Vec<(usize, Site)>) -> Vec<Vec<(usize, Site)>> {
    let mut commands: Vec<Vec<(usize, Site)>> = Vec::new();
    let mut size = 0;
    for item in sites {
        let item_size = decoded_size(&item.1);
        match commands.last_mut() {
            Some(last) if last.len() < MAX_SITES && size + item_size <= MAX_COMMAND => {
                size += item_size;
                last.push(item);
            }
            _ => {
                size = item_size;
                commands.push(vec![item]);
            }
        }
    }
    commands
}

/// An upper bound of what the codec counts for a site, on the wire and in memory.
fn decoded_size(site: &Site) -> usize {
    let text = |text: &String| size_of::<String>() + text.len();
    let checkpoints: usize = site.checkpoints.iter().map(text).sum();
    2 * size_of::<Site>() + site.name.len() + site.address.len() + checkpoints
}

/// A site whose id may still be given.
fn not_dissolved(ingest: &Ingest, site: Site) -> Result<Site, Problem> {
    if !ingest.registry.is_dissolved(site.site) {
        return Ok(site);
    }
    let detail = "is the id of a dissolved grid, which is never given again";
    Err(Problem::field("id", "not_dissolved", detail))
}

/// The registry's refusal.
pub(super) fn from_registry(error: &RegistryError) -> Problem {
    match error {
        RegistryError::Log(error) => problem::from_log(error),
        other => Problem::unavailable(other.to_string()),
    }
}

async fn import(
    ingest: &Ingest,
    headers: &HeaderMap,
    body: Body,
    kind: SiteKind,
) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::ImportSites)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<SiteForm>(headers, &body)?;
    let _room = ingest.appends.admit(batch.items.len())?;
    let mut outcomes = Vec::with_capacity(batch.items.len());
    let mut sites = Vec::new();
    for (index, item) in batch.items.into_iter().enumerate() {
        let site = item.and_then(|(mut form, _)| {
            form.synthetic |= caller.synthetic;
            form.into_site(kind)
                .map_err(|e| Problem::field(e.field, "allowed", e.rule))
        });
        let site = site.and_then(|site| not_dissolved(ingest, site));
        outcomes.push(site.and_then(fitting).map(|site| {
            let id = site.site.id.0;
            sites.push((index, site));
            format!(r#"{{"id":{id}}}"#)
        }));
    }
    for chunk in commands_of(sites) {
        let command = Command {
            id: uuid::Uuid::now_v7().as_u128(),
            time: Timestamp::now(),
            rule_version: RULE_VERSION,
            body: CommandBody::ImportSites(chunk.iter().map(|(_, site)| site.clone()).collect()),
        };
        match ingest.registry.submit(&command).await {
            Err(error) => {
                let problem = from_registry(&error);
                for (index, _) in &chunk {
                    outcomes[*index] = Err(problem.clone());
                }
            }
            // A grid was dissolved since it was looked at above.
            Ok(Verdict::Imported { dissolved: 1.., .. }) => {
                for (index, site) in chunk {
                    if let Err(problem) = not_dissolved(ingest, site) {
                        outcomes[index] = Err(problem);
                    }
                }
            }
            Ok(_) => {}
        }
    }
    Ok(bulk::respond(batch.shape, StatusCode::CREATED, outcomes))
}
