//! Import of venues, grids and compounds (V1, G1).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use registry::command::{Body as CommandBody, MAX_SITES};
use registry::state::RULE_VERSION;
use registry::{Command, RegistryError, SiteForm};
use scan_model::{SiteKind, Timestamp};

use crate::authority::Right;
use crate::bulk;
use crate::problem::{self, Problem};
use crate::service::Ingest;

/// `POST /v1/venues:import`.
pub async fn import_venues(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    import(&ingest, &headers, body, SiteKind::Venue)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// `POST /v1/grids:import`.
pub async fn import_grids(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    import(&ingest, &headers, body, SiteKind::Grid)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// `POST /v1/compounds:import`.
pub async fn import_compounds(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    import(&ingest, &headers, body, SiteKind::Compound)
        .await
        .unwrap_or_else(IntoResponse::into_response)
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
    let mut outcomes = Vec::with_capacity(batch.items.len());
    let mut sites = Vec::new();
    for (index, item) in batch.items.into_iter().enumerate() {
        let site = item.and_then(|(mut form, _)| {
            form.synthetic |= caller.synthetic;
            form.into_site(kind)
                .map_err(|e| Problem::field(e.field, "allowed", e.rule))
        });
        outcomes.push(site.map(|site| {
            let id = site.site.id.0;
            sites.push((index, site));
            format!(r#"{{"id":{id}}}"#)
        }));
    }
    for chunk in sites.chunks(MAX_SITES) {
        let command = Command {
            id: uuid::Uuid::now_v7().as_u128(),
            time: Timestamp::now(),
            rule_version: RULE_VERSION,
            body: CommandBody::ImportSites(chunk.iter().map(|(_, site)| site.clone()).collect()),
        };
        if let Err(error) = ingest.registry.submit(&command).await {
            let problem = match &error {
                RegistryError::Log(error) => problem::from_log(error),
                other => Problem::unavailable(other.to_string()),
            };
            for (index, _) in chunk {
                outcomes[*index] = Err(problem.clone());
            }
        }
    }
    Ok(bulk::respond(batch.shape, StatusCode::CREATED, outcomes))
}
