//! Totals of a range: distinct people over the whole of it, breakdowns by tester, worker, venue type.

use serde::{Deserialize, Serialize};
use warehouse::{Store, StoreError};

use crate::flow::{Figures, raw_columns, raw_time, rollup_columns, rollup_time};
use crate::period::Period;
use crate::scope::{Records, Scope, Traffic};

/// Figures of one part of a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The part: a tester, worker or venue type.
    pub part: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The totals of a scope over a period.
pub async fn totals(
    store: &Store,
    scope: Scope,
    period: Period,
    records: Records,
    traffic: Traffic,
) -> Result<Figures, StoreError> {
    let selection = scope.select();
    let sql = match records {
        Records::All => format!(
            "SELECT {columns} FROM {table} WHERE {condition} AND {traffic} AND {time}",
            columns = rollup_columns(&selection),
            table = selection.table,
            condition = selection.rollup,
            traffic = traffic.condition(),
            time = rollup_time(&selection, period),
        ),
        // Distinct people of a range cannot be mended step by step; the range is counted from raw scans.
        Records::Corrected => format!(
            "SELECT {columns} FROM scans WHERE {condition} AND {traffic} AND {time}
             AND scan_id NOT IN (SELECT scan_id FROM superseded_scans)",
            columns = raw_columns(&selection),
            condition = selection.raw,
            traffic = traffic.condition(),
            time = raw_time(period),
        ),
    };
    store.row(&sql, &[]).await
}

/// The shares of a scope's parts.
pub async fn shares(
    store: &Store,
    scope: Scope,
    period: Period,
    traffic: Traffic,
) -> Result<Vec<Share>, StoreError> {
    let (selection, part) = scope.select_parts();
    let sql = format!(
        "SELECT {part} AS part, {columns} FROM {table}
         WHERE {condition} AND {traffic} AND {time} GROUP BY part ORDER BY part",
        columns = rollup_columns(&selection),
        table = selection.table,
        condition = selection.rollup,
        traffic = traffic.condition(),
        time = rollup_time(&selection, period),
    );
    store.rows(&sql, &[]).await
}
