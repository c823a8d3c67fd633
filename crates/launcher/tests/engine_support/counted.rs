//! An independent count of everything appended: what raw and each rollup must hold.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use event_log::{Offset, Partition};
use scan_model::scan::{Direction, Disposition, TemperatureBand};
use scan_model::time::HOUR_MS;
use scan_model::{Colour, Scan, ScanKind, Sex, SiteKind};
use serde::Deserialize;
use warehouse::{Store, slices};

/// Sums of the day tables; the hour tables have the others too.
const DAY_SUMS: [&str; 4] = ["registrations", "fever", "red_encounters", "refusals"];
const HOUR_SUMS: [&str; 10] = [
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

/// Log partition, synthetic, place, operator, hour or day.
type Key = [u64; 5];

/// A rollup, how its key is read and whether it is by the hour.
const ROLLUPS: [(&str, &str, &str, bool); 4] = [
    ("venue_hour", "venue", "0", true),
    ("region_hour", "region", "0", true),
    ("grid_day", "grid", "worker", false),
    ("tester_day", "venue", "tester", false),
];

#[derive(Default)]
struct Figures {
    sums: Vec<u64>,
    people: BTreeSet<u64>,
    fever_people: BTreeSet<u64>,
}

/// A row of `scans` or `corrections`: partition, offset, scan id, person, event time, original.
type RawRow = (u32, u64, uuid::Uuid, u64, i64, uuid::Uuid);

/// What was appended, counted.
#[derive(Default)]
pub struct Counted {
    seen: HashSet<(u64, u128)>,
    raw: Vec<RawRow>,
    rollups: BTreeMap<&'static str, BTreeMap<Key, Figures>>,
    pub appended: u64,
    pub duplicates: u64,
    /// The offsets are not known, so raw rows are compared without them.
    is_without_offsets: bool,
}

impl Counted {
    /// A count of what was acknowledged: whoever sends over HTTP does not learn the offsets.
    pub fn without_offsets() -> Self {
        Self {
            is_without_offsets: true,
            ..Self::default()
        }
    }

    /// Counts an acknowledged scan in a log of so many partitions.
    pub fn add_acknowledged(&mut self, partitions: u32, scan: &Scan) {
        let partition = event_log::partition_for(scan.person.0, partitions);
        self.add(partition, 0, scan);
    }

    /// Counts a scan at its place in the log. Of one partition, the offsets come in order.
    pub fn add(&mut self, partition: Partition, offset: Offset, scan: &Scan) {
        self.appended += 1;
        if !self.seen.insert((scan.person.0, scan.scan_id.0)) {
            self.duplicates += 1;
            return;
        }
        self.raw.push((
            partition,
            offset,
            uuid::Uuid::from_u128(scan.scan_id.0),
            scan.person.0,
            scan.event_time.0,
            uuid::Uuid::from_u128(scan.corrects.map_or(0, |id| id.0)),
        ));
        let checks_in = !matches!(scan.kind, ScanKind::Display | ScanKind::ReleaseNotice);
        let Some(site) = scan.site.filter(|_| checks_in) else {
            return;
        };
        let hour = (scan.event_time.0 / HOUR_MS * HOUR_MS / 1000) as u64;
        let day = scan.event_time.shanghai_day_number() as u64;
        let id = u64::from(site.id.0);
        let mut count = |table, place, operator, time| {
            let synthetic = u64::from(scan.synthetic);
            let key = [u64::from(partition), synthetic, place, operator, time];
            let groups = self.rollups.entry(table).or_default();
            groups.entry(key).or_default().add(scan);
        };
        match site.kind {
            SiteKind::Venue => {
                count("venue_hour", id, 0, hour);
                count("region_hour", u64::from(scan.region), 0, hour);
                if scan.operator != 0 {
                    count("tester_day", id, scan.operator, day);
                }
            }
            SiteKind::Compound => count("region_hour", u64::from(scan.region), 0, hour),
            SiteKind::Grid => count("grid_day", id, scan.operator, day),
            SiteKind::Institution => {}
        }
    }

    /// Whether raw must hold a row for an offset: it is no copy of an earlier scan.
    pub fn is_row(&self, partition: Partition, offset: Offset) -> bool {
        let mut rows = self.raw.iter();
        rows.any(|row| (row.0, row.1) == (partition, offset))
    }

    /// Forgets what was counted of a partition; answers its scans.
    pub fn take_partition(&mut self, partition: Partition) -> HashSet<(u64, u128)> {
        let taken = self.raw.extract_if(.., |row| row.0 == partition);
        let taken: HashSet<_> = taken.map(|row| (row.3, row.2.as_u128())).collect();
        self.seen.retain(|scan| !taken.contains(scan));
        for groups in self.rollups.values_mut() {
            groups.retain(|key, _| key[0] != u64::from(partition));
        }
        taken
    }

    /// Compares everything in the store with the count; answers what differs, in words.
    pub async fn differences(&self, store: &Store) -> Vec<String> {
        let mut differences = Vec::new();
        let mut expected = self.raw.clone();
        expected.sort_unstable();
        let stored = self.raw_rows(store, "scans").await;
        if stored != expected {
            differences.push(describe("scans", &expected, &stored));
        }
        let expected: Vec<_> = expected.into_iter().filter(|row| !row.5.is_nil()).collect();
        let stored = self.raw_rows(store, "corrections").await;
        if stored != expected {
            differences.push(describe("corrections", &expected, &stored));
        }
        for (table, place, operator, by_hour) in ROLLUPS {
            let stored = rollup(store, table, place, operator, by_hour).await;
            let expected = self.expected(table, by_hour);
            if stored != expected {
                let stored: Vec<_> = stored.into_iter().collect();
                let expected: Vec<_> = expected.into_iter().collect();
                differences.push(describe(table, &expected, &stored));
            }
        }
        let all = slices::all_slices(store).await.expect("the slices");
        let differing = slices::find_differences(store, &all)
            .await
            .expect("a proof");
        if !differing.is_empty() {
            differences.push(format!("the proof finds differences: {differing:?}"));
        }
        differences
    }

    async fn raw_rows(&self, store: &Store, table: &str) -> Vec<RawRow> {
        #[derive(Deserialize)]
        struct Row {
            row: RawRow,
        }
        let original = if table == "scans" {
            "corrects"
        } else {
            "original"
        };
        let offset = if self.is_without_offsets {
            "toUInt64(0)"
        } else {
            "log_offset"
        };
        let sql = format!(
        "SELECT tuple(log_partition, {offset}, scan_id, person, toUnixTimestamp64Milli(event_time), {original}) AS row
         FROM {table} SETTINGS output_format_json_named_tuples_as_objects = 0"
    );
        let rows: Vec<Row> = store.rows(&sql, &[]).await.expect("the rows are read");
        let mut rows: Vec<_> = rows.into_iter().map(|row| row.row).collect();
        rows.sort_unstable();
        rows
    }

    fn expected(&self, table: &str, by_hour: bool) -> BTreeMap<Key, (Vec<u64>, u64, u64)> {
        let length = DAY_SUMS.len() + if by_hour { HOUR_SUMS.len() } else { 0 };
        let groups = self.rollups.get(table).into_iter().flatten();
        groups
            .map(|(key, figures)| {
                let sums = figures.sums[..length].to_vec();
                let people = figures.people.len() as u64;
                (*key, (sums, people, figures.fever_people.len() as u64))
            })
            .collect()
    }
}

impl Figures {
    fn add(&mut self, scan: &Scan) {
        let is_refused = scan.disposition == Disposition::Refused;
        let is_fever = scan.band == TemperatureBand::Fever;
        let age = scan
            .birth_year
            .map(|year| scan.event_time.shanghai_year() - year as i16);
        let counted = !is_refused;
        let conditions = [
            counted,
            is_fever,
            scan.shown.colour == Colour::RED,
            is_refused,
            counted && scan.direction != Direction::Out,
            counted && scan.direction == Direction::Out,
            counted && scan.sex == Sex::Male,
            counted && scan.sex == Sex::Female,
            counted && scan.sex == Sex::Unknown,
            counted && age.is_some_and(|age| (0..15).contains(&age)),
            counted && age.is_some_and(|age| (15..40).contains(&age)),
            counted && age.is_some_and(|age| (40..60).contains(&age)),
            counted && age.is_some_and(|age| age >= 60),
            counted && age.is_none(),
        ];
        self.sums.resize(conditions.len(), 0);
        for (sum, holds) in self.sums.iter_mut().zip(conditions) {
            *sum += u64::from(holds);
        }
        if counted {
            self.people.insert(scan.person.0);
        }
        if is_fever {
            self.fever_people.insert(scan.person.0);
        }
    }
}

async fn rollup(
    store: &Store,
    table: &str,
    place: &str,
    operator: &str,
    by_hour: bool,
) -> BTreeMap<Key, (Vec<u64>, u64, u64)> {
    #[derive(Deserialize)]
    struct Row {
        key: Key,
        sums: Vec<u64>,
        distinct: u64,
        distinct_fever: u64,
    }
    let mut sums = DAY_SUMS.to_vec();
    let time = if by_hour {
        sums.extend(HOUR_SUMS);
        "toUnixTimestamp(hour)"
    } else {
        "toInt32(day)"
    };
    let sums: Vec<_> = sums.iter().map(|name| format!("sum({name})")).collect();
    let sql = format!(
        "SELECT arrayMap(x -> toUInt64(x), [log_partition, synthetic, {place}, {operator}, {time}]) AS key,
                [{}] AS sums, uniqExactMerge(people) AS distinct, uniqExactMerge(fever_people) AS distinct_fever
         FROM {table} GROUP BY key",
        sums.join(", ")
    );
    let rows: Vec<Row> = store.rows(&sql, &[]).await.expect("the rollup is read");
    rows.into_iter()
        .map(|row| (row.key, (row.sums, row.distinct, row.distinct_fever)))
        .collect()
}

/// The first few rows that only one side has. Both are in order; a row that stands twice counts twice.
fn describe<T: std::fmt::Debug + Ord>(table: &str, expected: &[T], stored: &[T]) -> String {
    let (mut lacking, mut surplus) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (expected.iter().peekable(), stored.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        match order {
            Ordering::Less => lacking.extend(left.next()),
            Ordering::Greater => surplus.extend(right.next()),
            Ordering::Equal => {
                left.next();
                right.next();
            }
        }
    }
    format!(
        "{table}: {} rows expected, {} stored; {} are missing or less, such as {:?}; {} are surplus or more, such as {:?}",
        expected.len(),
        stored.len(),
        lacking.len(),
        &lacking[..lacking.len().min(2)],
        surplus.len(),
        &surplus[..surplus.len().min(2)],
    )
}
