use super::*;
use scan_model::person::Identity;
use scan_model::{Category, Colour, Ruleset};

const PERSON: PersonId = PersonId(0x1234_5678_9ABC_DEF0);

/// An enrolment of [`PERSON`].
pub(crate) fn enrolment(check: u128) -> Enrolment {
    Enrolment {
        identity: Identity {
            person: PERSON,
            check,
        },
        verification: Verification::FaceChecked,
        sex: Sex::Female,
        birth_year: Some(1990),
        name: MaskedName::of("张伟").unwrap(),
        phone: Some(MaskedPhone::of("13812345678").unwrap()),
        name_hash: 1,
        phone_hash: None,
        residence: None,
        recorded_at: Timestamp(0),
        synthetic: false,
        change: 1,
    }
}

fn fact(category: Category, effective: Timestamp, expiry: Option<Timestamp>) -> Fact {
    Fact {
        person: PERSON,
        category,
        source: "cdc".into(),
        reference: "1".into(),
        effective,
        expiry,
        recorded_at: Timestamp(0),
        supplied_by: 0,
        note: String::new(),
        change: 2,
    }
}

fn colour(cache: &StatusCache, now: Timestamp) -> Colour {
    Ruleset::edition_4().colour(cache.get(PERSON, now).unwrap().active)
}

#[test]
fn s4_a_fact_counts_whichever_topic_arrives_first() {
    let now = Timestamp::now();
    for fact_first in [true, false] {
        let cache = StatusCache::new(10).unwrap();
        let red = fact(Category::Confirmed, now.plus_ms(-1000), None);
        if fact_first {
            cache.apply_fact(red.clone());
        }
        cache.apply_enrolment(&enrolment(1)).unwrap();
        if !fact_first {
            cache.apply_fact(red);
        }
        assert_eq!(colour(&cache, now), Colour::RED);
    }
}

#[test]
fn s4_a_fact_starts_and_ends_at_its_time_without_a_message() {
    let cache = StatusCache::new(10).unwrap();
    cache.apply_enrolment(&enrolment(1)).unwrap();
    let start = Timestamp::now().plus_ms(3 * 86_400_000);
    let end = start.plus_ms(60_000);
    cache.apply_fact(fact(Category::HomeIsolation, start, Some(end)));
    assert_eq!(colour(&cache, start.plus_ms(-1)), Colour::GREEN);
    assert_eq!(colour(&cache, start), Colour::RED);
    assert_eq!(cache.sweep_due(start), 1);
    assert_eq!(colour(&cache, end.plus_ms(-1)), Colour::RED);
    assert_eq!(colour(&cache, end), Colour::GREEN);
}

#[test]
fn s6_each_change_counts_once_and_a_replay_not_at_all() {
    let cache = StatusCache::new(10).unwrap();
    let version = || cache.get(PERSON, Timestamp::now()).unwrap().version;
    cache.apply_enrolment(&enrolment(1)).unwrap();
    assert_eq!(version(), 1);
    let red = fact(Category::Confirmed, Timestamp(1), None);
    assert_eq!(cache.apply_fact(red.clone()), Applied::Changed);
    assert_eq!(version(), 2);
    assert_eq!(cache.apply_fact(red), Applied::Known);
    assert_eq!(
        cache.apply_enrolment(&enrolment(1)).unwrap(),
        Applied::Known
    );
    assert_eq!(version(), 2);
}

#[test]
fn s6_the_version_does_not_depend_on_the_order_in_which_the_topics_are_read() {
    let red = fact(Category::Confirmed, Timestamp(1), None);
    let revocation = CodeRevocation {
        person: PERSON,
        valid_from: Timestamp(1_700_000_000_000),
        recorded_at: Timestamp(0),
        supplied_by: 0,
        change: 3,
    };
    for order in ["efr", "erf", "fer", "fre", "ref", "rfe"] {
        let cache = StatusCache::new(10).unwrap();
        for topic in order.chars() {
            match topic {
                'e' => cache.apply_enrolment(&enrolment(1)).unwrap(),
                'f' => cache.apply_fact(red.clone()),
                _ => cache.apply_revocation(&revocation),
            };
        }
        let status = cache.get(PERSON, Timestamp::now()).unwrap();
        assert_eq!(status.version, 3, "{order}");
        assert!(status.active.contains(Category::Confirmed), "{order}");
        assert!(status.codes_valid_from >= revocation.valid_from, "{order}");
    }
}

#[test]
fn p1_a_renewed_document_leads_to_its_person_whichever_topic_arrives_first() {
    let later = Identity {
        person: PersonId(0x77),
        check: 0x99,
    };
    let alias = Alias {
        identity: later,
        of: enrolment(1).identity,
        recorded_at: Timestamp(0),
        supplied_by: 0,
    };
    let now = Timestamp::now();
    for order in ["eaf", "efa", "aef", "afe", "fea", "fae"] {
        let cache = StatusCache::new(10).unwrap();
        for topic in order.chars() {
            match topic {
                'e' => cache.apply_enrolment(&enrolment(1)).unwrap(),
                'a' => cache.apply_alias(&alias),
                _ => {
                    let mut red = fact(Category::Confirmed, now.plus_ms(-1000), None);
                    red.person = later.person;
                    cache.apply_fact(red)
                }
            };
        }
        assert_eq!(cache.resolve(later), alias.of, "{order}");
        assert_eq!(colour(&cache, now), Colour::RED, "{order}");
        assert_eq!(cache.apply_alias(&alias), Applied::Known);
        let stranger = Identity {
            check: 0x98,
            ..later
        };
        assert_eq!(
            cache.resolve(stranger),
            stranger,
            "another document of that id"
        );
    }
}

#[test]
fn p1_a_collision_keeps_the_earlier_enrolment() {
    let cache = StatusCache::new(10).unwrap();
    cache.apply_enrolment(&enrolment(1)).unwrap();
    assert_eq!(
        cache.apply_enrolment(&enrolment(2)).unwrap(),
        Applied::Collision
    );
    assert_eq!(cache.get(PERSON, Timestamp::now()).unwrap().residue, 1);
}

#[test]
fn p1_an_id_that_is_an_alias_is_no_other_document_s() {
    let later = Identity {
        person: PersonId(0x77),
        check: 0x99,
    };
    let stranger = Identity {
        check: 0x98,
        ..later
    };
    let renewed = |identity| Alias {
        identity,
        of: enrolment(1).identity,
        recorded_at: Timestamp(0),
        supplied_by: 0,
    };
    let enrolled = Enrolment {
        identity: stranger,
        ..enrolment(1)
    };
    let cache = StatusCache::new(10).unwrap();
    cache.apply_alias(&renewed(later));
    assert!(cache.aliases().is_another_s(stranger) && !cache.aliases().is_another_s(later));
    let outcome = cache.apply_enrolment(&enrolled).unwrap();
    assert_eq!((outcome, cache.table().len()), (Applied::Collision, 0));
    // The other way round the enrolment was the earlier one.
    let cache = StatusCache::new(10).unwrap();
    cache.apply_enrolment(&enrolled).unwrap();
    assert_eq!(cache.apply_alias(&renewed(later)), Applied::Collision);
    assert_eq!(cache.resolve(later), later);
}

#[test]
fn p4_a_revocation_is_never_undone() {
    let cache = StatusCache::new(10).unwrap();
    let revocation = |minute: i64| CodeRevocation {
        person: PERSON,
        valid_from: Timestamp(1_700_000_000_000 / 60_000 * 60_000 + minute * 60_000),
        recorded_at: Timestamp(0),
        supplied_by: 0,
        change: 2,
    };
    cache.apply_revocation(&revocation(5));
    cache.apply_enrolment(&enrolment(1)).unwrap();
    assert_eq!(cache.apply_revocation(&revocation(3)), Applied::Known);
    let status = cache.get(PERSON, Timestamp::now()).unwrap();
    assert_eq!(status.codes_valid_from, revocation(5).valid_from);
}
