//! The Grafana dashboards: served as they are, their panels run here for the console.

use http_service::Problem;
use rust_embed::RustEmbed;
use scan_model::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::macros::{self, Expansion};
use crate::period::askable;
use crate::service::{Query, store_problem};

/// The dashboards' files.
#[derive(RustEmbed)]
#[folder = "../../dashboards/grafana/dashboards"]
struct Files;

/// Longest range of a panel, in days.
const LONGEST_DAYS: i64 = 366;

/// What a panel query asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanelQuery {
    from: String,
    to: String,
    #[serde(default = "hour")]
    interval_s: u64,
    #[serde(default)]
    variables: std::collections::BTreeMap<String, String>,
}

const fn hour() -> u64 {
    3600
}

/// Every dashboard, parsed, by uid.
pub fn all() -> Vec<Value> {
    let mut dashboards: Vec<Value> = Files::iter()
        .filter_map(|name| serde_json::from_slice(&Files::get(&name)?.data).ok())
        .collect();
    dashboards.sort_by_key(|dashboard| dashboard["uid"].as_str().unwrap_or_default().to_owned());
    dashboards
}

/// The dashboard with this uid.
pub fn find(uid: &str) -> Result<Value, Problem> {
    let found = all().into_iter().find(|dashboard| dashboard["uid"] == uid);
    found.ok_or_else(|| Problem::unknown("uid", "no dashboard has this uid; see /v1/dashboards"))
}

/// Runs one panel's SQL, or a variable's, for a range.
pub async fn run(query: &Query, sql: &str, asked: &PanelQuery) -> Result<Value, Problem> {
    let read = |field: &str, text: &str| {
        let time = Timestamp::parse_rfc3339(text)
            .map_err(|e| Problem::field(field, "rfc3339", e.to_string()))?;
        askable(field, time)
    };
    let (from, to) = (read("from", &asked.from)?, read("to", &asked.to)?);
    if to <= from || to.0 - from.0 > LONGEST_DAYS * 86_400_000 {
        let detail = format!("must be later than from, by at most {LONGEST_DAYS} days");
        return Err(Problem::field("to", "range", detail));
    }
    if !(1..=LONGEST_DAYS as u64 * 86_400).contains(&asked.interval_s) {
        let detail = format!("must lie between 1 second and {LONGEST_DAYS} days");
        return Err(Problem::field("interval_s", "range", detail));
    }
    let variables: Vec<_> = asked
        .variables
        .iter()
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let expansion = Expansion {
        from,
        to,
        interval_s: asked.interval_s,
        variables: &variables,
    };
    let sql = macros::expand(sql, &expansion)
        .map_err(|error| Problem::field("variables", "macro", error.to_string()))?;
    let bytes = query
        .store
        .read(&sql, &[], "JSONCompact")
        .await
        .map_err(|error| store_problem(&error))?;
    let answer: Value = serde_json::from_slice(&bytes)
        .map_err(|_| Problem::unavailable("the store's answer cannot be read"))?;
    Ok(json!({ "columns": answer["meta"], "rows": answer["data"] }))
}

/// The SQL of a panel's targets.
pub fn panel_sql(dashboard: &Value, panel: u64) -> Result<Vec<String>, Problem> {
    let panels = dashboard["panels"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let found = panels.iter().find(|candidate| candidate["id"] == panel);
    let targets = found
        .and_then(|panel| panel["targets"].as_array())
        .ok_or_else(|| {
            Problem::unknown(
                "panel",
                "the dashboard has no panel of this id with queries",
            )
        })?;
    Ok(targets
        .iter()
        .filter_map(|target| target["rawSql"].as_str())
        .map(str::to_owned)
        .collect())
}

/// The SQL of a dashboard variable.
pub fn variable_sql(dashboard: &Value, name: &str) -> Result<String, Problem> {
    let variables = dashboard["templating"]["list"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    // A custom variable's `query` lists its values; it is no SQL.
    let found = variables
        .iter()
        .find(|candidate| candidate["name"] == name && candidate["type"] == "query");
    found
        .and_then(|variable| variable["query"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Problem::unknown(
                "variable",
                "the dashboard has no query variable of this name",
            )
        })
}
