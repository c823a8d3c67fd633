//! A scan as one flat JSON object, for topics that others read.
//!
//! Field names are the raw table's columns, enum values their names there, times Unix milliseconds, so that ClickHouse's
//! `JSONEachRow` and most other readers take an object into columns as it stands. The 64-bit ids are decimal texts, because many
//! JSON readers keep numbers to 53 bits only. Every field is always there, `null` where there is nothing; `version` is the first.
//!
//! ```json
//! {"version":1,"scan_id":"019aa5b0-0000-7000-8000-000000000001","person":"81985529216486895","kind":"quick_check_in",…}
//! ```
//!
//! `birth_year` stands where the table has an age. What else the table has is where the log keeps the scan, and what follows from
//! these fields: whether it is a registration, a fever, a red encounter, a refusal.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::codec::CodecError;
use crate::enrolment::Sex;
use crate::person::PersonId;
use crate::scan::{
    Carrier, Direction, Disposition, Scan, ScanId, ScanKind, ShownStatus, TemperatureBand,
};
use crate::site::{SiteId, SiteKind, SiteRef, VenueType};
use crate::status::{CategorySet, Colour};
use crate::time::Timestamp;

/// The version that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The first byte of every JSON record. No version byte of the binary form is ever this one.
pub const FIRST_BYTE: u8 = b'{';

/// The object's fields, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    version: u32,
    scan_id: Uuid,
    person: Digits,
    kind: ScanKind,
    site_kind: SiteKindName,
    site: u32,
    checkpoint: u16,
    region: u32,
    venue_type: VenueType,
    direction: Direction,
    band: TemperatureBand,
    decidegrees: Option<i16>,
    colour: u8,
    categories: u16,
    status_version: u16,
    disposition: Disposition,
    sex: Sex,
    birth_year: Option<u16>,
    carrier: Carrier,
    operator: Digits,
    event_time: i64,
    received_at: i64,
    corrects: Option<Uuid>,
    party: Option<Uuid>,
    synthetic: bool,
}

/// What is looked at where an object is not one of this version.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SiteKindName {
    None,
    Venue,
    Grid,
    Compound,
    Institution,
}

/// 64 bits as decimal text.
struct Digits(u64);

impl Serialize for Digits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Digits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit number as decimal text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digits, E> {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.then(|| text.parse().ok()).flatten();
                number
                    .map(Digits)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The JSON form of a scan.
///
/// # Errors
/// [`CodecError::Malformed`] never happens for a scan; the signature is that of the other form.
pub fn encode(scan: &Scan) -> Result<Vec<u8>, CodecError> {
    let fields = Fields {
        version: VERSION,
        scan_id: Uuid::from_u128(scan.scan_id.0),
        person: Digits(scan.person.0),
        kind: scan.kind,
        site_kind: match scan.site.map(|site| site.kind) {
            None => SiteKindName::None,
            Some(SiteKind::Venue) => SiteKindName::Venue,
            Some(SiteKind::Grid) => SiteKindName::Grid,
            Some(SiteKind::Compound) => SiteKindName::Compound,
            Some(SiteKind::Institution) => SiteKindName::Institution,
        },
        site: scan.site.map_or(0, |site| site.id.0),
        checkpoint: scan.checkpoint,
        region: scan.region,
        venue_type: scan.venue_type,
        direction: scan.direction,
        band: scan.band,
        decidegrees: scan.decidegrees,
        colour: scan.shown.colour.0,
        categories: scan.shown.categories.0,
        status_version: scan.shown.version,
        disposition: scan.disposition,
        sex: scan.sex,
        birth_year: scan.birth_year,
        carrier: scan.carrier,
        operator: Digits(scan.operator),
        event_time: scan.event_time.0,
        received_at: scan.received_at.0,
        corrects: scan.corrects.map(|id| Uuid::from_u128(id.0)),
        party: scan.party.map(Uuid::from_u128),
        synthetic: scan.synthetic,
    };
    let mut bytes = Vec::with_capacity(768);
    serde_json::to_writer(&mut bytes, &fields).map_err(malformed)?;
    Ok(bytes)
}

/// The scan of a JSON form. Nothing else may be in the object, or behind it.
pub fn decode(bytes: &[u8]) -> Result<Scan, CodecError> {
    // Checked once as a whole, not field by field.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(malformed("not UTF-8"));
    };
    match serde_json::from_str::<Fields>(text) {
        Ok(fields) if fields.version == VERSION => scan_of(fields),
        Ok(Fields { version, .. }) => Err(refuse_version(version)),
        Err(_) => Err(explain(bytes)),
    }
}

fn scan_of(fields: Fields) -> Result<Scan, CodecError> {
    let kind = match fields.site_kind {
        SiteKindName::None => None,
        SiteKindName::Venue => Some(SiteKind::Venue),
        SiteKindName::Grid => Some(SiteKind::Grid),
        SiteKindName::Compound => Some(SiteKind::Compound),
        SiteKindName::Institution => Some(SiteKind::Institution),
    };
    if kind.is_none() && fields.site != 0 {
        return Err(malformed("site: must be 0 where site_kind is none"));
    }
    Ok(Scan {
        scan_id: ScanId(fields.scan_id.as_u128()),
        person: PersonId(fields.person.0),
        kind: fields.kind,
        site: kind.map(|kind| SiteRef {
            kind,
            id: SiteId(fields.site),
        }),
        checkpoint: fields.checkpoint,
        region: fields.region,
        venue_type: fields.venue_type,
        direction: fields.direction,
        band: fields.band,
        decidegrees: fields.decidegrees,
        shown: ShownStatus {
            colour: Colour(fields.colour),
            categories: CategorySet(fields.categories),
            version: fields.status_version,
        },
        disposition: fields.disposition,
        sex: fields.sex,
        birth_year: fields.birth_year,
        carrier: fields.carrier,
        operator: fields.operator.0,
        event_time: Timestamp(fields.event_time),
        received_at: Timestamp(fields.received_at),
        corrects: fields.corrects.map(|id| ScanId(id.as_u128())),
        party: fields.party.map(|id| id.as_u128()),
        synthetic: fields.synthetic,
    })
}

/// Why bytes are not a scan of this version: a newer one may have other fields, so the version is looked at first (INV-10).
#[cold]
fn explain(bytes: &[u8]) -> CodecError {
    if let Ok(VersionOnly { version }) = serde_json::from_slice(bytes)
        && version != VERSION
    {
        return refuse_version(version);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, Fields>(&mut reader) {
        Err(error) => malformed(error),
        Ok(_) => malformed("more follows the object"),
    }
}

fn refuse_version(version: u32) -> CodecError {
    if version > VERSION {
        return CodecError::NewerVersion {
            found: version,
            known: VERSION,
        };
    }
    malformed(format!("version {version} was never written"))
}

fn malformed(reason: impl fmt::Display) -> CodecError {
    CodecError::Malformed {
        reason: reason.to_string(),
    }
}
