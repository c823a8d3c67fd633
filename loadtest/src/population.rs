//! People with valid documents, drawn from the 2020 census: city by population, sex and age by the city's own shares.
//!
//! The numbers are made up; none is taken from a real person. Sequence numbers are drawn, so a number may by chance be
//! somebody's; it never leaves this machine and is marked synthetic.

use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scan_model::division::{self, Level};
use scan_model::document::check_digit;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Census {
    city: Vec<City>,
}

#[derive(Deserialize)]
struct City {
    code: String,
    population: u64,
    male_pct: f64,
    age_0_14_pct: f64,
    age_15_59_pct: f64,
}

/// One synthetic person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticPerson {
    /// The document, as a request names it.
    pub document: Value,
    /// Full name.
    pub name: String,
    /// Phone number.
    pub phone: String,
    /// `male` or `female`.
    pub sex: &'static str,
    /// Birth year.
    pub birth_year: u16,
    /// The city's code.
    pub city: u32,
}

impl SyntheticPerson {
    /// The body of an enrolment.
    pub fn enrolment(&self) -> Value {
        let mut body = json!({
            "document": self.document,
            "name": self.name,
            "phone": self.phone,
            "residence": self.city,
            "synthetic": true,
        });
        if self.document["kind"] != "resident_id" {
            body["sex"] = json!(self.sex);
            body["birth_year"] = json!(self.birth_year);
        }
        body
    }
}

/// Draws people.
pub struct Population {
    random: ChaCha8Rng,
    cities: Vec<City>,
    by_population: WeightedIndex<u64>,
    counties: Vec<Vec<u32>>,
    surnames: Vec<&'static str>,
    by_frequency: WeightedIndex<f64>,
    male_characters: Vec<&'static str>,
    female_characters: Vec<&'static str>,
    year: u16,
    drawn: u32,
}

impl Population {
    /// A population drawn from a seed; `year` is the current year.
    ///
    /// # Errors
    /// Where a data file is not what a test has read.
    pub fn new(seed: u64, year: u16) -> anyhow::Result<Self> {
        let census: Census = toml::from_str(include_str!("../data/census_2020_guangdong.toml"))?;
        let counties = census
            .city
            .iter()
            .map(|city| counties_of(&city.code))
            .collect();
        let surnames: Vec<(&str, f64)> = rows(include_str!("../data/surnames.csv"))
            .filter_map(|row| Some((*row.first()?, row.get(1)?.parse().ok()?)))
            .collect();
        let characters = |usages: [&str; 2]| {
            rows(include_str!("../data/given_names.csv"))
                .filter(|row| row.get(1).is_some_and(|usage| usages.contains(usage)))
                .filter_map(|row| row.first().copied())
                .collect()
        };
        Ok(Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            by_population: WeightedIndex::new(census.city.iter().map(|city| city.population))?,
            cities: census.city,
            counties,
            by_frequency: WeightedIndex::new(surnames.iter().map(|(_, weight)| *weight))?,
            surnames: surnames.into_iter().map(|(name, _)| name).collect(),
            male_characters: characters(["male", "both"]),
            female_characters: characters(["female", "both"]),
            year,
            drawn: 0,
        })
    }

    /// The next person.
    pub fn draw(&mut self) -> SyntheticPerson {
        self.drawn += 1;
        let index = self.by_population.sample(&mut self.random);
        let city = &self.cities[index];
        let city_code = city.code.parse().unwrap_or(440_000);
        let is_male = self.random.random_bool(city.male_pct / 100.0);
        let age = draw_age(&mut self.random, city);
        let birth_year = self.year - age;
        let sex = if is_male { "male" } else { "female" };
        let county = self.counties[index][self.random.random_range(0..self.counties[index].len())];
        // Of a thousand residents about five carry another document. An assumption, so that every kind is exercised.
        let document = match self.random.random_range(0..1000) {
            0..3 => {
                json!({ "kind": "hong_kong_macau_permit", "number": format!("H{:08}", self.drawn), "issue_count": "01" })
            }
            3..4 => json!({ "kind": "taiwan_permit", "number": format!("{:08}", self.drawn) }),
            4..5 => {
                json!({ "kind": "passport", "number": format!("X{:07}", self.drawn), "issuer": "FRA" })
            }
            _ if age == 0 => {
                json!({ "kind": "birth_certificate", "number": format!("P{:09}", self.drawn) })
            }
            _ => {
                let number = self.resident_id(county, birth_year, is_male);
                json!({ "kind": "resident_id", "number": number })
            }
        };
        let name = self.name(is_male);
        let phone = format!("1{}{:08}", self.random.random_range(30..=99), self.drawn);
        SyntheticPerson {
            document,
            name,
            phone,
            sex,
            birth_year,
            city: city_code,
        }
    }

    fn resident_id(&mut self, county: u32, birth_year: u16, is_male: bool) -> String {
        let month = self.random.random_range(1..=12);
        // The demonstration's babies are born in January, so that no birth date lies ahead.
        let month = if birth_year == self.year { 1 } else { month };
        let day = self.random.random_range(1..=28);
        let sequence = self.random.random_range(0..500) * 2 + u32::from(is_male);
        let sequence = if sequence == 0 { 2 } else { sequence };
        let body = format!("{county:06}{birth_year:04}{month:02}{day:02}{sequence:03}");
        let check = check_digit(body.as_bytes()) as char;
        format!("{body}{check}")
    }

    fn name(&mut self, is_male: bool) -> String {
        let surname = self.surnames[self.by_frequency.sample(&mut self.random)];
        let characters = if is_male {
            &self.male_characters
        } else {
            &self.female_characters
        };
        let mut name = surname.to_owned();
        let length = if self.random.random_bool(0.85) { 2 } else { 1 };
        for _ in 0..length {
            name.push_str(characters[self.random.random_range(0..characters.len())]);
        }
        name
    }
}

fn draw_age(random: &mut impl Rng, city: &City) -> u16 {
    let roll = random.random_range(0.0..100.0);
    if roll < city.age_0_14_pct {
        random.random_range(0..=14)
    } else if roll < city.age_0_14_pct + city.age_15_59_pct {
        random.random_range(15..=59)
    } else {
        // Ages above 60 thin out; the bulletin says only how many are 65 and more.
        60 + random.random_range(0..=15) + random.random_range(0..=15)
    }
}

/// The county-level codes of a city; the city's own where it has none.
fn counties_of(city: &str) -> Vec<u32> {
    let city: u32 = city.parse().unwrap_or(440_000);
    let is_district =
        |d: &&&division::Division| d.level == Level::District && division::city_of(d.code) == city;
    let all = division::all();
    let counties: Vec<u32> = all.iter().filter(is_district).map(|d| d.code).collect();
    if counties.is_empty() {
        vec![city]
    } else {
        counties
    }
}

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(',').collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use scan_model::{Document, DocumentKind};

    #[test]
    fn p1_every_drawn_document_is_valid() {
        let mut population = Population::new(1, 2026).unwrap();
        let mut kinds = std::collections::HashSet::new();
        for _ in 0..5000 {
            let person = population.draw();
            let text = |field: &str| person.document[field].as_str().map(str::to_owned);
            let kind: DocumentKind =
                serde_json::from_value(person.document["kind"].clone()).unwrap();
            kinds.insert(kind);
            Document::parse(
                kind,
                &text("number").unwrap(),
                text("issuer").as_deref(),
                text("issue_count").as_deref(),
                (2026, 11, 21),
            )
            .unwrap_or_else(|error| panic!("{person:?}: {error}"));
        }
        assert_eq!(kinds.len(), 5, "every kind of P1 is drawn");
    }

    #[test]
    fn the_drawn_people_resemble_the_census() {
        let mut population = Population::new(2, 2026).unwrap();
        let people: Vec<_> = (0..20_000).map(|_| population.draw()).collect();
        let share = |test: &dyn Fn(&SyntheticPerson) -> bool| {
            people.iter().filter(|person| test(person)).count() as f64 / people.len() as f64
        };
        // Bulletin no. 3: 53.07 % male; no. 2: Guangzhou 18,676,605 of 126,012,510; no. 4: 18.85 % up to 14 years.
        assert!((share(&|p| p.sex == "male") - 0.5307).abs() < 0.02);
        assert!((share(&|p| p.city == 440_100) - 0.1482).abs() < 0.02);
        assert!((share(&|p| 2026 - p.birth_year <= 14) - 0.1885).abs() < 0.02);
    }

    #[test]
    fn the_same_seed_draws_the_same_people() {
        let draw = || Population::new(7, 2026).unwrap().draw();
        assert_eq!(draw(), draw());
    }

    #[test]
    fn the_census_adds_up_to_the_province() {
        let census: Census =
            toml::from_str(include_str!("../data/census_2020_guangdong.toml")).unwrap();
        assert_eq!(
            census.city.iter().map(|city| city.population).sum::<u64>(),
            126_012_510
        );
    }
}
