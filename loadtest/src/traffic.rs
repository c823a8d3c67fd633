//! Draws scans from a profile: who, where, when, how.

use std::sync::Arc;

use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scan_model::time::HOUR_MS;
use scan_model::{ScanKind, Timestamp};
use serde::Serialize;

use crate::profile::Profile;
use crate::world::World;

/// A scan to be sent.
#[derive(Debug, Clone)]
pub struct DrawnScan {
    /// The body, JSON.
    pub body: String,
    /// What of it a check compares.
    pub counted: CountedScan,
}

/// What of a scan a check compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedScan {
    /// Its kind.
    pub kind: ScanKind,
    /// The venue, where it happens at one.
    pub venue: Option<u32>,
    /// When it happens.
    pub time: Timestamp,
}

/// A scan's body; what does not belong to its kind is left out.
#[derive(Serialize, Default)]
struct Body<'a> {
    scan_id: String,
    code: &'a str,
    time: String,
    kind: Option<ScanKind>,
    synthetic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    venue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compound: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Temperature>,
}

#[derive(Serialize)]
struct Temperature {
    band: &'static str,
    celsius: f64,
}

/// Draws scans. Cheap to [fork](Self::fork), so that every sender draws for itself.
pub struct Traffic {
    random: ChaCha8Rng,
    setting: Arc<TrafficSetting>,
}

struct TrafficSetting {
    profile: Profile,
    by_share: WeightedIndex<f64>,
    /// Venue ids by the profile's types.
    venues: Vec<Vec<u32>>,
    hours: Vec<WeightedIndex<u32>>,
    grids: Vec<u32>,
    compounds: Vec<u32>,
    codes: Vec<String>,
}

impl Traffic {
    /// Traffic of the holders of some codes.
    ///
    /// # Errors
    /// Where the profile gives no hour or venue any weight.
    pub fn new(
        seed: u64,
        profile: Profile,
        world: &World,
        codes: Vec<String>,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(!codes.is_empty(), "there is nobody to scan");
        let venues_of = |kind| {
            world
                .venues
                .iter()
                .filter(|v| v.venue_type == kind)
                .map(|v| v.id)
                .collect::<Vec<_>>()
        };
        let venues = profile
            .venues
            .iter()
            .map(|v| venues_of(v.venue_type))
            .collect();
        let hours = profile
            .venues
            .iter()
            .map(|v| WeightedIndex::new(v.hours))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            random: ChaCha8Rng::seed_from_u64(seed ^ 0x007A_FF1C),
            setting: Arc::new(TrafficSetting {
                by_share: WeightedIndex::new(profile.venues.iter().map(|v| v.share))?,
                venues,
                hours,
                grids: world.grids.iter().map(|(id, ..)| *id).collect(),
                compounds: world.compounds.iter().map(|(id, ..)| *id).collect(),
                codes,
                profile,
            }),
        })
    }

    /// Traffic of the same people and places, drawn independently from here on.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self {
            random: ChaCha8Rng::from_rng(&mut self.random),
            setting: Arc::clone(&self.setting),
        }
    }

    /// Some holder's code.
    pub fn code(&mut self) -> &str {
        pick::<String>(&mut self.random, &self.setting.codes)
    }

    /// A scan that happens now.
    pub fn draw_now(&mut self, now: Timestamp) -> DrawnScan {
        let kind = self.setting.by_share.sample(&mut self.random);
        self.draw(kind, now)
    }

    /// A scan of the day that `now` belongs to, at an hour of its venue type's shape; `None` where it would lie ahead.
    pub fn draw_today(&mut self, now: Timestamp) -> Option<DrawnScan> {
        let kind = self.setting.by_share.sample(&mut self.random);
        let hour = self.setting.hours[kind].sample(&mut self.random) as i64;
        let within = self.random.random_range(0..HOUR_MS);
        let time = now.day_start().plus_ms(hour * HOUR_MS + within);
        (time <= now).then(|| self.draw(kind, time))
    }

    fn draw(&mut self, venue_kind: usize, time: Timestamp) -> DrawnScan {
        let Self { random, setting } = self;
        let profile = &setting.profile;
        let venue = *pick(random, &setting.venues[venue_kind]);
        let code = pick(random, &setting.codes);
        let kind = draw_kind(random, profile);
        let mut body = Body {
            scan_id: new_id(random, Timestamp::now()),
            code,
            time: time.to_rfc3339(),
            kind: Some(kind),
            synthetic: true,
            ..Body::default()
        };
        match kind {
            ScanKind::GridCollection => body.grid = Some(*pick(random, &setting.grids)),
            ScanKind::CompoundPass => body.compound = Some(*pick(random, &setting.compounds)),
            _ => {
                body.venue = Some(venue);
                body.checkpoint = Some(random.random_range(1..=2));
            }
        }
        if matches!(
            kind,
            ScanKind::TemperatureScreening | ScanKind::GridCollection
        ) {
            let is_fever = random.random_bool(profile.fever_rate);
            let (band, base) = if is_fever {
                ("fever", 375)
            } else {
                ("normal", 361)
            };
            let celsius = f64::from(base + random.random_range(0..8)) / 10.0;
            body.temperature = Some(Temperature { band, celsius });
        }
        if kind == ScanKind::TemperatureScreening {
            let is_exit = random.random_bool(profile.exit_share);
            body.direction = Some(if is_exit { "out" } else { "in" });
        }
        DrawnScan {
            counted: CountedScan {
                kind,
                venue: body.venue,
                time,
            },
            // A body of numbers and strings always has a JSON form.
            body: serde_json::to_string(&body).unwrap_or_default(),
        }
    }
}

fn pick<'a, T>(random: &mut ChaCha8Rng, among: &'a [T]) -> &'a T {
    &among[random.random_range(0..among.len())]
}

fn draw_kind(random: &mut ChaCha8Rng, profile: &Profile) -> ScanKind {
    let shares = [
        (ScanKind::QuickCheckIn, profile.quick_check_in_share),
        (ScanKind::Display, profile.display_share),
        (ScanKind::GridCollection, profile.grid_collection_share),
        (ScanKind::CompoundPass, profile.compound_pass_share),
    ];
    let mut roll = random.random_range(0.0..1.0);
    let kind = shares.iter().find_map(|(kind, share)| {
        roll -= share;
        (roll < 0.0).then_some(*kind)
    });
    kind.unwrap_or(ScanKind::TemperatureScreening)
}

/// A UUID of version 7 with drawn random bits.
pub fn new_id(random: &mut impl Rng, now: Timestamp) -> String {
    let bytes: [u8; 10] = random.random();
    uuid::Builder::from_unix_timestamp_millis(now.0.max(0) as u64, &bytes)
        .into_uuid()
        .to_string()
}
