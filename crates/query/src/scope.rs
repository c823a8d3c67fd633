//! Which rows belong to what is asked about.

use http_service::Problem;
use scan_model::division;
use serde::{Deserialize, Serialize};

/// Which traffic counts (X11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Real traffic.
    #[default]
    Real,
    /// What load generation made.
    Synthetic,
    /// Both.
    All,
}

impl Traffic {
    /// The condition on a table's column `synthetic`.
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Real => "synthetic = 0",
            Self::Synthetic => "synthetic = 1",
            Self::All => "synthetic IN (0, 1)",
        }
    }
}

/// Which records count (C8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// All of them.
    #[default]
    All,
    /// Without those that a later record corrects.
    Corrected,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One venue.
    Venue(u32),
    /// One grid.
    Grid(u32),
    /// A division and all that it holds.
    Region(u32),
}

/// Conditions and columns that select a scope.
pub struct Selection {
    /// The rollup table.
    pub table: &'static str,
    /// The condition on the rollup.
    pub rollup: String,
    /// The same condition on raw scans.
    pub raw: String,
    /// The rollup's time column.
    pub time: &'static str,
    /// The rollup's sums.
    pub sums: &'static [&'static str],
}

/// Sums of the hourly rollups.
const FLOW_SUMS: &[&str] = &[
    "registrations",
    "entries",
    "exits",
    "fever",
    "red_encounters",
    "refusals",
    "male",
    "female",
    "sex_unknown",
    "age_0_14",
    "age_15_39",
    "age_40_59",
    "age_60_up",
    "age_unknown",
];

/// Sums of the daily rollups.
const DAY_SUMS: &[&str] = &["registrations", "fever", "red_encounters", "refusals"];

impl Scope {
    /// The division with this code.
    pub fn region(code: u32) -> Result<Self, Problem> {
        match division::find(code) {
            Some(_) => Ok(Self::Region(code)),
            None => Err(Problem::unknown(
                "region",
                "must be a division of Guangdong: six digits of GB/T 2260, or nine of a township",
            )),
        }
    }

    /// How to select it.
    pub fn select(self) -> Selection {
        const FLOW: &str = "kind NOT IN ('display', 'release_notice')";
        match self {
            Self::Venue(id) => Selection {
                table: "venue_hour",
                rollup: format!("venue = {id}"),
                raw: format!("site_kind = 'venue' AND site = {id} AND {FLOW}"),
                time: "hour",
                sums: FLOW_SUMS,
            },
            Self::Grid(id) => Selection {
                table: "grid_day",
                rollup: format!("grid = {id}"),
                raw: format!("site_kind = 'grid' AND site = {id} AND kind = 'grid_collection'"),
                time: "day",
                sums: DAY_SUMS,
            },
            Self::Region(code) => {
                let within = within_division(code);
                Selection {
                    table: "region_hour",
                    rollup: within.clone(),
                    raw: format!("site_kind IN ('venue', 'compound') AND {within} AND {FLOW}"),
                    time: "hour",
                    sums: FLOW_SUMS,
                }
            }
        }
    }
}

impl Scope {
    /// How to select its parts, and the expression that names a part: a venue by tester (T1), a grid by worker (T3), a
    /// division by venue type (T5).
    pub fn select_parts(self) -> (Selection, &'static str) {
        match self {
            Self::Venue(_) => {
                let by_tester = Selection {
                    table: "tester_day",
                    time: "day",
                    sums: DAY_SUMS,
                    ..self.select()
                };
                (by_tester, "lower(hex(tester))")
            }
            Self::Grid(_) => (self.select(), "lower(hex(worker))"),
            Self::Region(_) => (self.select(), "toString(venue_type)"),
        }
    }
}

/// Sites are known to a township (nine digits) or only to a district or city (six).
fn within_division(code: u32) -> String {
    let (first, last) = division::township_range(code);
    if code > 999_999 {
        return format!("region = {code}");
    }
    format!(
        "(region BETWEEN {first} AND {last} OR region BETWEEN {code} AND {})",
        last / 1000
    )
}
