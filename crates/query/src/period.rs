//! The asked time range: read, aligned to hours or days of Asia/Shanghai, bounded.

use http_service::Problem;
use scan_model::Timestamp;
use scan_model::time::{DAY_MS, HOUR_MS};
use serde::{Deserialize, Serialize};

/// The first and last instant that may be asked for: 2000-01-01 and 2100-01-01 in Shanghai. The store counts seconds in
/// 32 bits and silently wraps around beyond 1970 and 2106.
const ASKABLE: std::ops::RangeInclusive<i64> = 946_656_000_000..=4_102_416_000_000;

/// Checks that the store can tell an instant from others.
pub fn askable(field: &str, time: Timestamp) -> Result<Timestamp, Problem> {
    if ASKABLE.contains(&time.0) {
        return Ok(time);
    }
    let detail = "must lie between 2000-01-01 and 2100-01-01";
    Err(Problem::field(field, "range", detail))
}

/// The step of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Hour by hour.
    #[default]
    Hour,
    /// Day by day.
    Day,
}

impl Step {
    const fn length_ms(self) -> i64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    const fn longest_days(self) -> i64 {
        match self {
            Self::Hour => 31,
            Self::Day => 366,
        }
    }

    fn start_of(self, time: Timestamp) -> Timestamp {
        match self {
            Self::Hour => time.hour_start(),
            Self::Day => time.day_start(),
        }
    }
}

/// A time range in whole steps; the end is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its start.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Its step.
    pub step: Step,
}

impl Period {
    /// Reads a range: RFC 3339 times or dates; today where nothing is given. Widened to whole steps.
    ///
    /// # Errors
    /// A problem that names `from` or `to`: unreadable, out of order, or longer than 31 days by hour, 366 by day.
    pub fn read(
        from: Option<&str>,
        to: Option<&str>,
        step: Step,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let read = |field: &str, text: &str, is_end: bool| {
            if text.len() == 10 {
                let day = Timestamp::parse_shanghai_date(text);
                let shift = if is_end { DAY_MS } else { 0 };
                return day
                    .map(|day| day.plus_ms(shift))
                    .map_err(|error| Problem::field(field, "date", error.to_string()));
            }
            Timestamp::parse_rfc3339(text).map_err(|_| {
                let detail = "must be a date such as 2022-01-10, or an RFC 3339 time with an offset such as 2022-01-10T08:00:00+08:00";
                Problem::field(field, "rfc3339", detail)
            })
        };
        let from = from.map_or(Ok(now.day_start()), |text| read("from", text, false))?;
        let to = to.map_or(Ok(from.day_start().plus_ms(DAY_MS).max(from)), |text| {
            read("to", text, true)
        })?;
        let (from, to) = (askable("from", from)?, askable("to", to)?);
        if to <= from {
            return Err(Problem::field(
                "to",
                "after_from",
                "must be later than from",
            ));
        }
        let first = step.start_of(from);
        let last = step.start_of(to.plus_ms(-1)).plus_ms(step.length_ms());
        if last.0 - first.0 > step.longest_days() * DAY_MS {
            let detail = format!(
                "must lie at most {} days after from at this step; ask for a shorter range or step=day",
                step.longest_days()
            );
            return Err(Problem::field("to", "longest_range", detail));
        }
        Ok(Self {
            from: first,
            to: last,
            step,
        })
    }

    /// The start of every step.
    pub fn starts(self) -> impl Iterator<Item = Timestamp> {
        let length = self.step.length_ms();
        let count = (self.to.0 - self.from.0) / length;
        (0..count).map(move |index| self.from.plus_ms(index * length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &str, to: &str, step: Step) -> Result<Period, Problem> {
        Period::read(Some(from), Some(to), step, Timestamp(0))
    }

    #[test]
    fn t7_a_day_is_24_hours_of_shanghai() {
        let period = read("2022-01-10", "2022-01-10", Step::Hour).unwrap();
        assert_eq!(period.starts().count(), 24);
        assert_eq!(period.from.to_rfc3339(), "2022-01-10T00:00:00.000+08:00");
    }

    #[test]
    fn a_range_is_widened_to_whole_steps() {
        let period = read(
            "2022-01-10T08:59:00+08:00",
            "2022-01-10T10:00:01+08:00",
            Step::Hour,
        )
        .unwrap();
        assert_eq!(period.starts().count(), 3);
        let days = read(
            "2022-01-10T08:59:00+08:00",
            "2022-01-11T00:00:00+08:00",
            Step::Day,
        )
        .unwrap();
        assert_eq!(days.starts().count(), 1);
    }

    #[test]
    fn a_bad_range_names_the_field_and_the_rule() {
        let rule = |from, to, step| {
            let problem = serde_json::to_value(read(from, to, step).unwrap_err()).unwrap();
            (
                problem["field"].as_str().unwrap().to_owned(),
                problem["rule"].as_str().unwrap().to_owned(),
            )
        };
        assert_eq!(
            rule("2022-02-31", "2022-03-01", Step::Hour),
            ("from".into(), "date".into())
        );
        assert_eq!(
            rule("2022-01-02", "2022-01-01", Step::Hour),
            ("to".into(), "after_from".into())
        );
        assert_eq!(
            rule("2022-01-01", "2022-02-01", Step::Hour),
            ("to".into(), "longest_range".into())
        );
        assert!(read("2022-01-01", "2022-12-31", Step::Day).is_ok());
    }
}
