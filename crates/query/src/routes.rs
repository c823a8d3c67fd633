//! The routes.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query as UrlQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_service::{Problem, RenderMetrics, metrics_response, read_json, refusal};
use scan_model::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dashboards::{self, PanelQuery};
use crate::period::{Period, Step};
use crate::scope::{Records, Scope, Traffic};
use crate::service::{Query, store_problem};
use crate::{console, corrected, fact_history, flow, statistics};

/// The OpenAPI document as served; a test holds it true.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// Largest body, in bytes (INV-6).
pub(crate) const MAX_BODY: usize = 64 << 10;

/// Every route of the service.
pub fn router(query: Arc<Query>, metrics: RenderMetrics) -> Router {
    Router::new()
        .route("/v1/venues/{id}/flow", get(venue_flow))
        .route("/v1/venues/{id}/statistics", get(venue_statistics))
        .route("/v1/grids/{id}/flow", get(grid_flow))
        .route("/v1/grids/{id}/statistics", get(grid_statistics))
        .route("/v1/regions/{code}/flow", get(region_flow))
        .route("/v1/regions/{code}/statistics", get(region_statistics))
        .route("/v1/facts:history", post(fact_history::answer))
        .route("/v1/freshness", get(freshness))
        .route("/v1/dashboards", get(list_dashboards))
        .route("/v1/dashboards/{uid}", get(dashboard))
        .route("/v1/dashboards/{uid}/panels/{panel}", post(panel))
        .route("/v1/dashboards/{uid}/variables/{name}", post(variable))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || metrics_response(metrics.clone())))
        .route(
            "/openapi.json",
            get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .fallback(console::file)
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(query)
}

/// The range and the choices of a statistics request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    step: Step,
    #[serde(default)]
    records: Records,
    #[serde(default)]
    traffic: Traffic,
}

type AskedQuery = Result<UrlQuery<Asked>, QueryRejection>;
type PanelBody = Result<Bytes, BytesRejection>;
type IdPath = Result<Path<u32>, PathRejection>;

fn id_of(path: IdPath, field: &str) -> Result<u32, Problem> {
    path.map(|Path(id)| id)
        .map_err(|_| Problem::field(field, "number", "must be a number from 0 to 4294967295"))
}

fn asked_of(asked: AskedQuery) -> Result<Asked, Problem> {
    asked.map(|UrlQuery(asked)| asked).map_err(|error| {
        let text = error.body_text();
        let (_, reason) = text.split_once(": ").unwrap_or(("", &text));
        let at_field = reason
            .split_once(": ")
            .filter(|(path, _)| !path.contains(' '));
        let (path, message) = at_field.unwrap_or((".", reason));
        refusal(path, message)
    })
}

async fn flow_of(
    query: &Query,
    scope: Result<Scope, Problem>,
    asked: AskedQuery,
) -> Result<Json<Value>, Problem> {
    let (scope, mut asked) = (scope?, asked_of(asked)?);
    if matches!(scope, Scope::Grid(_)) {
        asked.step = Step::Day;
    }
    let period = Period::read(
        asked.from.as_deref(),
        asked.to.as_deref(),
        asked.step,
        Timestamp::now(),
    )?;
    corrected::check(&query.store, period, asked.records).await?;
    let complete = query.complete_up_to_text().await;
    let buckets = flow::series(&query.store, scope, period, asked.records, asked.traffic).await;
    let totals =
        statistics::totals(&query.store, scope, period, asked.records, asked.traffic).await;
    Ok(Json(json!({
        "from": period.from.to_rfc3339(),
        "to": period.to.to_rfc3339(),
        "step": asked.step,
        "records": asked.records,
        "traffic": asked.traffic,
        "labels": labels(),
        "complete_up_to": complete,
        "totals": totals.map_err(|error| store_problem(&error))?,
        "buckets": buckets.map_err(|error| store_problem(&error))?,
    })))
}

async fn statistics_of(
    query: &Query,
    scope: Result<Scope, Problem>,
    asked: AskedQuery,
) -> Result<Json<Value>, Problem> {
    let (scope, asked) = (scope?, asked_of(asked)?);
    let period = Period::read(
        asked.from.as_deref(),
        asked.to.as_deref(),
        Step::Day,
        Timestamp::now(),
    )?;
    corrected::check(&query.store, period, asked.records).await?;
    let complete = query.complete_up_to_text().await;
    let totals =
        statistics::totals(&query.store, scope, period, asked.records, asked.traffic).await;
    let shares = statistics::shares(&query.store, scope, period, asked.traffic).await;
    let by = match scope {
        Scope::Venue(_) => "by_tester",
        Scope::Grid(_) => "by_worker",
        Scope::Region(_) => "by_venue_type",
    };
    Ok(Json(json!({
        "from": period.from.to_rfc3339(),
        "to": period.to.to_rfc3339(),
        "records": asked.records,
        "traffic": asked.traffic,
        "labels": labels(),
        "complete_up_to": complete,
        "totals": totals.map_err(|error| store_problem(&error))?,
        by: shares.map_err(|error| store_problem(&error))?,
    })))
}

/// Every figure is labelled as what it counts (T6).
fn labels() -> Value {
    json!({
        "registrations": "人次 / registrations",
        "people": "人数 / distinct people",
        "fever": "发热人次 / screenings with fever",
        "fever_people": "发热人数 / distinct people with fever",
    })
}

macro_rules! scope_routes {
    ($($name:ident: $answer:ident($field:literal, $scope:expr);)*) => {$(
        async fn $name(
            State(query): State<Arc<Query>>,
            id: IdPath,
            asked: AskedQuery,
        ) -> Result<Json<Value>, Problem> {
            let scope = id_of(id, $field).and_then($scope);
            $answer(&query, scope, asked).await
        }
    )*};
}

scope_routes! {
    venue_flow: flow_of("venue", |id| Ok(Scope::Venue(id)));
    venue_statistics: statistics_of("venue", |id| Ok(Scope::Venue(id)));
    grid_flow: flow_of("grid", |id| Ok(Scope::Grid(id)));
    grid_statistics: statistics_of("grid", |id| Ok(Scope::Grid(id)));
    region_flow: flow_of("region", Scope::region);
    region_statistics: statistics_of("region", Scope::region);
}

async fn freshness(State(query): State<Arc<Query>>) -> Json<Value> {
    Json(json!({ "complete_up_to": query.complete_up_to_text().await }))
}

async fn ready(State(query): State<Arc<Query>>) -> Response {
    let is_ready = query
        .store
        .read("SELECT 1", &[], "TabSeparated")
        .await
        .is_ok();
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": is_ready, "store": is_ready })),
    )
        .into_response()
}

async fn list_dashboards() -> Json<Value> {
    let summary =
        |dashboard: Value| json!({ "uid": dashboard["uid"], "title": dashboard["title"] });
    Json(dashboards::all().into_iter().map(summary).collect())
}

fn not_text(field: &str) -> Problem {
    Problem::field(field, "utf8", "must be UTF-8 text")
}

async fn dashboard(uid: Result<Path<String>, PathRejection>) -> Result<Json<Value>, Problem> {
    let Path(uid) = uid.map_err(|_| not_text("uid"))?;
    dashboards::find(&uid).map(Json)
}

/// What a panel or variable is asked for.
fn panel_query(headers: &HeaderMap, body: PanelBody) -> Result<PanelQuery, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let media_type = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::content_type("application/json"));
    }
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(MAX_BODY),
        _ => Problem::malformed("the body ended early"),
    })?;
    read_json(&body)
}

async fn panel(
    State(query): State<Arc<Query>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: PanelBody,
) -> Result<Json<Value>, Problem> {
    let asked = panel_query(&headers, body)?;
    let Path((uid, panel)) = path.map_err(|_| not_text("panel"))?;
    let dashboard = dashboards::find(&uid)?;
    let panel = panel
        .parse()
        .map_err(|_| Problem::field("panel", "number", "must be a panel's number"))?;
    let mut frames = Vec::new();
    for sql in dashboards::panel_sql(&dashboard, panel)? {
        frames.push(dashboards::run(&query, &sql, &asked).await?);
    }
    Ok(Json(
        json!({ "frames": frames, "complete_up_to": query.complete_up_to_text().await }),
    ))
}

async fn variable(
    State(query): State<Arc<Query>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: PanelBody,
) -> Result<Json<Value>, Problem> {
    let asked = panel_query(&headers, body)?;
    let Path((uid, name)) = path.map_err(|_| not_text("variable"))?;
    let sql = dashboards::variable_sql(&dashboards::find(&uid)?, &name)?;
    dashboards::run(&query, &sql, &asked).await.map(Json)
}
