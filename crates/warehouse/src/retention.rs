//! Retention by configuration: raw scans and statistics leave by whole slices once they are old enough.
//!
//! A slice (log partition, week) leaves at once: every row of a week has the same end of life, so that a part is dropped
//! whole. From a day before its raw rows may leave, a slice's rollups are proven no more ([`unprovable_up_to`]): what raw
//! no longer holds would be taken out of them. That stays so if raw is kept for longer later.

use scan_model::time::DAY_MS;
use serde::Deserialize;

use crate::fact_rows;
use crate::store::{Store, StoreError};

/// For how many days after a week's end its rows are kept; for ever without a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Raw scans, corrections and the history of facts.
    pub raw_days: Option<u32>,
    /// Rollups.
    pub statistics_days: Option<u32>,
}

/// Scans arrive up to 45 days late, and are compared with raw until their slice is a week old.
pub const LEAST_RAW_DAYS: u32 = 60;

/// Why a retention is none.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Late scans would find their slice gone.
    #[error("raw_retention_days must be 0 (for ever) or at least {LEAST_RAW_DAYS}, not {0}")]
    TooShort(u32),
    /// A proof would bring back what has left.
    #[error(
        "statistics_retention_days must be 0 (for ever) or at least raw_retention_days ({raw}), not {statistics}"
    )]
    StatisticsBeforeRaw {
        /// Days of raw.
        raw: String,
        /// Days of statistics.
        statistics: u32,
    },
}

impl Retention {
    /// Checks what is configured; 0 is for ever.
    pub fn new(raw_days: u32, statistics_days: u32) -> Result<Self, RetentionError> {
        let raw_days = Some(raw_days).filter(|days| *days > 0);
        let statistics_days = Some(statistics_days).filter(|days| *days > 0);
        if let Some(days) = raw_days.filter(|days| *days < LEAST_RAW_DAYS) {
            return Err(RetentionError::TooShort(days));
        }
        if let Some(statistics) = statistics_days
            && raw_days.is_none_or(|raw| statistics < raw)
        {
            let raw = raw_days.map_or_else(|| "for ever".to_owned(), |days| days.to_string());
            return Err(RetentionError::StatisticsBeforeRaw { raw, statistics });
        }
        Ok(Self {
            raw_days,
            statistics_days,
        })
    }

    fn of(self, table: &str) -> Option<u32> {
        if RAW.contains(&table) || table == fact_rows::TABLE {
            self.raw_days
        } else {
            self.statistics_days
        }
    }
}

/// What statistics are counted from, and counted again from where a scan was corrected.
const RAW: [&str; 2] = ["scans", "corrections"];
/// A slice's rows leave this long after its Monday, and the days of the retention.
const WEEK_DAYS: u32 = 7;
/// From this long before its raw rows may leave, a slice is not proven: clocks and time zones differ by less.
const MARGIN_DAYS: i64 = 1;
/// Where the database keeps the newest Monday whose raw rows may have left.
const LEFT: &str = "raw_left_up_to_monday";

#[derive(Deserialize)]
struct Table {
    name: String,
    partition_key: String,
    engine_full: String,
}

/// Changes the tables whose retention is another than this; answers their names. The schema must be there.
pub async fn apply(store: &Store, retention: Retention) -> Result<Vec<String>, StoreError> {
    let mut changed = Vec::new();
    for table in tables(store).await? {
        let wanted = retention.of(&table.name).map(|days| days + WEEK_DAYS);
        let Some(period) = period(&table.partition_key) else {
            continue;
        };
        if days_to_live(&table.engine_full) == wanted {
            continue;
        }
        note_what_left(store).await?;
        for statement in statements(store, &table.name, period, wanted) {
            store.execute(&statement).await?;
        }
        tracing::info!(
            table = table.name,
            days = wanted,
            "retention was changed; the days count from a week's Monday"
        );
        changed.push(table.name);
    }
    Ok(changed)
}

/// The statements that change one table of the shard database.
pub fn statements(store: &Store, table: &str, period: &str, days: Option<u32>) -> Vec<String> {
    let on = store
        .topology()
        .cluster()
        .map(crate::Cluster::on_cluster)
        .unwrap_or_default();
    let altered = format!("ALTER TABLE {}.{table}{on}", store.shard_database());
    match days {
        // Parts are not rewritten for it: their ends of life are noted, and they leave whole.
        Some(days) => vec![
            format!(
                "{altered} MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1"
            ),
            format!("{altered} MODIFY TTL {period} + toIntervalDay({days})"),
        ],
        None => vec![format!("{altered} REMOVE TTL")],
    }
}

/// The newest Monday, in days from 1970-01-01, up to which slices are not proven, because raw rows may have left.
pub async fn unprovable_up_to(store: &Store) -> Result<Option<i32>, StoreError> {
    #[derive(Deserialize)]
    struct Left {
        monday: i32,
    }
    let sql = "SELECT toInt32OrZero(value) AS monday FROM deployment WHERE name = {name:String}";
    let noted: Vec<Left> = store.rows(sql, &[("name", LEFT.to_owned())]).await?;
    let noted = noted.into_iter().map(|left| left.monday).max();
    Ok(noted.max(leaving_now(store).await?))
}

/// What is leaving under the table's own retention, whoever set it.
async fn leaving_now(store: &Store) -> Result<Option<i32>, StoreError> {
    let tables = tables(store).await?;
    let raw = tables
        .into_iter()
        .filter(|table| RAW.contains(&table.name.as_str()));
    let shortest = raw
        .filter_map(|table| days_to_live(&table.engine_full))
        .min();
    let today = scan_model::Timestamp::now().0 / DAY_MS;
    Ok(shortest.map(|days| (today + MARGIN_DAYS - i64::from(days)) as i32))
}

/// Notes what may have left under a retention before it is changed.
async fn note_what_left(store: &Store) -> Result<(), StoreError> {
    if let Some(monday) = unprovable_up_to(store).await? {
        let insert = format!("INSERT INTO deployment VALUES ('{LEFT}', '{monday}')");
        store.execute(&insert).await?;
    }
    Ok(())
}

async fn tables(store: &Store) -> Result<Vec<Table>, StoreError> {
    let sql = "SELECT name, partition_key, engine_full FROM system.tables
               WHERE database = {database:String} AND startsWith(partition_key, '(log_partition, ')
                 AND NOT position(name, '_staging_') ORDER BY name";
    store
        .rows(sql, &[("database", store.shard_database())])
        .await
}

/// The week of a row, from the table's partition key.
fn period(partition_key: &str) -> Option<&str> {
    partition_key
        .strip_prefix("(log_partition, ")?
        .strip_suffix(')')
}

/// The days of a table's TTL, from its engine's definition.
fn days_to_live(engine_full: &str) -> Option<u32> {
    let (_, ttl) = engine_full.split_once(" TTL ")?;
    let (_, days) = ttl.split_once("toIntervalDay(")?;
    days.split(')').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retentions_that_would_lose_or_revive_figures_are_refused() {
        assert_eq!(Retention::new(0, 0).unwrap(), Retention::default());
        assert!(Retention::new(60, 60).is_ok());
        assert!(Retention::new(60, 0).is_ok());
        for (raw, statistics) in [(59, 0), (0, 400), (90, 60)] {
            assert!(Retention::new(raw, statistics).is_err());
        }
    }

    #[test]
    fn the_days_of_a_ttl_are_read_from_the_definition() {
        let engine = "MergeTree PARTITION BY (log_partition, toMonday(toDate(event_time))) ORDER BY a TTL toMonday(toDate(event_time)) + toIntervalDay(97) SETTINGS index_granularity = 8192";
        assert_eq!(days_to_live(engine), Some(97));
        assert_eq!(days_to_live("MergeTree ORDER BY a"), None);
    }
}
