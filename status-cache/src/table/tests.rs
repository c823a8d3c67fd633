use super::*;
use crate::layout::{Decision, PersonWord, ShownWord};
use proptest::prelude::*;
use std::collections::HashMap;

fn resident(value: u64) -> Resident {
    Resident {
        decision: Decision(value),
        person: PersonWord(value),
        shown: ShownWord(value),
    }
}

const fn id(n: u64) -> PersonId {
    PersonId(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
}

fn put(table: &Table, id: PersonId, value: u64) -> Result<(), TableFull> {
    table.writer().put(id, resident(value))
}

#[test]
fn a_record_is_32_bytes() {
    assert_eq!(SLOT_BYTES, 32);
}

#[test]
fn everyone_put_in_is_found_and_no_one_else() {
    let table = Table::new(1000).unwrap();
    for n in 1..=1000 {
        put(&table, id(n), n).unwrap();
    }
    for n in 1..=1000 {
        assert_eq!(table.get(id(n)), Some(resident(n)));
    }
    assert_eq!(table.get(id(1001)), None);
}

#[test]
fn more_persons_than_configured_are_refused_and_those_there_still_change() {
    let table = Table::new(1000).unwrap();
    for n in 1..=1000 {
        put(&table, id(n), n).unwrap();
    }
    let refusal = put(&table, id(1001), 0).unwrap_err();
    assert_eq!(refusal, TableFull { capacity: 1000 });
    assert!(refusal.to_string().contains("persons.capacity"));
    assert!(put(&table, id(7), 8).is_ok());
}

#[test]
fn ids_at_the_end_of_the_range_wrap_around() {
    let table = Table::new(5000).unwrap();
    for n in 0..5000 {
        put(&table, PersonId(u64::MAX - n), n).unwrap();
    }
    assert!((0..5000).all(|n| table.get(PersonId(u64::MAX - n)) == Some(resident(n))));
}

#[test]
fn a_person_takes_less_than_37_bytes_once_segments_are_many_pages_long() {
    let table = Table::new(2_000_000).unwrap();
    let mut writer = table.writer();
    let mut most = 0;
    for n in 1..=2_000_000_u64 {
        writer.put(id(n), resident(n)).unwrap();
        if n > 1_900_000 {
            most = most.max(table.bytes() * 100 / n as usize);
        }
    }
    assert!(most < 3750, "{most} hundredths of a byte a person");
}

#[test]
fn a_table_grows_to_the_persons_it_expects_at_once_and_beyond_them_as_any_other() {
    const PERSONS: u64 = 1_000_000;
    let stepwise = Table::new(PERSONS as usize).unwrap();
    let expecting = Table::new(PERSONS as usize).unwrap().expecting(500_000);
    let (mut least, mut most) = (usize::MAX, 0);
    for n in 1..=PERSONS {
        put(&stepwise, id(n), n).unwrap();
        put(&expecting, id(n), n).unwrap();
        if (100_000..450_000).contains(&n) {
            least = least.min(expecting.bytes());
            most = most.max(expecting.bytes());
        }
        if n == 1000 {
            assert_eq!(expecting.bytes(), stepwise.bytes());
        }
    }
    assert_eq!(least, most);
    // Room for the expected persons, and not for many more.
    assert!((35 * 500_000..39 * 500_000).contains(&most), "{most}");
    assert!(expecting.bytes().abs_diff(stepwise.bytes()) * 100 < stepwise.bytes());
    assert!((1..=PERSONS).all(|n| expecting.get(id(n)) == Some(resident(n))));
}

#[test]
fn many_are_found_as_each_is() {
    let table = Table::new(500).unwrap();
    for n in 1..=300 {
        put(&table, id(n), n).unwrap();
    }
    let asked: Vec<PersonId> = (200..=400).map(id).collect();
    let mut found = Vec::new();
    table.get_each(&asked, |resident| found.push(resident));
    let one_by_one: Vec<_> = asked.iter().map(|id| table.get(*id)).collect();
    assert_eq!(found, one_by_one);
}

#[test]
fn inv2_readers_beside_a_growing_table_miss_nobody_and_see_no_older_record() {
    const PERSONS: u64 = 150_000;
    let table = Table::new(PERSONS as usize).unwrap();
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=PERSONS {
                put(&table, id(n), n << 32).unwrap();
                put(
                    &table,
                    id(n / 2 + 1),
                    u64::from(n as u32) | (n / 2 + 1) << 32,
                )
                .unwrap();
                written.store(n, Ordering::Release);
            }
        });
        for seed in 1..=2_u64 {
            let (table, written) = (&table, &written);
            scope.spawn(move || {
                let mut n = seed;
                let mut newest = HashMap::new();
                loop {
                    let upto = written.load(Ordering::Acquire);
                    if upto == PERSONS {
                        break;
                    }
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                    if upto == 0 {
                        continue;
                    }
                    let asked = (n >> 33) % upto + 1;
                    let found = table.get(id(asked)).expect("someone enrolled is found");
                    let decision = found.decision.0;
                    assert_eq!(decision >> 32, asked, "another's record");
                    assert!(found.person.0 >= decision && found.shown.0 >= decision);
                    let before = newest.insert(asked % 64, (asked, decision));
                    if let Some((who, older)) = before
                        && who == asked
                    {
                        assert!(decision >= older, "an answer went back in time");
                    }
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_table_agrees_with_a_map(steps in prop::collection::vec((0_u64..3000, 0_u64..1 << 50), 1..20_000)) {
        let table = Table::new(3001).unwrap();
        let mut map = HashMap::new();
        for (n, value) in steps {
            // Half of all in one segment, so that it grows.
            let person = if n.is_multiple_of(2) { PersonId(0x55 << 57 | (id(n).0 >> 7)) } else { id(n) };
            put(&table, person, value).unwrap();
            map.insert(person, resident(value));
        }
        prop_assert_eq!(table.len(), map.len());
        for (person, resident) in map {
            prop_assert_eq!(table.get(person), Some(resident));
        }
    }
}
