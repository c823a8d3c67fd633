//! Draws scans from a profile: who, where, when, how.

use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scan_model::time::HOUR_MS;
use scan_model::{ScanKind, Timestamp};
use serde_json::{Value, json};

use crate::profile::Profile;
use crate::world::World;

/// A scan to be sent, and what of it a check compares.
#[derive(Debug, Clone)]
pub struct DrawnScan {
    /// The body.
    pub body: Value,
    /// Its kind.
    pub kind: ScanKind,
    /// The venue, where it happens at one.
    pub venue: Option<u32>,
    /// When it happens.
    pub time: Timestamp,
}

/// Draws scans.
pub struct Traffic {
    random: ChaCha8Rng,
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
            by_share: WeightedIndex::new(profile.venues.iter().map(|v| v.share))?,
            venues,
            hours,
            grids: world.grids.iter().map(|(id, ..)| *id).collect(),
            compounds: world.compounds.iter().map(|(id, ..)| *id).collect(),
            codes,
            profile,
        })
    }

    /// Some holder's code.
    pub fn code(&mut self) -> &str {
        let index = self.random.random_range(0..self.codes.len());
        &self.codes[index]
    }

    /// A scan that happens now.
    pub fn draw_now(&mut self, now: Timestamp) -> DrawnScan {
        let kind = self.by_share.sample(&mut self.random);
        self.draw(kind, now)
    }

    /// A scan of the day that `now` belongs to, at an hour of its venue type's shape; `None` where it would lie ahead.
    pub fn draw_today(&mut self, now: Timestamp) -> Option<DrawnScan> {
        let kind = self.by_share.sample(&mut self.random);
        let hour = self.hours[kind].sample(&mut self.random) as i64;
        let within = self.random.random_range(0..HOUR_MS);
        let time = now.day_start().plus_ms(hour * HOUR_MS + within);
        (time <= now).then(|| self.draw(kind, time))
    }

    fn draw(&mut self, venue_kind: usize, time: Timestamp) -> DrawnScan {
        let venues = &self.venues[venue_kind];
        let venue = venues[self.random.random_range(0..venues.len())];
        let code = self.codes[self.random.random_range(0..self.codes.len())].clone();
        let mut body = json!({
            "scan_id": new_id(&mut self.random, Timestamp::now()),
            "code": code,
            "time": time.to_rfc3339(),
            "synthetic": true,
        });
        let profile = &self.profile;
        let shares = [
            (ScanKind::QuickCheckIn, profile.quick_check_in_share),
            (ScanKind::Display, profile.display_share),
            (ScanKind::GridCollection, profile.grid_collection_share),
            (ScanKind::CompoundPass, profile.compound_pass_share),
        ];
        let mut roll = self.random.random_range(0.0..1.0);
        let kind = shares.iter().find_map(|(kind, share)| {
            roll -= share;
            (roll < 0.0).then_some(*kind)
        });
        let kind = kind.unwrap_or(ScanKind::TemperatureScreening);
        body["kind"] = json!(kind);
        let mut at_venue = None;
        match kind {
            ScanKind::GridCollection => {
                body["grid"] = json!(self.grids[self.random.random_range(0..self.grids.len())]);
            }
            ScanKind::CompoundPass => {
                body["compound"] =
                    json!(self.compounds[self.random.random_range(0..self.compounds.len())]);
            }
            _ => {
                body["venue"] = json!(venue);
                body["checkpoint"] = json!(self.random.random_range(1..=2));
                at_venue = Some(venue);
            }
        }
        if matches!(
            kind,
            ScanKind::TemperatureScreening | ScanKind::GridCollection
        ) {
            let is_fever = self.random.random_bool(self.profile.fever_rate);
            let (band, base) = if is_fever {
                ("fever", 375)
            } else {
                ("normal", 361)
            };
            let celsius = f64::from(base + self.random.random_range(0..8)) / 10.0;
            body["temperature"] = json!({ "band": band, "celsius": celsius });
        }
        if kind == ScanKind::TemperatureScreening {
            let is_exit = self.random.random_bool(self.profile.exit_share);
            body["direction"] = json!(if is_exit { "out" } else { "in" });
        }
        DrawnScan {
            body,
            kind,
            venue: at_venue,
            time,
        }
    }
}

/// A UUID of version 7 with drawn random bits.
pub fn new_id(random: &mut impl Rng, now: Timestamp) -> String {
    let bytes: [u8; 10] = random.random();
    uuid::Builder::from_unix_timestamp_millis(now.0.max(0) as u64, &bytes)
        .into_uuid()
        .to_string()
}
