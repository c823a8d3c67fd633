//! Figures by hour or day: empty ones are there as zeros.

use std::collections::HashMap;

use scan_model::Timestamp;
use serde::{Deserialize, Serialize};
use warehouse::{Store, StoreError};

use crate::period::{Period, Step};
use crate::scope::{Records, Scope, Selection, Traffic};

/// The figures of one hour, day or range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// 人次: registrations.
    pub registrations: u64,
    /// 人数: distinct people who registered.
    pub people: u64,
    /// Registrations that are not exits.
    #[serde(default)]
    pub entries: u64,
    /// Registrations on the way out.
    #[serde(default)]
    pub exits: u64,
    /// 发热人次: screenings with a fever.
    pub fever: u64,
    /// 发热人数: distinct people with a fever.
    pub fever_people: u64,
    /// Red codes met.
    pub red_encounters: u64,
    /// People turned away.
    pub refusals: u64,
    /// Registrations by sex: male.
    #[serde(default)]
    pub male: u64,
    /// Registrations by sex: female.
    #[serde(default)]
    pub female: u64,
    /// Registrations by sex: unknown (P7).
    #[serde(default)]
    pub sex_unknown: u64,
    /// Registrations by age: 0 to 14.
    #[serde(default)]
    pub age_0_14: u64,
    /// Registrations by age: 15 to 39.
    #[serde(default)]
    pub age_15_39: u64,
    /// Registrations by age: 40 to 59.
    #[serde(default)]
    pub age_40_59: u64,
    /// Registrations by age: 60 and more.
    #[serde(default)]
    pub age_60_up: u64,
    /// Registrations by age: unknown.
    #[serde(default)]
    pub age_unknown: u64,
}

/// One step of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Its start, RFC 3339.
    pub start: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

#[derive(Deserialize)]
struct Row {
    start: i64,
    #[serde(flatten)]
    figures: Figures,
}

/// The figures from a rollup.
pub(crate) fn rollup_columns(selection: &Selection) -> String {
    let table = selection.table;
    let sums = selection
        .sums
        .iter()
        .map(|name| format!("sum({table}.{name}) AS {name}"));
    let states = ["people", "fever_people"]
        .into_iter()
        .map(|name| format!("uniqExactMerge({table}.{name}) AS {name}"));
    sums.chain(states).collect::<Vec<_>>().join(", ")
}

/// The same figures from raw scans: each sum of the rollup, as its view counts it.
pub(crate) fn raw_columns(selection: &Selection) -> String {
    let sums = selection.sums.iter().map(|name| {
        let counted = match *name {
            "registrations" => "sum(scans.registration)".to_owned(),
            "fever" => "sum(scans.fever)".to_owned(),
            "red_encounters" => "sum(scans.red_encounter)".to_owned(),
            "refusals" => "sum(scans.refusal)".to_owned(),
            other => format!(
                "countIf(scans.registration = 1 AND {})",
                raw_condition(other)
            ),
        };
        format!("{counted} AS {name}")
    });
    let states = [
        "uniqExactIf(scans.person, scans.registration = 1) AS people".to_owned(),
        "uniqExactIf(scans.person, scans.fever = 1) AS fever_people".to_owned(),
    ];
    sums.chain(states).collect::<Vec<_>>().join(", ")
}

/// Which registrations a sum counts.
fn raw_condition(sum: &str) -> &'static str {
    match sum {
        "entries" => "scans.direction != 'out'",
        "exits" => "scans.direction = 'out'",
        "male" => "scans.sex = 'male'",
        "female" => "scans.sex = 'female'",
        "sex_unknown" => "scans.sex = 'unknown'",
        "age_0_14" => "scans.age BETWEEN 0 AND 14",
        "age_15_39" => "scans.age BETWEEN 15 AND 39",
        "age_40_59" => "scans.age BETWEEN 40 AND 59",
        "age_60_up" => "scans.age >= 60",
        _ => "scans.age < 0",
    }
}

/// The series of a scope over a period.
pub async fn series(
    store: &Store,
    scope: Scope,
    period: Period,
    records: Records,
    traffic: Traffic,
) -> Result<Vec<Bucket>, StoreError> {
    let selection = scope.select();
    let start = match (period.step, selection.time) {
        (Step::Hour, "hour") => "toUnixTimestamp(hour)",
        (Step::Day, "hour") => "toUnixTimestamp(toStartOfDay(hour))",
        _ => "toUnixTimestamp(toDateTime(day, 'Asia/Shanghai'))",
    };
    let sql = format!(
        "SELECT {start} AS start, {columns} FROM {table}
         WHERE {condition} AND {traffic} AND {time} GROUP BY start",
        columns = rollup_columns(&selection),
        table = selection.table,
        condition = selection.rollup,
        traffic = traffic.condition(),
        time = rollup_time(&selection, period),
    );
    let rows: Vec<Row> = store.rows(&sql, &[]).await?;
    let mut figures: HashMap<i64, Figures> = rows
        .into_iter()
        .map(|row| (row.start, row.figures))
        .collect();
    if records == Records::Corrected {
        let start = match period.step {
            Step::Hour => "toUnixTimestamp(toStartOfHour(event_time))",
            Step::Day => "toUnixTimestamp(toStartOfDay(event_time))",
        };
        for row in recounted(store, &selection, period, traffic, start).await? {
            figures.insert(row.start, row.figures);
        }
    }
    let bucket = |start: Timestamp| Bucket {
        start: start.to_rfc3339(),
        figures: figures.remove(&start.seconds()).unwrap_or_default(),
    };
    Ok(period.starts().map(bucket).collect())
}

/// The rollup's condition on time.
pub(crate) fn rollup_time(selection: &Selection, period: Period) -> String {
    let (from, to) = (period.from.seconds(), period.to.seconds());
    if selection.time == "day" {
        return format!(
            "day >= toDate(toDateTime({from}, 'Asia/Shanghai')) AND day < toDate(toDateTime({to}, 'Asia/Shanghai'))"
        );
    }
    format!(
        "hour >= toDateTime({from}, 'Asia/Shanghai') AND hour < toDateTime({to}, 'Asia/Shanghai')"
    )
}

/// The condition on the time of raw scans.
pub(crate) fn raw_time(period: Period) -> String {
    let (from, to) = (period.from.0, period.to.0);
    format!(
        "event_time >= fromUnixTimestamp64Milli({from}, 'Asia/Shanghai') AND event_time < fromUnixTimestamp64Milli({to}, 'Asia/Shanghai')"
    )
}

/// Steps that hold a superseded scan, counted again from raw scans without it; all other steps stand in the rollup.
async fn recounted(
    store: &Store,
    selection: &Selection,
    period: Period,
    traffic: Traffic,
    start: &str,
) -> Result<Vec<Row>, StoreError> {
    let scans = format!(
        "{} AND {} AND {}",
        selection.raw,
        traffic.condition(),
        raw_time(period)
    );
    let sql = format!(
        "WITH touched AS (SELECT DISTINCT {start} AS touched_start FROM scans
                          WHERE {scans} AND scan_id IN (SELECT scan_id FROM superseded_scans))
         SELECT touched_start AS start, figures.* EXCEPT (start)
         FROM touched LEFT JOIN (
             SELECT {start} AS start, {columns} FROM scans
             WHERE {scans} AND scan_id NOT IN (SELECT scan_id FROM superseded_scans)
               AND {start} IN (SELECT touched_start FROM touched)
             GROUP BY start
         ) AS figures ON figures.start = touched.touched_start",
        columns = raw_columns(selection),
    );
    store.rows(&sql, &[]).await
}
