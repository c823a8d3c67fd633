//! Dissolving a grid (G5): its history is erased for good, so it is confirmed by the grid's name.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use registry::command::Body as CommandBody;
use registry::state::RULE_VERSION;
use registry::{Command, Verdict};
use scan_model::{SiteId, SiteKind, SiteRef, Timestamp};
use serde::Deserialize;

use crate::authority::Right;
use crate::bulk::{self, Shape};
use crate::problem::Problem;
use crate::routes::{audit, scans, sites};
use crate::service::Ingest;

/// What a request says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DissolutionForm {
    /// The grid.
    id: u32,
    /// The grid's name, exactly.
    confirm: String,
}

/// `POST /v1/grids:dissolve`.
pub async fn dissolve(
    State(ingest): State<Arc<Ingest>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    dissolve_one(&ingest, &headers, body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn dissolve_one(
    ingest: &Ingest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = ingest.authority.identify(headers)?;
    caller.require(Right::DissolveGrids)?;
    let body = bulk::read_body(body).await?;
    let batch = bulk::read_items::<DissolutionForm>(headers, &body)?;
    let (Shape::One, Some(item)) = (batch.shape, batch.items.into_iter().next()) else {
        return Err(Problem::malformed("send one object"));
    };
    let (DissolutionForm { id, confirm }, _) = item?;
    let grid = SiteRef {
        kind: SiteKind::Grid,
        id: SiteId(id),
    };
    let known = ingest.registry.site(grid);
    let known = known.ok_or_else(|| scans::unknown_site(ingest, grid, "id"))?;
    if confirm != known.name {
        let detail =
            "must be the grid's name, exactly: its history is erased and cannot be brought back";
        return Err(Problem::field("confirm", "grid_name", detail));
    }
    let now = Timestamp::now();
    let entry = audit::Entry {
        action: "dissolve_grid",
        caller: &caller.name,
        person: None,
        site: Some(grid),
        at: now,
    };
    audit::write(ingest, &entry).await?;
    let command = Command {
        id: uuid::Uuid::now_v7().as_u128(),
        time: now,
        rule_version: RULE_VERSION,
        body: CommandBody::DissolveGrid(grid.id),
    };
    let verdict = ingest.registry.submit(&command).await;
    match verdict.map_err(|error| sites::from_registry(&error))? {
        Verdict::Dissolved => {
            let answer = format!(r#"{{"id":{id},"dissolved":true}}"#);
            Ok(bulk::json(StatusCode::OK, "application/json", answer))
        }
        _ => Err(scans::unknown_site(ingest, grid, "id")),
    }
}
