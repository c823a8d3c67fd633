//! A scan's wire form read field by field, for people who must know where it breaks.

use std::fmt;

use bincode::Decode;

use crate::codec::{self, WireRecord};
use crate::enrolment::Sex;
use crate::scan::{
    Carrier, Direction, Disposition, Scan, ScanId, ScanKind, ShownStatus, TemperatureBand,
};
use crate::{PersonId, SiteRef, Timestamp, VenueType, scan_json};

/// What can be read of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The version byte, or the first byte of JSON; `None` of an empty value.
    pub version: Option<u8>,
    /// The fields that were read, in order. The person is a keyed hash; nothing here names anyone (INV-3).
    pub fields: Vec<(&'static str, String)>,
    /// Where reading ended too early.
    pub failure: Option<Failure>,
    /// Bytes behind the last field.
    pub trailing: usize,
}

/// The first field that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The field.
    pub field: &'static str,
    /// Where it begins, counted from the version byte.
    pub byte: usize,
    /// What is wrong.
    pub reason: String,
}

/// Reads as much of a scan as this build can. A value of another version has no fields that this build knows; JSON has all or, where
/// it is no scan, none: who knows what a stranger wrote into it.
pub fn inspect(value: &[u8]) -> Inspection {
    if value.first() == Some(&scan_json::FIRST_BYTE)
        && let Ok(scan) = codec::decode::<Scan>(value)
        && let Ok(encoded) = codec::encode(&scan)
    {
        return Inspection {
            version: Some(scan_json::FIRST_BYTE),
            ..inspect(&encoded)
        };
    }
    let mut inspection = Inspection {
        version: value.first().copied(),
        fields: Vec::new(),
        failure: None,
        trailing: 0,
    };
    if inspection.version != Some(Scan::VERSION) {
        return inspection;
    }
    let mut fields = Fields {
        value,
        at: 1,
        read: Vec::new(),
    };
    let outcome = fields.read_all();
    inspection.fields = fields.read;
    match outcome {
        Ok(()) => inspection.trailing = value.len() - fields.at,
        Err(failure) => inspection.failure = Some(failure),
    }
    inspection
}

struct Fields<'a> {
    value: &'a [u8],
    at: usize,
    read: Vec<(&'static str, String)>,
}

impl Fields<'_> {
    /// The fields in the order of [`Scan`].
    fn read_all(&mut self) -> Result<(), Failure> {
        self.shown::<ScanId>("scan_id")?;
        self.shown::<PersonId>("person")?;
        self.debugged::<ScanKind>("kind")?;
        self.debugged::<Option<SiteRef>>("site")?;
        self.shown::<u16>("checkpoint")?;
        self.shown::<u32>("region")?;
        self.debugged::<VenueType>("venue_type")?;
        self.debugged::<Direction>("direction")?;
        self.debugged::<TemperatureBand>("band")?;
        self.debugged::<Option<i16>>("decidegrees")?;
        self.debugged::<ShownStatus>("shown")?;
        self.debugged::<Disposition>("disposition")?;
        self.debugged::<Sex>("sex")?;
        self.debugged::<Option<u16>>("birth_year")?;
        self.debugged::<Carrier>("carrier")?;
        self.shown::<u64>("operator")?;
        self.shown::<Timestamp>("event_time")?;
        self.shown::<Timestamp>("received_at")?;
        self.debugged::<Option<ScanId>>("corrects")?;
        self.debugged::<Option<u128>>("party")?;
        self.shown::<bool>("synthetic")
    }

    fn shown<T: Decode<()> + fmt::Display>(&mut self, field: &'static str) -> Result<(), Failure> {
        let value: T = self.take(field)?;
        self.read.push((field, value.to_string()));
        Ok(())
    }

    fn debugged<T: Decode<()> + fmt::Debug>(&mut self, field: &'static str) -> Result<(), Failure> {
        let value: T = self.take(field)?;
        self.read.push((field, format!("{value:?}")));
        Ok(())
    }

    fn take<T: Decode<()>>(&mut self, field: &'static str) -> Result<T, Failure> {
        let rest = &self.value[self.at..];
        let (value, read) = codec::decode_part(rest).map_err(|reason| Failure {
            field,
            byte: self.at,
            reason,
        })?;
        self.at += read;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CategorySet, Colour, SiteId, SiteKind};

    fn scan() -> Scan {
        let site = SiteRef {
            kind: SiteKind::Venue,
            id: SiteId(7),
        };
        Scan {
            scan_id: ScanId(1 << 100),
            person: PersonId(0x0123_4567_89ab_cdef),
            kind: ScanKind::TemperatureScreening,
            site: Some(site),
            checkpoint: 3,
            region: 440_106_003,
            venue_type: VenueType::Unspecified,
            direction: Direction::In,
            band: TemperatureBand::Normal,
            decidegrees: Some(365),
            shown: ShownStatus {
                colour: Colour::GREEN,
                categories: CategorySet::EMPTY,
                version: 5,
            },
            disposition: Disposition::Admitted,
            sex: Sex::Female,
            birth_year: Some(1980),
            carrier: Carrier::AppCode,
            operator: 9,
            event_time: Timestamp(1_800_000_000_000),
            received_at: Timestamp(1_800_000_000_001),
            corrects: Some(ScanId(4)),
            party: Some(11),
            synthetic: true,
        }
    }

    #[test]
    fn a_whole_scan_is_read_to_its_last_byte_and_every_cut_names_a_field() {
        let whole = codec::encode(&scan()).unwrap();
        let read = inspect(&whole);
        assert_eq!((read.failure, read.trailing), (None, 0));
        assert_eq!(read.fields[1], ("person", "0123456789abcdef".into()));
        assert_eq!(read.fields.last().unwrap(), &("synthetic", "true".into()));
        for length in 1..whole.len() {
            let cut = inspect(&whole[..length]);
            let failure = cut.failure.unwrap();
            assert_eq!(failure.field, read.fields[cut.fields.len()].0);
            assert!(failure.byte <= length);
        }
        let longer = [whole.as_slice(), b"!!"].concat();
        assert_eq!(inspect(&longer).trailing, 2);
    }

    #[test]
    fn json_is_read_whole_or_not_at_all() {
        let json = scan_json::encode(&scan()).unwrap();
        let fields = inspect(&codec::encode(&scan()).unwrap()).fields;
        assert_eq!(inspect(&json).fields, fields);
        let cut = inspect(&json[..json.len() - 1]);
        assert_eq!((cut.version, cut.fields.len()), (Some(b'{'), 0));
    }

    #[test]
    fn a_field_with_an_impossible_value_is_named() {
        let mut value = codec::encode(&scan()).unwrap();
        let kind_at = inspect(&value[..1 + 17 + 9]).failure.unwrap().byte;
        value[kind_at] = 200;
        let failure = inspect(&value).failure.unwrap();
        assert_eq!((failure.field, failure.byte), ("kind", kind_at));
    }

    #[test]
    fn another_version_has_no_fields() {
        for value in [&[][..], &[0, 1], &[2, 1, 2, 3]] {
            let read = inspect(value);
            assert_eq!(read.version, value.first().copied());
            assert!(read.fields.is_empty() && read.failure.is_none());
        }
    }
}
