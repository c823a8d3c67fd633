//! Every kind of scan (C2–C7) and what is kept of it.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::enrolment::Sex;
use crate::person::PersonId;
use crate::site::{SiteRef, VenueType};
use crate::status::{CategorySet, Colour};
use crate::time::Timestamp;

/// A scan's id: a UUIDv7 that the client makes, so that a retry is recognised (X3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ScanId(pub u128);

/// The text is not a scan id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID of version 7 made by the client")]
pub struct ScanIdError;

impl ScanId {
    /// When the client made the id: the Unix milliseconds in its first 48 bits (RFC 9562).
    pub const fn made_at(self) -> Timestamp {
        Timestamp((self.0 >> 80) as i64)
    }
}

impl std::str::FromStr for ScanId {
    type Err = ScanIdError;

    fn from_str(text: &str) -> Result<Self, ScanIdError> {
        let uuid = uuid::Uuid::parse_str(text).map_err(|_| ScanIdError)?;
        let is_version_7 = uuid.get_version_num() == 7;
        is_version_7
            .then_some(Self(uuid.as_u128()))
            .ok_or(ScanIdError)
    }
}

impl fmt::Display for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the code was scanned.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ScanKind {
    /// A tester takes a temperature (C2).
    TemperatureScreening,
    /// The citizen scans the venue's poster (C3).
    QuickCheckIn,
    /// The code was looked at; no check-in is made (C4, P6).
    Display,
    /// A grid worker's visit (C5).
    GridCollection,
    /// A person enters a compound (C6).
    CompoundPass,
    /// Medical staff issue a release notice (C7).
    ReleaseNotice,
}

impl ScanKind {
    /// Every kind, in wire order.
    pub const ALL: [Self; 6] = [
        Self::TemperatureScreening,
        Self::QuickCheckIn,
        Self::Display,
        Self::GridCollection,
        Self::CompoundPass,
        Self::ReleaseNotice,
    ];

    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TemperatureScreening => "temperature_screening",
            Self::QuickCheckIn => "quick_check_in",
            Self::Display => "display",
            Self::GridCollection => "grid_collection",
            Self::CompoundPass => "compound_pass",
            Self::ReleaseNotice => "release_notice",
        }
    }

    /// Whether the scan is a registration (人次) of the site where it happens (T6).
    pub const fn is_registration(self) -> bool {
        !matches!(self, Self::Display | Self::ReleaseNotice)
    }
}

/// Which way the person goes, so that exits do not double footfall (C2).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Not stated: counts as an entry.
    #[default]
    Unknown,
    /// Entering.
    In,
    /// Leaving.
    Out,
}

impl Direction {
    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The band that a tester chooses (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemperatureBand {
    /// Not taken.
    NotTaken,
    /// 正常.
    Normal,
    /// 发热.
    Fever,
}

impl TemperatureBand {
    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotTaken => "not_taken",
            Self::Normal => "normal",
            Self::Fever => "fever",
        }
    }
}

/// What was done with the person at the gate (S1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Let in.
    Admitted,
    /// Turned away.
    Refused,
    /// Sent to the city's procedure.
    Referred,
}

impl Disposition {
    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Referred => "referred",
        }
    }
}

/// How the person was named to the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// An app code.
    AppCode,
    /// A rotating app code.
    RotatingCode,
    /// A paper code.
    PaperCode,
    /// A document number, under a granted right (C1, C5).
    Document,
}

/// The status that the answer showed, kept so that a later question can be answered without recomputing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ShownStatus {
    /// The colour.
    pub colour: Colour,
    /// All active categories, whether or not the ruleset makes them reasons.
    pub categories: CategorySet,
    /// The version of the person's status: the count of that person's changes, modulo 65,536 (S6).
    pub version: u16,
}

/// One scan as it stands in the log. Appended, never edited (INV-4).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Scan {
    /// The client's id.
    pub scan_id: ScanId,
    /// Who was scanned.
    pub person: PersonId,
    /// Why.
    pub kind: ScanKind,
    /// Where; `None` for a display without a venue.
    pub site: Option<SiteRef>,
    /// The checkpoint (entrance) of the site; 0 where none is named.
    pub checkpoint: u16,
    /// The site's division at the time, nine digits where known to township level.
    pub region: u32,
    /// The venue's type at the time.
    pub venue_type: VenueType,
    /// Which way.
    pub direction: Direction,
    /// The band chosen.
    pub band: TemperatureBand,
    /// The reading in tenths of a degree Celsius, where one was taken.
    pub decidegrees: Option<i16>,
    /// What was shown.
    pub shown: ShownStatus,
    /// What was done.
    pub disposition: Disposition,
    /// Sex, for statistics.
    pub sex: Sex,
    /// Birth year, for statistics.
    pub birth_year: Option<u16>,
    /// How the person was named.
    pub carrier: Carrier,
    /// Keyed hash of the tester, grid worker or gate; 0 for the citizen themselves.
    pub operator: u64,
    /// When it happened, by the client's clock.
    pub event_time: Timestamp,
    /// When ingest took it.
    pub received_at: Timestamp,
    /// The scan that this one corrects (C8).
    pub corrects: Option<ScanId>,
    /// Joins the people of one vehicle or one family in one visit (C2, C6).
    pub party: Option<u128>,
    /// Whether load generation made it (X11).
    pub synthetic: bool,
}

impl Scan {
    /// Whether a red code was met: shown by a check-in, a screening, a pass or a collection.
    pub fn is_red_encounter(&self) -> bool {
        self.shown.colour == Colour::RED && self.kind.is_registration()
    }

    /// Whether it counts as a registration (人次): a refused quick check-in does not (C3).
    pub fn is_registration(&self) -> bool {
        self.kind.is_registration() && self.disposition != Disposition::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x3_only_uuids_of_version_7_are_scan_ids() {
        let id = uuid::Uuid::now_v7();
        assert_eq!(
            id.to_string().parse::<ScanId>().unwrap().to_string(),
            id.to_string()
        );
        assert!(uuid::Uuid::new_v4().to_string().parse::<ScanId>().is_err());
        assert!("".parse::<ScanId>().is_err());
    }
}
