//! What `make bench-aggregator` needs besides the program: topics filled with scans, and a database with the schema.
//!
//! ```text
//! bench_aggregator fill <scans> <partitions> <json bootstrap> <bincode bootstrap>
//! bench_aggregator schema <ClickHouse URL> <database>
//! ```
//!
//! Both topics get the same scans, each partition in the same order. A seed fixes all but the times.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use event_log::kafka::KafkaOptions;
use event_log::{KafkaLog, Record, SharedLog, partition_for};
use ingest::topics::{self, Retention, SCANS};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scan_model::codec::ScanFormat;
use scan_model::scan::{Carrier, Direction, Disposition, ShownStatus, TemperatureBand};
use scan_model::{
    Category, CategorySet, Colour, PersonId, Scan, ScanId, ScanKind, Sex, SiteId, SiteKind,
    SiteRef, Timestamp, VenueType,
};
use warehouse::{Store, StoreConfig, schema};

const SEED: u64 = 20_220_110;
const PERSONS: u64 = 2_000_000;
const VENUES: u32 = 30_000;
const GRIDS: u32 = 5_000;
const COMPOUNDS: u32 = 8_000;
/// Scans drawn before they are appended.
const CHUNK: u64 = 20_000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["fill", scans, partitions, json, bincode] => {
            fill(scans.parse()?, partitions.parse()?, json, bincode).await
        }
        ["schema", url, database] => {
            let store = Store::new(&StoreConfig {
                url: url.into(),
                database: database.into(),
                user: None,
                password: None,
            });
            schema::migrate(&store).await?;
            Ok(())
        }
        _ => bail!("usage: fill <scans> <partitions> <json> <bincode> | schema <url> <database>"),
    }
}

async fn fill(scans: u64, partitions: u32, json: &str, bincode: &str) -> Result<()> {
    let connect = |bootstrap: &str| -> Result<SharedLog> {
        let topics = topics::all(partitions, Retention::default());
        Ok(Arc::new(KafkaLog::connect(
            KafkaOptions::new(bootstrap),
            topics,
        )?))
    };
    let logs = [
        (connect(json)?, ScanFormat::Json),
        (connect(bincode)?, ScanFormat::Bincode),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut sizes = [0_usize; 2];
    let mut drawn = 0;
    while drawn < scans {
        let count = CHUNK.min(scans - drawn);
        let chunk: Vec<Scan> = (0..count).map(|_| draw(&mut random)).collect();
        drawn += count;
        let mut appends = Vec::new();
        for ((log, format), size) in logs.iter().zip(&mut sizes) {
            let mut records = vec![Vec::new(); partitions as usize];
            for scan in &chunk {
                let value = format.encode(scan)?;
                *size += value.len();
                let record = Record::keyed(scan.person.0.to_be_bytes().to_vec(), value);
                records[partition_for(scan.person.0, partitions) as usize].push(record);
            }
            for (partition, records) in records.into_iter().enumerate() {
                if !records.is_empty() {
                    appends.push(log.append(SCANS, partition as u32, records));
                }
            }
        }
        futures::future::try_join_all(appends)
            .await
            .context("append")?;
    }
    let [json, bincode] = sizes.map(|size| size as u64 / scans.max(1));
    println!(
        "{scans} scans in {partitions} partitions: {json} bytes each as JSON, {bincode} as bincode"
    );
    Ok(())
}

/// One scan of a busy hour: some venues are far busier than others, a hundredth shows a fever, a two-hundredth a red code.
fn draw(random: &mut ChaCha8Rng) -> Scan {
    let received_at = Timestamp::now();
    let event_time = received_at.plus_ms(-random.random_range(0..3_000));
    let id =
        uuid::Builder::from_unix_timestamp_millis(event_time.0.max(0) as u64, &random.random());
    let (kind, site_kind, sites) = match random.random_range(0..100) {
        0..45 => (ScanKind::QuickCheckIn, Some(SiteKind::Venue), VENUES),
        45..80 => (
            ScanKind::TemperatureScreening,
            Some(SiteKind::Venue),
            VENUES,
        ),
        80..90 => (ScanKind::CompoundPass, Some(SiteKind::Compound), COMPOUNDS),
        90..96 => (ScanKind::GridCollection, Some(SiteKind::Grid), GRIDS),
        _ => (ScanKind::Display, None, 1),
    };
    // The square of an even draw: half of the scans are at a quarter of the sites.
    let site = (random.random::<f64>().powi(2) * f64::from(sites)) as u32;
    let is_red = random.random_bool(0.005);
    let (operator, band) = match kind {
        ScanKind::QuickCheckIn | ScanKind::Display => (0, TemperatureBand::NotTaken),
        _ if random.random_bool(0.01) => (1, TemperatureBand::Fever),
        _ => (1, TemperatureBand::Normal),
    };
    // Three testers, workers or passers a site; what names them is a keyed hash.
    let operator = operator
        * (u64::from(site) * 3 + random.random_range(1..4)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let is_venue = site_kind == Some(SiteKind::Venue);
    Scan {
        scan_id: ScanId(id.into_uuid().as_u128()),
        person: PersonId(
            random
                .random_range(1..=PERSONS)
                .wrapping_mul(0xD1B5_4A32_D192_ED03),
        ),
        kind,
        site: site_kind.map(|kind| SiteRef {
            kind,
            id: SiteId(site),
        }),
        checkpoint: random.random_range(0..4),
        region: site_kind.map_or(0, |_| 440_100_000 + site % 1_700),
        venue_type: if is_venue {
            VenueType::ALL[1 + site as usize % 15]
        } else {
            VenueType::Unspecified
        },
        direction: [
            Direction::Unknown,
            Direction::In,
            Direction::In,
            Direction::Out,
        ][random.random_range(0..4)],
        band,
        decidegrees: (band != TemperatureBand::NotTaken && random.random_bool(0.5))
            .then(|| random.random_range(355..372)),
        shown: ShownStatus {
            colour: if is_red { Colour::RED } else { Colour::GREEN },
            categories: if is_red {
                CategorySet::EMPTY.with(Category::CloseContact)
            } else {
                CategorySet::EMPTY
            },
            version: random.random_range(1..9),
        },
        disposition: if is_red {
            Disposition::Refused
        } else {
            Disposition::Admitted
        },
        sex: [Sex::Male, Sex::Female][random.random_range(0..2)],
        birth_year: random
            .random_bool(0.97)
            .then(|| random.random_range(1930..2022)),
        carrier: if random.random_bool(0.9) {
            Carrier::AppCode
        } else {
            Carrier::PaperCode
        },
        operator,
        event_time,
        received_at,
        corrects: random.random_bool(0.003).then(|| ScanId(random.random())),
        party: random.random_bool(0.05).then(|| random.random()),
        synthetic: true,
    }
}
