//! A scan as a tester, gate, citizen, grid worker, checker or doctor sends it (C2–C7).

use scan_model::scan::{Direction, Disposition, TemperatureBand};
use scan_model::{ScanId, ScanKind, SiteId, SiteKind, SiteRef, Timestamp};
use serde::Deserialize;

use super::{CLOCK_SKEW_MS, DocumentForm, past_time};
use crate::problem::Problem;

/// Readings that a thermometer can give, in tenths of a degree Celsius.
const DECIDEGREES: std::ops::RangeInclusive<i16> = 300..=450;

/// A temperature as taken (C2).
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemperatureForm {
    band: TemperatureBand,
    #[serde(default)]
    celsius: Option<f64>,
}

/// A scan.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanForm {
    scan_id: String,
    kind: ScanKind,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    document: Option<DocumentForm>,
    #[serde(default)]
    venue: Option<u32>,
    #[serde(default)]
    grid: Option<u32>,
    #[serde(default)]
    compound: Option<u32>,
    #[serde(default)]
    institution: Option<u32>,
    #[serde(default)]
    checkpoint: u16,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    temperature: Option<TemperatureForm>,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    disposition: Option<Disposition>,
    #[serde(default)]
    corrects: Option<String>,
    #[serde(default)]
    party: Option<String>,
    #[serde(default)]
    synthetic: bool,
}

/// Who is scanned, as the client names them.
pub enum Subject {
    /// By a code.
    Code(String),
    /// By a document.
    Document(DocumentForm),
}

/// A scan whose fields have each been checked; the person, the site and the rights are yet to be looked up.
pub struct CheckedScan {
    /// The client's id.
    pub scan_id: ScanId,
    /// Why.
    pub kind: ScanKind,
    /// Who.
    pub subject: Subject,
    /// Where.
    pub site: Option<SiteRef>,
    /// Which entrance.
    pub checkpoint: u16,
    /// Which way.
    pub direction: Direction,
    /// The band.
    pub band: TemperatureBand,
    /// The reading.
    pub decidegrees: Option<i16>,
    /// When.
    pub event_time: Timestamp,
    /// What was done, where the client says so.
    pub disposition: Option<Disposition>,
    /// Which scan it corrects.
    pub corrects: Option<ScanId>,
    /// Which visit it belongs to.
    pub party: Option<u128>,
    /// Whether load generation made it.
    pub synthetic: bool,
}

impl ScanForm {
    /// Checks every field by itself.
    ///
    /// `lateness_ms` bounds how long ago the scan may have happened.
    pub fn check(self, now: Timestamp, lateness_ms: i64) -> Result<CheckedScan, Problem> {
        let id = |field: &str, text: &str| {
            text.parse::<ScanId>()
                .map_err(|error| Problem::field(field, "uuid_v7", error.to_string()))
        };
        let scan_id = id("scan_id", &self.scan_id)?;
        // The aggregator's window of known ids relies on an id's time being no later than its arrival.
        if scan_id.made_at().0 > now.0 + CLOCK_SKEW_MS {
            let detail =
                "its time must not lie in the future (5 minutes of clock skew are allowed)";
            return Err(Problem::field("scan_id", "not_in_future", detail));
        }
        let corrects = self
            .corrects
            .as_deref()
            .map(|text| id("corrects", text))
            .transpose()?;
        if corrects == Some(scan_id) {
            return Err(Problem::field(
                "corrects",
                "another_scan",
                "a scan cannot correct itself",
            ));
        }
        let event_time = self
            .time
            .as_deref()
            .map_or(Ok(now), |text| past_time("time", text, now))?;
        if event_time.0 < now.0 - lateness_ms {
            let days = lateness_ms / 86_400_000;
            let detail = format!("must lie within the last {days} days");
            return Err(Problem::field("time", "lateness", detail));
        }
        let site = self.site()?;
        let subject = match (self.code, self.document) {
            (Some(code), None) => Subject::Code(code),
            (None, Some(document)) => Subject::Document(document),
            _ => {
                return Err(Problem::field(
                    "code",
                    "exactly_one",
                    "give either code or document",
                ));
            }
        };
        let (band, decidegrees) = temperature(self.kind, self.temperature)?;
        let party = self.party.as_deref().map(|text| {
            let uuid = uuid::Uuid::parse_str(text);
            uuid.map(|uuid| uuid.as_u128()).map_err(|_| {
                Problem::field(
                    "party",
                    "uuid",
                    "must be a UUID that joins one visit's people",
                )
            })
        });
        Ok(CheckedScan {
            scan_id,
            kind: self.kind,
            subject,
            site,
            checkpoint: self.checkpoint,
            direction: self.direction,
            band,
            decidegrees,
            event_time,
            disposition: self.disposition,
            corrects,
            party: party.transpose()?,
            synthetic: self.synthetic,
        })
    }

    /// The one site that this kind of scan happens at.
    fn site(&self) -> Result<Option<SiteRef>, Problem> {
        let (field, kind, is_required) = match self.kind {
            ScanKind::TemperatureScreening | ScanKind::QuickCheckIn => {
                ("venue", SiteKind::Venue, true)
            }
            ScanKind::Display => ("venue", SiteKind::Venue, false),
            ScanKind::GridCollection => ("grid", SiteKind::Grid, true),
            ScanKind::CompoundPass => ("compound", SiteKind::Compound, true),
            ScanKind::ReleaseNotice => ("institution", SiteKind::Institution, false),
        };
        let given = [
            ("venue", self.venue),
            ("grid", self.grid),
            ("compound", self.compound),
            ("institution", self.institution),
        ];
        if let Some((other, _)) = given
            .iter()
            .find(|(name, id)| *name != field && id.is_some())
        {
            let detail = format!(
                "does not belong to a {}; that happens at a {field}",
                self.kind.name()
            );
            return Err(Problem::field(*other, "belongs_to_kind", detail));
        }
        let id = given
            .iter()
            .find(|(name, _)| *name == field)
            .and_then(|(_, id)| *id);
        match id {
            Some(id) => Ok(Some(SiteRef {
                kind,
                id: SiteId(id),
            })),
            None if is_required => {
                let detail = format!("is required for a {}", self.kind.name());
                Err(Problem::field(field, "required", detail))
            }
            None => Ok(None),
        }
    }
}

/// Band and reading by the kind of scan: a screening needs one (C2), a quick check-in is normal by default (C3).
fn temperature(
    kind: ScanKind,
    form: Option<TemperatureForm>,
) -> Result<(TemperatureBand, Option<i16>), Problem> {
    let Some(TemperatureForm { band, celsius }) = form else {
        return match kind {
            ScanKind::TemperatureScreening => {
                let detail = "is required for a temperature_screening: a band of normal or fever";
                Err(Problem::field("temperature", "required", detail))
            }
            ScanKind::QuickCheckIn => Ok((TemperatureBand::Normal, None)),
            _ => Ok((TemperatureBand::NotTaken, None)),
        };
    };
    if kind == ScanKind::TemperatureScreening && band == TemperatureBand::NotTaken {
        let detail = "must be normal or fever for a temperature_screening";
        return Err(Problem::field("temperature.band", "allowed", detail));
    }
    let decidegrees = celsius.map(|celsius| {
        let tenths = (celsius * 10.0).round();
        let is_possible = tenths.is_finite()
            && tenths >= f64::from(*DECIDEGREES.start())
            && tenths <= f64::from(*DECIDEGREES.end());
        is_possible.then_some(tenths as i16).ok_or_else(|| {
            Problem::field(
                "temperature.celsius",
                "range",
                "must lie between 30.0 and 45.0",
            )
        })
    });
    Ok((band, decidegrees.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENESS_MS: i64 = 31 * 86_400_000;

    fn check(change: &str) -> Result<CheckedScan, serde_json::Value> {
        let now = Timestamp::parse_rfc3339("2026-11-21T12:00:00+08:00").unwrap();
        let mut json = serde_json::json!({
            "scan_id": "019aa5b0-0000-7000-8000-000000000001",
            "kind": "temperature_screening",
            "code": "x",
            "venue": 1,
            "temperature": {"band": "normal", "celsius": 36.5},
        });
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        for (field, value) in change.as_object().unwrap() {
            json[field] = value.clone();
        }
        let form: ScanForm = http_service::read_json(json.to_string().as_bytes())
            .map_err(|problem| serde_json::to_value(problem).unwrap())?;
        form.check(now, LATENESS_MS)
            .map_err(|problem| serde_json::to_value(problem).unwrap())
    }

    fn refused(change: &str) -> (String, String) {
        let problem = check(change).err().unwrap();
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        (text("field"), text("rule"))
    }

    #[test]
    fn c2_a_screening_needs_a_band_and_may_have_a_reading() {
        assert_eq!(check("{}").unwrap().decidegrees, Some(365));
        assert_eq!(
            refused(r#"{"temperature":null}"#),
            ("temperature".into(), "required".into())
        );
        assert_eq!(
            refused(r#"{"temperature":{"band":"normal","celsius":3650}}"#),
            ("temperature.celsius".into(), "range".into())
        );
    }

    #[test]
    fn c3_a_quick_check_in_is_normal_by_default() {
        let scan = check(r#"{"kind":"quick_check_in","temperature":null}"#).unwrap();
        assert_eq!(scan.band, TemperatureBand::Normal);
    }

    #[test]
    fn bad_fields_are_named_with_their_rule() {
        let cases = [
            (
                r#"{"scan_id":"6f2b0f9e-0000-4000-8000-000000000001"}"#,
                "scan_id",
                "uuid_v7",
            ),
            (
                r#"{"scan_id":"01b00000-0000-7000-8000-000000000001"}"#,
                "scan_id",
                "not_in_future",
            ),
            (
                r#"{"time":"2026-11-21T12:06:00+08:00"}"#,
                "time",
                "not_in_future",
            ),
            (
                r#"{"time":"2026-10-01T12:00:00+08:00"}"#,
                "time",
                "lateness",
            ),
            (r#"{"time":"yesterday"}"#, "time", "rfc3339"),
            (r#"{"venue":null}"#, "venue", "required"),
            (r#"{"grid":1}"#, "grid", "belongs_to_kind"),
            (r#"{"code":null}"#, "code", "exactly_one"),
            (r#"{"kind":"stroll"}"#, "kind", "allowed"),
            (r#"{"party":"x"}"#, "party", "uuid"),
            (
                r#"{"corrects":"019aa5b0-0000-7000-8000-000000000001"}"#,
                "corrects",
                "another_scan",
            ),
        ];
        for (change, field, rule) in cases {
            assert_eq!(
                refused(change),
                (field.to_owned(), rule.to_owned()),
                "{change}"
            );
        }
    }
}
