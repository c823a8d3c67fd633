//! People, places and scans for the exactly-once test: brought in over HTTP, and everything about them known to the test.

use std::collections::HashSet;

use loadtest::client::Client;
use loadtest::population::Population;
use loadtest::profile::Profile;
use loadtest::setup::import;
use loadtest::traffic::new_id;
use loadtest::world::World;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use scan_model::{PersonKey, Timestamp};
use serde_json::{Value, json};

use crate::support::Place;
use crate::tally::{DAY_MS, HOUR_MS, Sent, day_of, hour_of};

/// The callers that send scans: every kind, screenings and displays, collections in grids.
pub const CALLERS: [&str; 3] = ["synthetic-load", "tester", "grid-worker"];
/// How many days ago the oldest scan happened.
pub const OLDEST_DAYS: i64 = 28;

pub struct Person {
    pub id: String,
    code: String,
    document: Value,
    sex: &'static str,
    birth_year: Option<i64>,
    pub is_red: bool,
}

pub struct Site {
    pub id: u32,
    pub region: u32,
    venue_type: String,
}

/// A scan that is to be sent, byte for byte the same each time.
#[derive(Clone)]
pub struct Draft {
    pub sent: Sent,
    pub caller: usize,
    pub text: String,
}

/// Draws scans of the people and places that it brought in.
pub struct Drawing {
    pub persons: Vec<Person>,
    pub venues: Vec<Site>,
    pub grids: Vec<Site>,
    pub compounds: Vec<Site>,
    workers: Vec<u64>,
    random: ChaCha8Rng,
    /// Every scan drawn so far, by its number.
    drawn: Vec<Sent>,
    corrections: Vec<usize>,
    taken: HashSet<(String, i64)>,
}

impl Drawing {
    /// Enrols people, imports places, issues codes, and makes one in twenty red.
    pub async fn set_up(place: &Place, seed: u64, random: ChaCha8Rng, people: u32) -> Self {
        let mut feed = place.caller("synthetic-feed");
        let profile = Profile::guangdong_weekday().expect("the profile");
        let world = World::new(seed, &profile, people);
        let mut venue_forms = world.venue_forms();
        // Sites may be known only to their district or city.
        for (index, form) in venue_forms.iter_mut().enumerate() {
            let township = form["region"].as_u64().expect("a region");
            match index % 6 {
                4 => form["region"] = json!(township / 1000),
                5 => form["region"] = json!(township / 100_000 * 100),
                _ => {}
            }
        }
        let venues = sites(&mut feed, "/v1/venues:import", &venue_forms).await;
        let forms = World::site_forms(&world.grids);
        let grids = sites(&mut feed, "/v1/grids:import", &forms).await;
        let forms = World::site_forms(&world.compounds);
        let compounds = sites(&mut feed, "/v1/compounds:import", &forms).await;
        let persons = enrol(&mut feed, seed, people).await;
        let secret = std::fs::read_to_string(place.data().join("keys/person.key")).expect("a key");
        let bytes: Vec<u8> = (0..32)
            .map(|n| u8::from_str_radix(&secret[n * 2..n * 2 + 2], 16).expect("hexadecimal"))
            .collect();
        let key = PersonKey::new(&bytes.try_into().expect("32 bytes"));
        let mut drawing = Self {
            persons,
            venues,
            grids,
            compounds,
            workers: CALLERS.map(|name| key.hash_text("operator", name)).to_vec(),
            random,
            drawn: Vec::new(),
            corrections: Vec::new(),
            taken: HashSet::new(),
        };
        drawing.make_red(&mut feed, people as usize / 20).await;
        drawing
    }

    /// Makes some more people red; scans drawn from now on know it.
    pub async fn make_red(&mut self, feed: &mut Client, count: usize) {
        let categories = [
            "close_contact",
            "home_isolation",
            "positive_test",
            "confirmed",
        ];
        let since = Timestamp(Timestamp::now().0 - 60 * DAY_MS).to_rfc3339();
        let mut facts = Vec::new();
        for number in 0..count {
            let index = self.random.random_range(0..self.persons.len());
            let person = &mut self.persons[index];
            person.is_red = true;
            facts.push(json!({
                "person": person.id, "category": categories[number % categories.len()],
                "source": "test", "reference": format!("{number}"), "effective": since,
            }));
        }
        import(feed, "/v1/facts:import", &facts, |_, _| {})
            .await
            .expect("facts");
    }

    /// Every scan drawn so far, by number.
    pub fn drawn(&self) -> &[Sent] {
        &self.drawn
    }

    /// So many scans; one in a thousand corrects an earlier one.
    pub fn draw(&mut self, count: usize) -> Vec<Draft> {
        let first = self.drawn.len();
        let corrections = (count / 1000).max(6);
        let mut drafts: Vec<Draft> = (0..count - corrections)
            .map(|_| self.draw_one(None, None))
            .collect();
        for number in 0..corrections {
            drafts.push(self.draw_correction(number, first));
        }
        drafts
    }

    /// Corrects a scan, a correction, a scan that another corrects, or the same at the same instant in a later phase.
    fn draw_correction(&mut self, number: usize, phase: usize) -> Draft {
        let earlier = self.corrections.choose(&mut self.random).copied();
        let of_earlier_phase = earlier.filter(|correction| *correction < phase);
        let (original, time) = match (number % 4, earlier, of_earlier_phase) {
            (1, Some(correction), _) => (correction, None),
            (2, Some(correction), _) => (self.original_of(correction), None),
            (3, _, Some(correction)) => {
                let time = self.drawn[correction].time_ms;
                (self.original_of(correction), Some(time))
            }
            _ => (self.random.random_range(0..self.drawn.len()), None),
        };
        self.draw_one(Some(original), time)
    }

    fn original_of(&self, correction: usize) -> usize {
        let original = self.drawn[correction].corrects.as_deref();
        let is_original = |scan: &Sent| Some(scan.id.as_str()) == original;
        self.drawn
            .iter()
            .position(is_original)
            .expect("it was drawn")
    }

    fn draw_one(&mut self, corrects: Option<usize>, time: Option<i64>) -> Draft {
        let number = self.drawn.len();
        let now = Timestamp::now().0;
        let original = corrects.map(|index| self.drawn[index].clone());
        let random = &mut self.random;
        let index = original.as_ref().map_or_else(
            || random.random_range(0..self.persons.len()),
            |scan| scan.person,
        );
        let person = &self.persons[index];
        let mut time_ms = time.unwrap_or_else(|| draw_time(random, number, now));
        if let Some(original) = &original {
            // Of two corrections in one phase the log's order is not known, so their times differ.
            let again = (format!("{} again", original.id), time_ms);
            if time.is_none() || !self.taken.insert(again) {
                while !self.taken.insert((original.id.clone(), time_ms)) {
                    time_ms -= 1;
                }
            }
        }
        let kinds = [
            ("temperature_screening", 40),
            ("quick_check_in", 28),
            ("display", 8),
            ("grid_collection", 9),
            ("compound_pass", 9),
            ("release_notice", 6),
        ];
        let kind = kinds
            .choose_weighted(random, |kind| kind.1)
            .expect("weights")
            .0;
        let (site_kind, sites) = match kind {
            "grid_collection" => ("grid", &self.grids),
            "compound_pass" => ("compound", &self.compounds),
            "release_notice" => ("", &self.venues),
            "display" if random.random_bool(0.3) => ("", &self.venues),
            _ => ("venue", &self.venues),
        };
        let site = sites.choose(random).expect("a site");
        let caller = match kind {
            "temperature_screening" | "display" if random.random_bool(0.3) => 1,
            "grid_collection" if random.random_bool(0.5) => 2,
            _ => 0,
        };
        // A client's clock may run ahead, and a scan may wait on a phone before it is sent.
        let made_at = match random.random_range(0..20) {
            0 => now + 4 * 60_000,
            1 => now - random.random_range(0..3 * HOUR_MS),
            _ => now - random.random_range(0..20 * 60_000),
        };
        let id = new_id(random, Timestamp(made_at));
        let mut body = json!({
            "scan_id": id, "kind": kind, "synthetic": true,
            "time": Timestamp(time_ms).to_rfc3339(),
        });
        if caller != 1 && random.random_bool(0.1) {
            body["document"] = person.document.clone();
        } else {
            body["code"] = json!(person.code);
        }
        if !site_kind.is_empty() {
            body[site_kind] = json!(site.id);
        }
        let is_screening = kind == "temperature_screening";
        let mut has_fever = false;
        if is_screening || (kind != "release_notice" && random.random_bool(0.2)) {
            has_fever = random.random_bool(0.03);
            let band = if has_fever { "fever" } else { "normal" };
            body["temperature"] =
                json!({ "band": band, "celsius": if has_fever { 38.1 } else { 36.6 } });
        }
        let mut direction = "unknown";
        if is_screening || kind == "compound_pass" {
            direction = ["in", "out", "unknown"][random.random_range(0..3)];
            if direction != "unknown" || random.random_bool(0.5) {
                body["direction"] = json!(direction);
            }
        }
        let mut disposition = if person.is_red { "refused" } else { "admitted" };
        if random.random_bool(0.1) {
            disposition = ["admitted", "refused", "referred"][random.random_range(0..3)];
            body["disposition"] = json!(disposition);
        }
        if kind == "quick_check_in" && person.is_red {
            disposition = "refused";
        }
        if let Some(original) = &original {
            body["corrects"] = json!(original.id);
            self.corrections.push(number);
        }
        let is_at_site = !site_kind.is_empty();
        let sent = Sent {
            id,
            number,
            person: index,
            sex: person.sex,
            birth_year: person.birth_year,
            kind,
            site_kind,
            site: if is_at_site { site.id } else { 0 },
            region: if is_at_site { site.region } else { 0 },
            venue_type: site.venue_type.clone(),
            direction,
            has_fever,
            is_red: person.is_red,
            disposition,
            worker: (kind != "quick_check_in").then(|| self.workers[caller]),
            time_ms,
            corrects: original.map(|scan| scan.id),
        };
        self.drawn.push(sent.clone());
        Draft {
            sent,
            caller,
            text: body.to_string(),
        }
    }
}

/// Mostly within the last hours; sometimes at the very edge of an hour, half a percent late by hours or days.
fn draw_time(random: &mut ChaCha8Rng, number: usize, now: i64) -> i64 {
    let usual = now - random.random_range(0..6 * HOUR_MS);
    let midnight = day_of(now);
    // The first ones are late, so that every way of being late occurs.
    if number < 12 || random.random_bool(0.005) {
        return match number % 6 {
            0 => usual - random.random_range(HOUR_MS..DAY_MS),
            1 => usual - random.random_range(DAY_MS..(OLDEST_DAYS - 1) * DAY_MS),
            2 => usual - 7 * DAY_MS,
            3 => midnight - random.random_range(1..1000),
            4 => midnight,
            _ => monday_of(now) - random.random_range(0..2),
        };
    }
    match random.random_range(0..200) {
        0 => hour_of(usual),
        1 => hour_of(usual) - 1,
        2 => now + 3 * 60_000,
        _ => usual,
    }
}

/// The instant at which the week of Shanghai begins.
fn monday_of(time_ms: i64) -> i64 {
    let day = day_of(time_ms);
    // 1970-01-05 was a Monday.
    let days = (day - day_of(4 * DAY_MS)).div_euclid(DAY_MS);
    day - days.rem_euclid(7) * DAY_MS
}

async fn sites(feed: &mut Client, path: &str, forms: &[Value]) -> Vec<Site> {
    import(feed, path, forms, |_, _| {}).await.expect("sites");
    let number = |value: &Value| value.as_u64().expect("a number") as u32;
    let site = |form: &Value| Site {
        id: number(&form["id"]),
        region: number(&form["region"]),
        venue_type: form["venue_type"]
            .as_str()
            .unwrap_or("unspecified")
            .to_owned(),
    };
    forms.iter().map(site).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Enrols people; of some, sex or birth year is not known. Half of the codes are on paper.
async fn enrol(feed: &mut Client, seed: u64, people: u32) -> Vec<Person> {
    let year = Timestamp::now().shanghai_year() as u16;
    let mut population = Population::new(seed, year).expect("the census");
    let mut forms = Vec::new();
    let mut persons = Vec::new();
    for number in 0..people {
        let drawn = population.draw();
        let mut form = drawn.enrolment();
        let (mut sex, mut birth_year) = (drawn.sex, Some(i64::from(drawn.birth_year)));
        if number % 20 == 0 {
            let passport =
                json!({ "kind": "passport", "number": format!("T{number:07}"), "issuer": "USA" });
            form["document"] = passport;
            let fields = form.as_object_mut().expect("an object");
            fields.remove("sex");
            fields.remove("birth_year");
            (sex, birth_year) = ("unknown", None);
            if number % 40 == 0 {
                form["sex"] = json!("female");
                sex = "female";
            }
        }
        persons.push(Person {
            id: String::new(),
            code: String::new(),
            document: form["document"].clone(),
            sex,
            birth_year,
            is_red: false,
        });
        forms.push(form);
    }
    let results = import(feed, "/v1/persons:import", &forms, |_, _| {})
        .await
        .expect("persons");
    for (person, result) in persons.iter_mut().zip(results) {
        person.id = text(&result["person"]);
    }
    // Two draws may by chance be one document, and then one person.
    let mut known = HashSet::new();
    persons.retain(|person| known.insert(person.id.clone()));
    let request = |(number, person): (usize, &Person)| {
        let form = ["app", "paper"][number % 2];
        json!({ "person": person.id, "form": form })
    };
    let requests: Vec<Value> = persons.iter().enumerate().map(request).collect();
    let results = import(feed, "/v1/codes", &requests, |_, _| {})
        .await
        .expect("codes");
    for (person, result) in persons.iter_mut().zip(results) {
        person.code = text(&result["code"]);
    }
    persons
}
