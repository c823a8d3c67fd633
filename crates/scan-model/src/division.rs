//! Divisions: historical GB/T 2260 county codes of all China, and Guangdong down to its townships (V1).
//!
//! The data files name their package, version and licence in their first lines.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::RandomState;

/// A division of Guangdong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// Six digits for the province, a city or a district; nine for a township or street.
    pub code: u32,
    /// Which of those it is.
    pub level: Level,
    /// The division that holds it; the province holds itself.
    pub parent: u32,
    /// 名称.
    pub name: &'static str,
    /// The name in Latin letters.
    pub name_latin: &'static str,
}

/// The level of a division.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 省.
    Province,
    /// 地级市.
    City,
    /// 区, 县, 县级市.
    District,
    /// 镇, 街道, 乡.
    Township,
}

static GUANGDONG: LazyLock<HashMap<u32, Division, RandomState>> = LazyLock::new(|| {
    rows(include_str!("../data/guangdong_divisions.csv"))
        .filter_map(|columns| {
            let [code, level, parent, name, name_latin] = columns[..] else {
                return None;
            };
            let level = match level {
                "province" => Level::Province,
                "city" => Level::City,
                "district" => Level::District,
                "township" => Level::Township,
                _ => return None,
            };
            let (code, parent) = (code.parse().ok()?, parent.parse().ok()?);
            Some((
                code,
                Division {
                    code,
                    level,
                    parent,
                    name,
                    name_latin,
                },
            ))
        })
        .collect()
});

/// A bit for every number of six digits, so that a look is one read, of which the codes in use fill a few caches' lines.
static HISTORICAL_COUNTIES: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut bits = vec![0; 1_000_000_usize.div_ceil(64)];
    let codes = rows(include_str!("../data/gb2260_codes.csv"))
        .filter_map(|columns| columns.first()?.parse::<usize>().ok());
    for code in codes {
        if let Some(word) = bits.get_mut(code / 64) {
            *word |= 1 << (code % 64);
        }
    }
    bits
});

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(',').collect())
}

/// Whether six digits are, or since 1980 were, a county-level GB/T 2260 code anywhere in China.
pub fn is_historical_county(code: u32) -> bool {
    let word = HISTORICAL_COUNTIES.get(code as usize / 64);
    word.is_some_and(|word| word >> (code % 64) & 1 == 1)
}

/// The division of Guangdong with this code.
pub fn find(code: u32) -> Option<&'static Division> {
    GUANGDONG.get(&code)
}

/// Every division of Guangdong, by code.
pub fn all() -> Vec<&'static Division> {
    let mut all: Vec<_> = GUANGDONG.values().collect();
    all.sort_by_key(|division| division.code);
    all
}

/// The code of the city that holds a division; the province's own code for the province.
pub fn city_of(code: u32) -> u32 {
    let six_digits = if code > 999_999 { code / 1000 } else { code };
    six_digits / 100 * 100
}

/// The first and last nine-digit code that a division holds: a range that a table sorted by region can be read by.
pub fn township_range(code: u32) -> (u32, u32) {
    if code > 999_999 {
        return (code, code);
    }
    let span = match code {
        _ if code.is_multiple_of(10_000) => 10_000,
        _ if code.is_multiple_of(100) => 100,
        _ => 1,
    };
    (code * 1000, (code + span) * 1000 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_guangdong_has_its_21_cities_and_over_1600_townships() {
        let count = |level| all().iter().filter(|d| d.level == level).count();
        assert_eq!(count(Level::Province), 1);
        assert_eq!(count(Level::City), 21);
        assert!(count(Level::District) >= 120);
        assert!(count(Level::Township) >= 1600);
    }

    #[test]
    fn p1_the_historical_counties_are_those_of_the_data_and_no_others() {
        let codes: std::collections::BTreeSet<u32> = rows(include_str!("../data/gb2260_codes.csv"))
            .filter_map(|columns| columns[0].parse().ok())
            .collect();
        assert!(codes.len() > 3000);
        for code in 0..1_000_100 {
            assert_eq!(is_historical_county(code), codes.contains(&code), "{code}");
        }
        assert!(!is_historical_county(u32::MAX));
    }

    #[test]
    fn v1_every_division_lies_in_one_that_exists() {
        for division in all() {
            let parent = find(division.parent).unwrap();
            assert!(parent.level < division.level || division.level == Level::Province);
            let (first, last) = township_range(parent.code);
            if division.level == Level::Township {
                assert!((first..=last).contains(&division.code), "{division:?}");
            }
        }
    }

    #[test]
    fn v1_a_township_lies_in_the_range_of_its_district_and_city() {
        assert_eq!(township_range(440_103), (440_103_000, 440_103_999));
        assert_eq!(township_range(440_100), (440_100_000, 440_199_999));
        assert_eq!(township_range(440_000), (440_000_000, 449_999_999));
        assert_eq!(city_of(440_103_001), 440_100);
    }
}
