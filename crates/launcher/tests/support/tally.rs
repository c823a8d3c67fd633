//! An independent count of acknowledged scans: plain loops over a list, none of the product's counting code.

use std::collections::{BTreeMap, HashMap, HashSet};

/// What the test knows of a scan that it sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub id: String,
    /// Rises with the order in which the log takes a person's scans, where two scans share an event time.
    pub number: usize,
    pub person: usize,
    pub sex: &'static str,
    pub birth_year: Option<i64>,
    pub kind: &'static str,
    /// `venue`, `grid`, `compound`, or nothing.
    pub site_kind: &'static str,
    pub site: u32,
    pub region: u32,
    pub venue_type: String,
    pub direction: &'static str,
    pub has_fever: bool,
    pub is_red: bool,
    pub disposition: &'static str,
    /// The caller, where the scan counts as a worker's own.
    pub worker: Option<u64>,
    pub time_ms: i64,
    pub corrects: Option<String>,
}

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// UTC+8, all year.
const SHANGHAI_MS: i64 = 8 * HOUR_MS;

pub const fn hour_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(HOUR_MS) * HOUR_MS
}

pub const fn day_of(time_ms: i64) -> i64 {
    (time_ms + SHANGHAI_MS).div_euclid(DAY_MS) * DAY_MS - SHANGHAI_MS
}

/// Figures that every scope has.
pub const COMMON: [&str; 6] = [
    "registrations",
    "people",
    "fever",
    "fever_people",
    "red_encounters",
    "refusals",
];
/// Figures of venues and divisions beside those.
pub const FURTHER: [&str; 10] = [
    "entries",
    "exits",
    "male",
    "female",
    "sex_unknown",
    "age_0_14",
    "age_15_39",
    "age_40_59",
    "age_60_up",
    "age_unknown",
];

/// Figures by name.
pub type Figures = HashMap<&'static str, u64>;

/// The figures of some scans.
pub fn count<'a>(scans: impl IntoIterator<Item = &'a Sent>) -> Figures {
    let mut figures = Figures::new();
    let (mut people, mut fever_people) = (HashSet::new(), HashSet::new());
    for scan in scans {
        if scan.kind == "display" || scan.kind == "release_notice" {
            continue;
        }
        let mut add = |name| *figures.entry(name).or_default() += 1;
        if scan.is_red {
            add("red_encounters");
        }
        if scan.has_fever {
            add("fever");
            fever_people.insert(scan.person);
        }
        if scan.disposition == "refused" {
            add("refusals");
            continue;
        }
        people.insert(scan.person);
        add("registrations");
        add(if scan.direction == "out" {
            "exits"
        } else {
            "entries"
        });
        add(match scan.sex {
            "male" => "male",
            "female" => "female",
            _ => "sex_unknown",
        });
        add(match age_of(scan) {
            None => "age_unknown",
            Some(..=14) => "age_0_14",
            Some(15..=39) => "age_15_39",
            Some(40..=59) => "age_40_59",
            Some(60..) => "age_60_up",
        });
    }
    figures.insert("people", people.len() as u64);
    figures.insert("fever_people", fever_people.len() as u64);
    figures
}

/// Age in the calendar year of the scan.
fn age_of(scan: &Sent) -> Option<i64> {
    let text = scan_model::Timestamp(scan.time_ms).to_rfc3339();
    let year: i64 = text[..4].parse().expect("a year");
    scan.birth_year.map(|birth_year| year - birth_year)
}

/// The figures of some scans by a part of them, such as their hour.
pub fn count_by<'a, Part: Ord>(
    scans: impl IntoIterator<Item = &'a Sent>,
    part: impl Fn(&Sent) -> Part,
) -> BTreeMap<Part, Figures> {
    let mut parts: BTreeMap<Part, Vec<&Sent>> = BTreeMap::new();
    for scan in scans {
        parts.entry(part(scan)).or_default().push(scan);
    }
    parts
        .into_iter()
        .map(|(part, scans)| (part, count(scans)))
        .collect()
}

/// The ids that corrected records leave out: whatever a scan names, and of several that name the same scan all but the
/// newest, by event time and then by the log's order.
pub fn superseded(scans: &[Sent]) -> HashSet<String> {
    let mut superseded = HashSet::new();
    let mut siblings: HashMap<&str, Vec<&Sent>> = HashMap::new();
    for scan in scans {
        if let Some(original) = &scan.corrects {
            superseded.insert(original.clone());
            siblings.entry(original).or_default().push(scan);
        }
    }
    for corrections in siblings.values() {
        let newest = corrections
            .iter()
            .max_by_key(|scan| (scan.time_ms, scan.number));
        let newest = newest.expect("at least one").id.as_str();
        let older = corrections.iter().filter(|scan| scan.id != newest);
        superseded.extend(older.map(|scan| scan.id.clone()));
    }
    superseded
}
