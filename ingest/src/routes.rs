//! The routes. Each file is one resource; this one joins them.

mod audit;
pub mod codes;
pub mod declarations;
pub mod dissolution;
pub mod facts;
pub mod health;
pub mod lookups;
pub mod persons;
pub mod provenance;
pub mod scans;
pub mod sites;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use http_service::{RenderMetrics, metrics_response};
use scan_model::SiteKind;

use crate::problem::Problem;
use crate::service::Ingest;

/// The OpenAPI document as served; a test holds it true.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// Every route of the service.
pub fn router(ingest: Arc<Ingest>, metrics: RenderMetrics) -> Router {
    Router::new()
        .route("/v1/codes/{code}", get(lookups::by_code))
        .route("/v1/lookups", post(lookups::many))
        .route("/v1/scans", post(scans::submit))
        .route("/v1/displays", post(scans::submit_displays))
        .route("/v1/declarations", post(declarations::submit))
        .route("/v1/persons", post(persons::enrol))
        .route("/v1/persons:import", post(persons::enrol))
        .route("/v1/codes", post(codes::issue))
        .route("/v1/codes:revoke", post(codes::revoke))
        .route("/v1/facts", post(facts::supply))
        .route("/v1/facts:import", post(facts::supply))
        .route("/v1/facts:query", post(provenance::query))
        .route(
            "/v1/venues:import",
            post(async |ingest, headers, body| {
                sites::submit(ingest, headers, body, SiteKind::Venue).await
            }),
        )
        .route(
            "/v1/grids:import",
            post(async |ingest, headers, body| {
                sites::submit(ingest, headers, body, SiteKind::Grid).await
            }),
        )
        .route("/v1/grids:dissolve", post(dissolution::dissolve))
        .route(
            "/v1/compounds:import",
            post(async |ingest, headers, body| {
                sites::submit(ingest, headers, body, SiteKind::Compound).await
            }),
        )
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(move || metrics_response(metrics.clone())))
        .route("/openapi.json", get(health::openapi))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(ingest)
}
