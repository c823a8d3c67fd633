//! What a person takes, everything included, as the system counts it: a process of its own, with the allocator that nodes have.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::person::Identity;
use scan_model::{Category, Fact, PersonId, Timestamp};
use status_cache::StatusCache;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PERSONS: u64 = 1_000_000;
/// Bytes a person at most, with 2 % of them holding facts.
const MOST: f64 = 40.0;
/// What growth takes beside that, at any moment.
const EXTRA: f64 = 1.02;
/// One person in so many holds a fact.
const HOLDERS: u64 = 50;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

/// Ids as a keyed hash spreads them.
const fn id(n: u64) -> PersonId {
    let x = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    PersonId((x ^ x >> 31) | 1)
}

fn enrolment(n: u64) -> Enrolment {
    Enrolment {
        identity: Identity {
            person: id(n),
            check: u128::from(n),
        },
        verification: Verification::FaceChecked,
        sex: Sex::Female,
        birth_year: Some(1930 + (n % 90) as u16),
        name: MaskedName::of("张伟").unwrap(),
        phone: Some(MaskedPhone::of("13812345678").unwrap()),
        name_hash: n,
        phone_hash: Some(n),
        residence: None,
        recorded_at: Timestamp(0),
        synthetic: true,
        change: 1,
    }
}

fn fact(n: u64) -> Fact {
    Fact {
        person: id(n),
        category: Category::CloseContact,
        source: "guangzhou-cdc".into(),
        reference: format!("2026-{n:08}"),
        effective: Timestamp(0),
        expiry: Some(Timestamp(4_000_000_000_000)),
        recorded_at: Timestamp(0),
        supplied_by: 7,
        note: String::new(),
        change: 2,
    }
}

#[test]
fn a_person_takes_at_most_40_bytes_and_growth_2_percent_at_any_moment() {
    let cache = StatusCache::new(PERSONS as usize).unwrap();
    let before = resident_bytes();
    let each = |persons: u64| (resident_bytes() - before) as f64 / persons as f64;
    for first in (0..PERSONS).step_by(1000) {
        let mut turn = cache.turn();
        for n in first..first + 1000 {
            turn.apply_enrolment(&enrolment(n)).unwrap();
        }
        drop(turn);
        for n in (first..first + 1000).step_by(HOLDERS as usize) {
            cache.apply_fact(fact(n));
        }
        let persons = first + 1000;
        if persons >= PERSONS / 2 {
            let each = each(persons);
            assert!(each <= MOST * EXTRA, "{each} bytes each of {persons}");
        }
    }
    let each = each(PERSONS);
    assert!(each <= MOST, "{each} bytes each of {PERSONS}");
    assert_eq!(cache.table().len(), PERSONS as usize);
    assert_eq!(cache.side_table().len(), (PERSONS / HOLDERS) as usize);
}
