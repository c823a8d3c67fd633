//! Who and what is scanned, and what of each scan must be counted.

use std::fmt::Write;
use std::sync::Arc;

use loadtest::client::Client;
use loadtest::population::{Population, SyntheticPerson};
use loadtest::profile::Profile;
use loadtest::setup::import;
use loadtest::world::World;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scan_model::scan::{Carrier, Direction, Disposition, ShownStatus, TemperatureBand};
use scan_model::time::HOUR_MS;
use scan_model::{
    CategorySet, Colour, PersonId, Scan, ScanId, ScanKind, Sex, SiteId, SiteKind, SiteRef,
    Timestamp, VenueType,
};
use serde_json::{Value, json};

use super::Cluster;

/// Whose secret sends the scans.
pub const CALLER: &str = "synthetic-load";
/// Synthetic people of each cluster.
const PEOPLE: u32 = 2_000;
/// One in so many is red.
const RED_ONE_IN: usize = 25;

struct Person {
    id: PersonId,
    code: String,
    sex: Sex,
    birth_year: u16,
    is_red: bool,
}

struct Place {
    site: SiteRef,
    region: u32,
    venue_type: VenueType,
}

/// People and places as ingest knows them.
pub struct Setting {
    people: Vec<Person>,
    venues: Vec<Place>,
    grids: Vec<Place>,
    compounds: Vec<Place>,
    operator: u64,
}

impl Setting {
    /// Enrols people, imports places, issues codes, makes some red: through one node, known to all.
    pub async fn set_up(cluster: &Cluster, feed: &mut Client, seed: u64) -> Arc<Self> {
        let profile = Profile::guangdong_weekday().unwrap();
        let world = World::new(seed, &profile, PEOPLE);
        let forms = world.venue_forms();
        import(feed, "/v1/venues:import", &forms, |_, _| {})
            .await
            .unwrap();
        let forms = World::site_forms(&world.grids);
        import(feed, "/v1/grids:import", &forms, |_, _| {})
            .await
            .unwrap();
        let forms = World::site_forms(&world.compounds);
        import(feed, "/v1/compounds:import", &forms, |_, _| {})
            .await
            .unwrap();
        let sites = |kind, places: &[(u32, u32, String)]| -> Vec<Place> {
            let place = |(id, region, _): &(u32, u32, String)| Place {
                site: SiteRef {
                    kind,
                    id: SiteId(*id),
                },
                region: *region,
                venue_type: VenueType::Unspecified,
            };
            places.iter().map(place).collect()
        };
        let venue = |venue: &loadtest::world::SyntheticVenue| Place {
            site: SiteRef {
                kind: SiteKind::Venue,
                id: SiteId(venue.id),
            },
            region: venue.region,
            venue_type: venue.venue_type,
        };
        Arc::new(Self {
            people: enrol(feed, seed).await,
            venues: world.venues.iter().map(venue).collect(),
            grids: sites(SiteKind::Grid, &world.grids),
            compounds: sites(SiteKind::Compound, &world.compounds),
            operator: cluster.person_key().hash_text("operator", CALLER),
        })
    }

    /// How many people there are.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// How many of them are red.
    pub fn red(&self) -> usize {
        self.people.iter().filter(|person| person.is_red).count()
    }

    /// A scan's body as it is sent, and the scan as it is to be counted. It corrects an earlier one where that is given.
    pub fn draw(&self, random: &mut ChaCha8Rng, corrected: Option<&Scan>) -> (String, Scan) {
        let index = random.random_range(0..self.people.len());
        let person = &self.people[index];
        let kind = match random.random_range(0..20) {
            0..11 => ScanKind::TemperatureScreening,
            11..15 => ScanKind::QuickCheckIn,
            15 => ScanKind::Display,
            16..18 => ScanKind::GridCollection,
            _ => ScanKind::CompoundPass,
        };
        let places = match kind {
            ScanKind::GridCollection => &self.grids,
            ScanKind::CompoundPass => &self.compounds,
            _ => &self.venues,
        };
        let place = &places[random.random_range(0..places.len())];
        let now = Timestamp::now();
        // Most scans are sent as they happen; some waited on a phone.
        let age_ms = match random.random_range(0..10) {
            0 => random.random_range(0..5 * HOUR_MS),
            _ => random.random_range(0..20_000),
        };
        let made = uuid::Builder::from_unix_timestamp_millis(now.0 as u64, &random.random());
        let mut scan = Scan {
            scan_id: ScanId(made.into_uuid().as_u128()),
            person: person.id,
            kind,
            site: Some(place.site),
            checkpoint: 0,
            region: place.region,
            venue_type: place.venue_type,
            direction: Direction::Unknown,
            band: TemperatureBand::NotTaken,
            decidegrees: None,
            shown: ShownStatus {
                colour: if person.is_red {
                    Colour::RED
                } else {
                    Colour::GREEN
                },
                categories: CategorySet::EMPTY,
                version: 0,
            },
            disposition: if person.is_red && kind != ScanKind::Display {
                Disposition::Refused
            } else {
                Disposition::Admitted
            },
            sex: person.sex,
            birth_year: Some(person.birth_year),
            carrier: Carrier::AppCode,
            operator: if kind == ScanKind::QuickCheckIn {
                0
            } else {
                self.operator
            },
            event_time: now.plus_ms(-age_ms),
            received_at: now,
            corrects: corrected.map(|scan| scan.scan_id),
            party: None,
            synthetic: true,
        };
        let mut body = format!(
            r#"{{"scan_id":"{}","kind":"{}","code":"{}","time":"{}","{}":{}"#,
            scan.scan_id,
            kind.name(),
            person.code,
            scan.event_time.to_rfc3339(),
            place.site.kind.name(),
            place.site.id.0,
        );
        if kind == ScanKind::TemperatureScreening {
            let is_fever = random.random_ratio(1, 50);
            scan.band = if is_fever {
                TemperatureBand::Fever
            } else {
                TemperatureBand::Normal
            };
            scan.direction = if random.random_bool(0.4) {
                Direction::Out
            } else {
                Direction::In
            };
            let (band, direction) = (scan.band.name(), scan.direction.name());
            let _ = write!(
                body,
                r#","temperature":{{"band":"{band}"}},"direction":"{direction}""#
            );
        }
        if let Some(corrected) = corrected {
            let _ = write!(body, r#","corrects":"{}""#, corrected.scan_id);
        }
        body.push('}');
        (body, scan)
    }
}

async fn enrol(feed: &mut Client, seed: u64) -> Vec<Person> {
    let year = Timestamp::now().shanghai_year() as u16;
    let mut population = Population::new(seed, year).unwrap();
    let drawn: Vec<_> = (0..PEOPLE).map(|_| population.draw()).collect();
    let forms: Vec<Value> = drawn.iter().map(SyntheticPerson::enrolment).collect();
    let answers = import(feed, "/v1/persons:import", &forms, |_, _| {})
        .await
        .unwrap();
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["person"]).collect();
    let requests: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "person": id, "form": "app" }))
        .collect();
    let codes = import(feed, "/v1/codes", &requests, |_, _| {})
        .await
        .unwrap();
    // Two draws may by chance be one document; the first is the person.
    let is_first = |index: usize| !ids[..index].contains(&ids[index]);
    let is_red = |index: usize| index.is_multiple_of(RED_ONE_IN) && is_first(index);
    let fact = |(index, id): (usize, &&Value)| {
        json!({
            "person": id, "category": "close_contact", "source": "test",
            "reference": format!("{index}"), "effective": "2026-01-01T00:00:00+08:00",
        })
    };
    let red = ids.iter().enumerate().filter(|(index, _)| is_red(*index));
    let facts: Vec<Value> = red.map(fact).collect();
    import(feed, "/v1/facts:import", &facts, |_, _| {})
        .await
        .unwrap();
    let person = |(index, drawn): (usize, &SyntheticPerson)| Person {
        id: ids[index].as_str().expect("an id").parse().unwrap(),
        code: codes[index]["code"].as_str().expect("a code").to_owned(),
        sex: if drawn.sex == "male" {
            Sex::Male
        } else {
            Sex::Female
        },
        birth_year: drawn.birth_year,
        is_red: is_red(index),
    };
    let people = drawn.iter().enumerate();
    people
        .filter(|(index, _)| is_first(*index))
        .map(person)
        .collect()
}
