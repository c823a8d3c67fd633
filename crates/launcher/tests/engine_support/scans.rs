//! Random scans: every kind, two ISO weeks, copies, conflicts and corrections.

use event_log::{Partition, partition_for};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scan_model::codec::ScanFormat;
use scan_model::scan::{Carrier, Direction, Disposition, ShownStatus, TemperatureBand};
use scan_model::time::DAY_MS;
use scan_model::{
    CategorySet, Colour, PersonId, Scan, ScanId, ScanKind, Sex, SiteId, SiteKind, SiteRef,
    Timestamp, VenueType,
};

/// Saturday before the second week.
const FIRST_DAY: &str = "2026-11-14";
const DAYS: i64 = 4;
const PERSONS: u64 = 300;
/// Scans that a copy or a correction may refer to.
const REMEMBERED: usize = 2_000;

/// Draws scans.
pub struct ScanSource {
    random: ChaCha8Rng,
    first_day: Timestamp,
    sent: Vec<Scan>,
}

impl ScanSource {
    pub fn new(random: ChaCha8Rng) -> Self {
        Self {
            random,
            first_day: Timestamp::parse_shanghai_date(FIRST_DAY).expect("a date"),
            sent: Vec::new(),
        }
    }

    /// The next scan: mostly a new one, now and then a copy, a conflicting copy or a correction of an earlier one.
    pub fn next(&mut self) -> Scan {
        let dice = self.random.random_range(0..100);
        let earlier = self.earlier();
        match (dice, earlier) {
            (0..6, Some(mut copy)) => {
                copy.received_at = Timestamp::now();
                copy
            }
            (6..8, Some(mut conflict)) => {
                conflict.checkpoint = conflict.checkpoint.wrapping_add(1);
                conflict
            }
            (8..16, Some(original)) => {
                let mut correction = self.new_scan();
                correction.person = original.person;
                correction.corrects = Some(original.scan_id);
                self.keep(correction)
            }
            _ => {
                let scan = self.new_scan();
                self.keep(scan)
            }
        }
    }

    /// An earlier scan, mostly a recent one.
    fn earlier(&mut self) -> Option<Scan> {
        let count = self.sent.len();
        let reach = if self.random.random_bool(0.7) {
            count.min(50)
        } else {
            count
        };
        (count > 0).then(|| self.sent[count - 1 - self.random.random_range(0..reach)].clone())
    }

    fn keep(&mut self, scan: Scan) -> Scan {
        if self.sent.len() == REMEMBERED {
            self.sent.drain(..REMEMBERED / 2);
        }
        self.sent.push(scan.clone());
        scan
    }

    fn new_scan(&mut self) -> Scan {
        let random = &mut self.random;
        let kind = ScanKind::ALL[random.random_range(0..ScanKind::ALL.len())];
        let id = random.random_range(1..6);
        let site = |kind| {
            Some(SiteRef {
                kind,
                id: SiteId(id),
            })
        };
        let (site, operator) = match kind {
            ScanKind::TemperatureScreening => (site(SiteKind::Venue), random.random_range(1..4)),
            ScanKind::QuickCheckIn => (site(SiteKind::Venue), 0),
            ScanKind::Display => (
                random
                    .random_bool(0.5)
                    .then_some(site(SiteKind::Venue))
                    .flatten(),
                0,
            ),
            ScanKind::GridCollection => (site(SiteKind::Grid), random.random_range(1..4)),
            ScanKind::CompoundPass => (site(SiteKind::Compound), random.random_range(0..3)),
            ScanKind::ReleaseNotice => (site(SiteKind::Institution), 9),
        };
        // Mostly made now; some waited on a phone for longer than the window.
        let age_ms = if random.random_bool(0.9) {
            0
        } else {
            random.random_range(0..40 * 60_000)
        };
        let made_at = Timestamp::now().0 - age_ms;
        let scan_id = uuid::Builder::from_unix_timestamp_millis(made_at as u64, &random.random());
        Scan {
            scan_id: ScanId(scan_id.into_uuid().as_u128()),
            person: PersonId(random.random_range(1..=PERSONS)),
            kind,
            site,
            checkpoint: random.random_range(0..4),
            region: site.map_or(0, |site| 440_300_000 + site.id.0),
            venue_type: if site.is_some_and(|site| site.kind == SiteKind::Venue) {
                VenueType::ALL[1 + id as usize]
            } else {
                VenueType::Unspecified
            },
            direction: [Direction::Unknown, Direction::In, Direction::Out]
                [random.random_range(0..3)],
            band: [
                TemperatureBand::NotTaken,
                TemperatureBand::Normal,
                TemperatureBand::Fever,
            ][random.random_range(0..3)],
            decidegrees: random
                .random_bool(0.5)
                .then(|| random.random_range(350..400)),
            shown: ShownStatus {
                colour: if random.random_bool(0.1) {
                    Colour::RED
                } else {
                    Colour::GREEN
                },
                categories: CategorySet::EMPTY,
                version: random.random(),
            },
            disposition: [
                Disposition::Admitted,
                Disposition::Admitted,
                Disposition::Refused,
                Disposition::Referred,
            ][random.random_range(0..4)],
            sex: [Sex::Unknown, Sex::Male, Sex::Female][random.random_range(0..3)],
            birth_year: random
                .random_bool(0.8)
                .then(|| random.random_range(1930..2026)),
            carrier: Carrier::AppCode,
            operator,
            event_time: self
                .first_day
                .plus_ms(random.random_range(0..DAYS * DAY_MS)),
            received_at: Timestamp::now(),
            corrects: None,
            party: random.random_bool(0.1).then(|| random.random()),
            synthetic: random.random_bool(0.2),
        }
    }
}

/// The log partition that a scan belongs to.
pub fn partition_of(scan: &Scan, partitions: u32) -> Partition {
    partition_for(scan.person.0, partitions)
}

/// A scan's record in the log: every topic holds both wire forms, and a copy may have the other one than the first.
pub fn record_of(scan: &Scan) -> event_log::Record {
    let format = if scan.received_at.0 % 2 == 0 {
        ScanFormat::Bincode
    } else {
        ScanFormat::Json
    };
    let value = format.encode(scan).expect("a scan has a wire form");
    event_log::Record::keyed(scan.person.0.to_le_bytes().to_vec(), value)
}
