use super::*;
use std::fs;
use std::time::Duration;

use crate::StatusCache;
use crate::feed::Coverage;
use crate::positions::{LogPosition, Positions};
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::MaskedName;
use scan_model::person::Identity;
use scan_model::{Category, CodeRevocation};
use scan_model::{Fact, PersonId, Timestamp};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn enrolment(n: u64) -> Enrolment {
    Enrolment {
        identity: Identity {
            person: PersonId(n << 50),
            check: u128::from(n),
        },
        verification: Verification::NameMatched,
        sex: Sex::Male,
        birth_year: Some(1960),
        name: MaskedName::of("李雷").unwrap(),
        phone: None,
        name_hash: 0,
        phone_hash: None,
        residence: None,
        recorded_at: Timestamp(0),
        synthetic: n.is_multiple_of(2),
        change: 1,
    }
}

fn filled() -> StatusCache {
    let cache = StatusCache::new(100).unwrap();
    for n in 1..=50_u64 {
        let person = PersonId(n << 50);
        cache.apply_enrolment(&enrolment(n)).unwrap();
        if n.is_multiple_of(10) {
            cache.apply_fact(Fact {
                person,
                category: Category::Suspected,
                source: "cdc".into(),
                reference: n.to_string(),
                effective: Timestamp(n as i64),
                expiry: None,
                recorded_at: Timestamp(0),
                supplied_by: 0,
                note: String::new(),
                change: 2,
            });
            cache.apply_revocation(&CodeRevocation {
                person,
                valid_from: Timestamp(1_700_000_000_000),
                recorded_at: Timestamp(0),
                supplied_by: 0,
                change: 3,
            });
        }
    }
    cache
}

fn at(offset: u64) -> LogPosition {
    LogPosition {
        topic: StatusTopic::Facts,
        partition: 3,
        offset,
    }
}

#[test]
fn a_snapshot_restores_every_status_and_position() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    let cache = filled();
    cache.turn().advance(at(77));
    let known_until = Timestamp::now();
    write(&cache, known_until, [1; 8], &file, Pace::Fast).unwrap();
    let restored = StatusCache::new(100).unwrap();
    let coverage = Coverage {
        positions: Positions::from([(("facts".to_owned(), 3), 77)]),
        known_until,
    };
    assert_eq!(read(&restored, [1; 8], WEEK, &file).unwrap(), coverage);
    let now = Timestamp::now();
    for n in 1..=50_u64 {
        let person = PersonId(n << 50);
        assert_eq!(restored.get(person, now), cache.get(person, now));
        assert_eq!(restored.facts(person), cache.facts(person));
    }
}

#[test]
fn p4_a_revocation_that_came_before_its_person_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    let source = filled();
    let cache = StatusCache::new(100).unwrap();
    let early = CodeRevocation {
        person: PersonId(50 << 50),
        valid_from: Timestamp(1_700_000_000_000),
        recorded_at: Timestamp(0),
        supplied_by: 0,
        change: 3,
    };
    cache.apply_revocation(&early);
    write(&cache, Timestamp::now(), [1; 8], &file, Pace::Fast).unwrap();
    let restored = StatusCache::new(100).unwrap();
    read(&restored, [1; 8], WEEK, &file).unwrap();
    restored.apply_enrolment(&enrolment(50)).unwrap();
    let valid_from = |cache: &StatusCache| {
        let status = cache.get(early.person, Timestamp::now());
        status.unwrap().codes_valid_from
    };
    assert_eq!(valid_from(&restored), valid_from(&source));
}

#[test]
fn a_damaged_foreign_or_old_snapshot_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    write(&filled(), Timestamp::now(), [1; 8], &file, Pace::Fast).unwrap();
    let refusal = |fingerprint, age| {
        let cache = StatusCache::new(100).unwrap();
        read(&cache, fingerprint, age, &file).unwrap_err()
    };
    assert!(matches!(refusal([2; 8], WEEK), SnapshotError::Foreign(_)));
    std::thread::sleep(Duration::from_millis(2));
    assert!(matches!(
        refusal([1; 8], Duration::ZERO),
        SnapshotError::TooOld { .. }
    ));
    let whole = fs::read(&file).unwrap();
    // One byte in each part: the header, a section's slots, its checksum, the index, the trailer.
    let length = whole.len();
    for place in [10, 100, length / 2, length - 2100, length - 60, length - 1] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let refused = refusal([1; 8], WEEK);
        assert!(
            matches!(refused, SnapshotError::Damaged { .. }),
            "{place}: {refused}"
        );
    }
    for kept in [0, 7, 20, 100, length / 2, length - 1] {
        fs::write(&file, &whole[..kept]).unwrap();
        let refused = refusal([1; 8], WEEK);
        assert!(
            matches!(refused, SnapshotError::Damaged { .. }),
            "{kept}: {refused}"
        );
    }
    fs::write(
        &file,
        b"TXSNAP02 and more of it, long enough for an outline; not ours",
    )
    .unwrap();
    assert!(matches!(
        refusal([1; 8], WEEK),
        SnapshotError::OtherVersion(_)
    ));
}

#[test]
fn more_persons_than_configured_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    write(&filled(), Timestamp::now(), [1; 8], &file, Pace::Fast).unwrap();
    let smaller = StatusCache::new(49).unwrap();
    assert!(matches!(
        read(&smaller, [1; 8], WEEK, &file),
        Err(SnapshotError::Full(_))
    ));
}

#[test]
fn inv5_a_snapshot_written_while_records_are_applied_continues_exactly_once() {
    const PERSONS: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    let live = StatusCache::new(PERSONS as usize).unwrap();
    let spread = |n: u64| PersonId(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let enrol = |cache: &StatusCache, n: u64| {
        let mut enrolment = enrolment(n);
        enrolment.identity.person = spread(n);
        cache.apply_enrolment(&enrolment).unwrap();
    };
    // Every second change of a fact has the number of the one before, which a repeated application would count twice.
    let fact_at = |offset: u64| Fact {
        person: spread(offset * 7919 % PERSONS + 1),
        category: Category::Suspected,
        source: "cdc".into(),
        reference: "1".into(),
        effective: Timestamp(1),
        expiry: None,
        recorded_at: Timestamp(offset as i64),
        supplied_by: 0,
        note: String::new(),
        change: 2 + (offset / (2 * PERSONS)) as u16,
    };
    for n in 1..=PERSONS {
        enrol(&live, n);
    }
    let apply = |cache: &StatusCache, offset: u64| {
        let mut turn = cache.turn();
        let fact = fact_at(offset);
        if !turn.is_applied(&at(offset), fact.person) {
            turn.apply_fact(fact);
        }
        turn.advance(at(offset + 1));
    };
    apply(&live, 0);
    let last = std::thread::scope(|scope| {
        let writing = scope
            .spawn(|| write(&live, Timestamp::now(), [1; 8], &file, Pace::Considerate).unwrap());
        let mut offset = 1;
        while !writing.is_finished() {
            apply(&live, offset);
            offset += 1;
        }
        offset
    });
    let restored = StatusCache::new(PERSONS as usize).unwrap();
    let coverage = read(&restored, [1; 8], WEEK, &file).unwrap();
    let from = coverage.positions[&("facts".to_owned(), 3)];
    assert!(from >= 1 && from < last);
    for offset in from..last {
        apply(&restored, offset);
    }
    let now = Timestamp::now();
    for n in 1..=PERSONS {
        let person = spread(n);
        assert_eq!(restored.get(person, now), live.get(person, now), "{n}");
        assert_eq!(restored.facts(person), live.facts(person));
    }
}
