//! A scan with every field set, which the wire forms' vectors are of. It never changes.

use scan_model::scan::{Carrier, Direction, Disposition, ShownStatus, TemperatureBand};
use scan_model::{
    Category, CategorySet, Colour, PersonId, Scan, ScanId, ScanKind, Sex, SiteId, SiteKind,
    SiteRef, Timestamp, VenueType,
};

/// The person of the vectors.
pub const PERSON: PersonId = PersonId(0x0123_4567_89AB_CDEF);

pub fn scan() -> Scan {
    Scan {
        scan_id: ScanId(0x019A_A5B0_0000_7000_8000_0000_0000_0001),
        person: PERSON,
        kind: ScanKind::TemperatureScreening,
        site: Some(SiteRef {
            kind: SiteKind::Venue,
            id: SiteId(42),
        }),
        checkpoint: 2,
        region: 440_106_003,
        venue_type: VenueType::Mall,
        direction: Direction::In,
        band: TemperatureBand::Fever,
        decidegrees: Some(381),
        shown: ShownStatus {
            colour: Colour::RED,
            categories: CategorySet::EMPTY.with(Category::CloseContact),
            version: 3,
        },
        disposition: Disposition::Referred,
        sex: Sex::Female,
        birth_year: Some(1990),
        carrier: Carrier::PaperCode,
        operator: 7,
        event_time: Timestamp(1_641_772_800_000),
        received_at: Timestamp(1_641_772_800_250),
        corrects: Some(ScanId(0x019A_A5B0_0000_7000_8000_0000_0000_0002)),
        party: Some(9),
        synthetic: true,
    }
}
