//! How long a scan takes to decode from each wire form: `cargo run --release -p scan-model --example decode_speed`.

use std::hint::black_box;
use std::time::Instant;

use scan_model::codec::{self, CodecError, ScanFormat};
use scan_model::scan::{Carrier, Direction, Disposition, ShownStatus, TemperatureBand};
use scan_model::{
    CategorySet, Colour, PersonId, Scan, ScanId, ScanKind, Sex, SiteId, SiteKind, SiteRef,
    Timestamp, VenueType,
};

const SCANS: u64 = 1_000;
const ROUNDS: u64 = 1_000;

fn scan(number: u64) -> Scan {
    Scan {
        scan_id: ScanId(0x019A_A5B0_0000_7000_8000_0000_0000_0000 | u128::from(number)),
        person: PersonId(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        kind: ScanKind::TemperatureScreening,
        site: Some(SiteRef {
            kind: SiteKind::Venue,
            id: SiteId(number as u32 % 30_000),
        }),
        checkpoint: 2,
        region: 440_106_003,
        venue_type: VenueType::ALL[number as usize % 16],
        direction: Direction::In,
        band: TemperatureBand::Normal,
        decidegrees: Some(365),
        shown: ShownStatus {
            colour: Colour::GREEN,
            categories: CategorySet::EMPTY,
            version: 3,
        },
        disposition: Disposition::Admitted,
        sex: Sex::Female,
        birth_year: Some(1990),
        carrier: Carrier::AppCode,
        operator: number.wrapping_mul(0xD1B5_4A32_D192_ED03),
        event_time: Timestamp(1_641_772_800_000 + number as i64),
        received_at: Timestamp(1_641_772_800_250 + number as i64),
        corrects: None,
        party: None,
        synthetic: true,
    }
}

fn main() -> Result<(), CodecError> {
    for format in [ScanFormat::Json, ScanFormat::Bincode] {
        let mut records = Vec::new();
        for number in 0..SCANS {
            records.push(format.encode(&scan(number))?);
        }
        let bytes: usize = records.iter().map(Vec::len).sum();
        let started = Instant::now();
        for _ in 0..ROUNDS {
            for record in &records {
                black_box(codec::decode::<Scan>(black_box(record))?);
            }
        }
        let each = started.elapsed().as_nanos() as u64 / (SCANS * ROUNDS);
        println!(
            "{format:?}: {each} ns a scan of {} bytes",
            bytes as u64 / SCANS
        );
    }
    Ok(())
}
