//! Instants in milliseconds, and the Asia/Shanghai calendar that every statistic uses (T7).
//!
//! Mainland China has kept UTC+8 without daylight saving since 1991, so days and hours are plain
//! arithmetic here; only parsing and printing go through a calendar library.

use std::cell::Cell;
use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Milliseconds from UTC to Asia/Shanghai.
pub const SHANGHAI_OFFSET_MS: i64 = 8 * HOUR_MS;
/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

thread_local! {
    /// A day since the epoch in Asia/Shanghai and its date: a batch asks for the same one again and again.
    static LAST_DATE: Cell<(i64, (i16, i8, i8))> = const { Cell::new((0, (1970, 1, 1))) };
}

/// An instant: milliseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text is not RFC 3339 with an offset.
    #[error("must be an RFC 3339 time with an offset, such as 2022-01-10T08:00:00+08:00")]
    NotRfc3339,
    /// The text is not a calendar date.
    #[error("must be a calendar date, such as 2022-01-10")]
    NotDate,
}

/// How far a test has set this process's wall clock off: what stands in the file that `TONGXING_TEST_CLOCK` names. Builds for
/// production have no such clock.
#[cfg(debug_assertions)]
fn test_clock_offset_ms() -> i64 {
    static FILE: std::sync::OnceLock<Option<std::path::PathBuf>> = std::sync::OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("TONGXING_TEST_CLOCK").map(Into::into));
    let text = file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(not(debug_assertions))]
const fn test_clock_offset_ms() -> i64 {
    0
}

impl Timestamp {
    /// The wall clock's reading.
    pub fn now() -> Self {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self(since_epoch.as_millis() as i64 + test_clock_offset_ms())
    }

    /// Parses RFC 3339 with an offset (`Z` or `+08:00`).
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimeError::NotRfc3339)?;
        Ok(Self(instant.as_millisecond()))
    }

    /// The instant at which an Asia/Shanghai calendar date begins.
    pub fn parse_shanghai_date(text: &str) -> Result<Self, TimeError> {
        let date: jiff::civil::Date = text.parse().map_err(|_| TimeError::NotDate)?;
        let midnight_utc = date
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|_| TimeError::NotDate)?
            .timestamp()
            .as_millisecond();
        Ok(Self(midnight_utc - SHANGHAI_OFFSET_MS))
    }

    /// RFC 3339 with the offset +08:00, to the millisecond.
    pub fn to_rfc3339(self) -> String {
        let Ok(instant) = jiff::Timestamp::from_millisecond(self.0) else {
            return String::from("out of range");
        };
        let shanghai = jiff::tz::TimeZone::fixed(jiff::tz::offset(8));
        instant
            .to_zoned(shanghai)
            .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
            .to_string()
    }

    /// The start of the Asia/Shanghai hour that holds this instant.
    pub fn hour_start(self) -> Self {
        Self(self.0.div_euclid(HOUR_MS) * HOUR_MS)
    }

    /// The start of the Asia/Shanghai day that holds this instant.
    pub fn day_start(self) -> Self {
        Self((self.0 + SHANGHAI_OFFSET_MS).div_euclid(DAY_MS) * DAY_MS - SHANGHAI_OFFSET_MS)
    }

    /// Days from 1970-01-01 to the Asia/Shanghai date of this instant.
    pub fn shanghai_day_number(self) -> i32 {
        (self.0 + SHANGHAI_OFFSET_MS).div_euclid(DAY_MS) as i32
    }

    /// Days from 1970-01-01 to the Monday of this instant's Asia/Shanghai week.
    pub fn shanghai_monday_number(self) -> i32 {
        let day = self.shanghai_day_number();
        // 1970-01-01 was a Thursday, three days after its Monday.
        day - (day + 3).rem_euclid(7)
    }

    /// The Asia/Shanghai calendar date of this instant: year, month, day.
    pub fn shanghai_date(self) -> (i16, i8, i8) {
        let day = self.0.saturating_add(SHANGHAI_OFFSET_MS).div_euclid(DAY_MS);
        let (last, date) = LAST_DATE.get();
        if last == day {
            return date;
        }
        let date = jiff::Timestamp::from_millisecond(self.0).map_or((1970, 1, 1), |instant| {
            let date = jiff::tz::offset(8).to_datetime(instant).date();
            (date.year(), date.month(), date.day())
        });
        LAST_DATE.set((day, date));
        date
    }

    /// The Asia/Shanghai calendar year of this instant.
    pub fn shanghai_year(self) -> i16 {
        self.shanghai_date().0
    }

    /// Whole seconds since the epoch, as a code payload keeps them.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved by some milliseconds.
    pub const fn plus_ms(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t7_days_begin_at_midnight_in_shanghai() {
        let late = Timestamp::parse_rfc3339("2022-01-10T23:59:59.999+08:00").unwrap();
        let next = Timestamp::parse_rfc3339("2022-01-10T16:00:00Z").unwrap();
        assert_eq!(late.plus_ms(1), next);
        assert_eq!(
            late.day_start().to_rfc3339(),
            "2022-01-10T00:00:00.000+08:00"
        );
        assert_eq!(
            next.day_start().to_rfc3339(),
            "2022-01-11T00:00:00.000+08:00"
        );
        assert_eq!(Timestamp::parse_shanghai_date("2022-01-11").unwrap(), next);
    }

    #[test]
    fn t7_the_date_is_shanghai_s() {
        let late = Timestamp::parse_rfc3339("2026-11-21T16:00:00Z").unwrap();
        assert_eq!(late.shanghai_date(), (2026, 11, 22));
        assert_eq!(late.plus_ms(-1).shanghai_date(), (2026, 11, 21));
    }

    #[test]
    fn t7_weeks_start_on_monday() {
        let monday = Timestamp::parse_rfc3339("2026-11-16T00:00:00+08:00").unwrap();
        let sunday = Timestamp::parse_rfc3339("2026-11-22T23:59:59+08:00").unwrap();
        assert_eq!(
            monday.shanghai_monday_number(),
            monday.shanghai_day_number()
        );
        assert_eq!(
            sunday.shanghai_monday_number(),
            monday.shanghai_day_number()
        );
    }

    #[test]
    fn a_time_without_an_offset_is_refused() {
        assert_eq!(
            Timestamp::parse_rfc3339("2022-01-10T08:00:00"),
            Err(TimeError::NotRfc3339)
        );
        assert_eq!(
            Timestamp::parse_shanghai_date("2022-02-31"),
            Err(TimeError::NotDate)
        );
    }
}
