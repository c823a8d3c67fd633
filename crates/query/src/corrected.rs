//! Corrected figures are counted from raw scans, so they reach as far back as raw scans are kept.

use http_service::Problem;
use scan_model::Timestamp;
use scan_model::time::DAY_MS;
use warehouse::{Store, retention};

use crate::period::Period;
use crate::scope::Records;
use crate::service::store_problem;

/// Refuses corrected figures of a period whose raw scans may have left: they would count from what is still there.
///
/// # Errors
/// A problem that names `from` and the first day that may be asked for; the store's refusal.
pub async fn check(store: &Store, period: Period, records: Records) -> Result<(), Problem> {
    if records == Records::All {
        return Ok(());
    }
    let left = retention::unprovable_up_to(store)
        .await
        .map_err(|error| store_problem(&error))?;
    match left {
        Some(monday) if period.from.shanghai_monday_number() <= monday => {
            Err(beyond_raw(monday, period.from))
        }
        _ => Ok(()),
    }
}

fn beyond_raw(left_monday: i32, asked: Timestamp) -> Problem {
    let weeks_left = (left_monday - asked.shanghai_monday_number()) / 7 + 1;
    let monday_ms = i64::from(asked.shanghai_monday_number() + weeks_left * 7) * DAY_MS;
    let first = Timestamp(monday_ms).to_rfc3339();
    let day = first.split('T').next().unwrap_or_default();
    let detail = format!(
        "corrected figures are counted from raw scans, which are kept from {day} on; ask from then, or with records=all"
    );
    Problem::field("from", "raw_kept", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_day_that_may_be_asked_for_is_the_monday_after_what_left() {
        let asked = Timestamp::parse_rfc3339("2026-01-14T08:00:00+08:00").unwrap();
        let monday = asked.shanghai_monday_number();
        for (left, day) in [
            (monday, "2026-01-19"),
            (monday + 6, "2026-01-19"),
            (monday + 7, "2026-01-26"),
            (monday + 20, "2026-02-02"),
        ] {
            let problem = serde_json::to_string(&beyond_raw(left, asked)).unwrap();
            assert!(problem.contains(day), "{left}: {problem}");
        }
    }
}
