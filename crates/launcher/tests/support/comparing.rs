//! Compares what the query API says with the test's own count: every figure, exactly.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use loadtest::client::Client;
use scan_model::Timestamp;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::Place;
use crate::tally::{
    COMMON, DAY_MS, FURTHER, Figures, Sent, count, count_by, day_of, hour_of, superseded,
};

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Venue(u32),
    Grid(u32),
    Region(u32),
}

impl Scope {
    fn path(self) -> String {
        match self {
            Self::Venue(id) => format!("/v1/venues/{id}"),
            Self::Grid(id) => format!("/v1/grids/{id}"),
            Self::Region(code) => format!("/v1/regions/{code}"),
        }
    }

    fn holds(self, scan: &Sent) -> bool {
        match self {
            Self::Venue(id) => scan.site_kind == "venue" && scan.site == id,
            Self::Grid(id) => scan.site_kind == "grid" && scan.site == id,
            Self::Region(code) => {
                // 44 for the province, 4401 for a city, 440103 for a district, all nine digits for a township.
                let mut prefix = code;
                while code < 1_000_000 && prefix % 100 == 0 {
                    prefix /= 100;
                }
                let is_counted = ["venue", "compound"].contains(&scan.site_kind);
                is_counted && scan.region.to_string().starts_with(&prefix.to_string())
            }
        }
    }

    /// Grids have the common figures only.
    fn names(self) -> Vec<&'static str> {
        match self {
            Self::Grid(_) => COMMON.to_vec(),
            _ => COMMON.iter().chain(&FURTHER).copied().collect(),
        }
    }
}

/// Every scan acknowledged so far, and the days that they lie in.
pub struct Comparison {
    scans: Vec<Sent>,
    corrected: Vec<Sent>,
    /// The first day and the day behind the last.
    days: (i64, i64),
    /// Whether single days are asked for as well.
    is_thorough: bool,
}

impl Comparison {
    /// Everything sent so far has been acknowledged. `today` is the day on which the test began.
    pub fn new(scans: &[Sent], today: i64, is_thorough: bool) -> Self {
        let superseded: HashSet<String> = superseded(scans);
        let stands = |scan: &&Sent| !superseded.contains(&scan.id);
        let corrected: Vec<Sent> = scans.iter().filter(stands).cloned().collect();
        assert!(corrected.len() < scans.len(), "some scans are corrected");
        Self {
            scans: scans.to_vec(),
            corrected,
            days: (today - 29 * DAY_MS, today + 2 * DAY_MS),
            is_thorough,
        }
    }

    /// Asserts that every figure of every scope is exact.
    pub async fn assert_exact(self, place: &Arc<Place>, scopes: &BTreeSet<Scope>, moment: &str) {
        let comparison = Arc::new(self);
        let (mut tasks, mut lanes) = (JoinSet::new(), vec![Vec::new(); 4]);
        for (index, scope) in scopes.iter().enumerate() {
            lanes[index % 4].push(*scope);
        }
        for lane in lanes {
            let (comparison, place) = (Arc::clone(&comparison), Arc::clone(place));
            tasks.spawn(async move {
                let mut client = place.reader();
                let mut differences = Vec::new();
                for scope in lane {
                    comparison
                        .compare(&place, &mut client, scope, &mut differences)
                        .await;
                }
                differences
            });
        }
        let differences = tasks.join_all().await.concat();
        let shown = differences[..differences.len().min(30)].join("\n");
        let (count, log) = (differences.len(), place.log());
        assert!(
            differences.is_empty(),
            "{moment}: {count} differences:\n{shown}\n{log}"
        );
    }

    async fn compare(
        &self,
        place: &Place,
        client: &mut Client,
        scope: Scope,
        differences: &mut Vec<String>,
    ) {
        let is_grid = matches!(scope, Scope::Grid(_));
        let step = |scan: &Sent| {
            if is_grid {
                day_of(scan.time_ms)
            } else {
                hour_of(scan.time_ms)
            }
        };
        for records in ["all", "corrected"] {
            let scans = if records == "all" {
                &self.scans
            } else {
                &self.corrected
            };
            let of_scope: Vec<&Sent> = scans.iter().filter(|scan| scope.holds(scan)).collect();
            let mut ask = Asking {
                place,
                client,
                scope,
                records,
                differences,
            };
            let totals = count(of_scope.iter().copied());
            let by_step = count_by(of_scope.iter().copied(), step);
            ask.flow("hour", self.days, &by_step, &totals).await;
            if records == "all" {
                let shares = self.shares_of(scope, self.days);
                ask.statistics(self.days, &totals, &shares).await;
            }
            if !self.is_thorough {
                continue;
            }
            // One day at a time: distinct people of a day are not the sum of its hours.
            let today = self.days.1 - 2 * DAY_MS;
            for day in [(today, today + DAY_MS), (today - DAY_MS, today)] {
                let is_within = |scan: &&&Sent| (day.0..day.1).contains(&scan.time_ms);
                let of_day: Vec<&Sent> = of_scope.iter().filter(is_within).copied().collect();
                let (totals, by_day) = (
                    count(of_day.iter().copied()),
                    count_by(of_day.iter().copied(), |scan| day_of(scan.time_ms)),
                );
                ask.flow("day", day, &by_day, &totals).await;
                if day.0 == today {
                    let shares = self.shares_of(scope, day);
                    ask.statistics(day, &totals, &shares).await;
                }
            }
        }
    }

    /// A venue's figures by tester, a grid's by worker, a division's by venue type; always of all records.
    fn shares_of(&self, scope: Scope, range: (i64, i64)) -> BTreeMap<String, Figures> {
        let part = |scan: &Sent| match scope {
            Scope::Region(_) if scan.site_kind == "compound" => String::from("unspecified"),
            Scope::Region(_) => scan.venue_type.clone(),
            _ => scan
                .worker
                .map(|worker| format!("{worker:016x}"))
                .unwrap_or_default(),
        };
        // Displays and the citizen's own check-ins are nobody's work.
        let is_work = |scan: &&Sent| {
            scope.holds(scan)
                && (range.0..range.1).contains(&scan.time_ms)
                && scan.kind != "display"
        };
        let mut shares = count_by(self.scans.iter().filter(is_work), part);
        shares.remove("");
        shares
    }
}

/// One scope under one choice of records.
struct Asking<'a> {
    place: &'a Place,
    client: &'a mut Client,
    scope: Scope,
    records: &'a str,
    differences: &'a mut Vec<String>,
}

impl Asking<'_> {
    async fn ask(&mut self, what: &str, (from, to): (i64, i64), step: &str) -> Value {
        let date = |time_ms: i64| Timestamp(time_ms).to_rfc3339()[..10].to_owned();
        let path = format!(
            "{}/{what}?from={}&to={}&traffic=all&records={}{step}",
            self.scope.path(),
            date(from),
            date(to - DAY_MS),
            self.records
        );
        self.place.answer(self.client, &path).await
    }

    async fn flow(
        &mut self,
        step: &str,
        range: (i64, i64),
        expected: &BTreeMap<i64, Figures>,
        totals: &Figures,
    ) {
        let answer = self.ask("flow", range, &format!("&step={step}")).await;
        let buckets = answer["buckets"].as_array().expect("buckets");
        let mut open: BTreeSet<i64> = expected.keys().copied().collect();
        for bucket in buckets {
            let start = bucket["start"].as_str().expect("a start");
            let start_ms = Timestamp::parse_rfc3339(start).expect("a time").0;
            open.remove(&start_ms);
            let none = Figures::new();
            let figures = expected.get(&start_ms).unwrap_or(&none);
            self.note(bucket, figures, &format!("{step} {start}"));
        }
        assert!(
            open.is_empty(),
            "{:?}: steps are missing: {open:?}",
            self.scope
        );
        self.note(
            &answer["totals"],
            totals,
            &format!("totals of a flow by {step}"),
        );
    }

    async fn statistics(
        &mut self,
        range: (i64, i64),
        totals: &Figures,
        shares: &BTreeMap<String, Figures>,
    ) {
        let answer = self.ask("statistics", range, "").await;
        self.note(&answer["totals"], totals, "statistics");
        let (field, is_hash) = match self.scope {
            Scope::Venue(_) => ("by_tester", true),
            Scope::Grid(_) => ("by_worker", true),
            Scope::Region(_) => ("by_venue_type", false),
        };
        let mut open = shares.clone();
        for share in answer[field].as_array().expect(field) {
            let text = share["part"].as_str().expect("a part");
            let part = if is_hash {
                format!("{text:0>16}")
            } else {
                text.to_owned()
            };
            let figures = open.remove(&part).unwrap_or_default();
            let names = if is_hash {
                COMMON.to_vec()
            } else {
                self.scope.names()
            };
            self.note_names(share, &figures, &names, &format!("{field} {part}"));
        }
        for (part, figures) in open {
            self.note(&Value::Null, &figures, &format!("{field} {part}, missing"));
        }
    }

    fn note(&mut self, found: &Value, expected: &Figures, place: &str) {
        let names = self.scope.names();
        self.note_names(found, expected, &names, place);
    }

    fn note_names(
        &mut self,
        found: &Value,
        expected: &Figures,
        names: &[&'static str],
        place: &str,
    ) {
        for name in names {
            let found = found[*name].as_u64().unwrap_or(0);
            let expected = expected.get(name).copied().unwrap_or(0);
            if found != expected {
                let (scope, records) = (self.scope, self.records);
                self.differences.push(format!(
                    "{scope:?}, {records}, {place}: {name} is {found}, acknowledged {expected}"
                ));
            }
        }
    }
}
