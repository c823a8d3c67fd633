//! Applies records and answers lookups.

use std::sync::Arc;

use parking_lot::Mutex;
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::{CategorySet, CodeRevocation, Fact, PersonId, Timestamp};

use crate::layout::{Decision, PersonWord, ShownWord, version_of};
use crate::side_table::SideTable;
use crate::table::{Resident, Table, TableFull};

/// A person's status at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonStatus {
    /// The categories active at the moment asked for.
    pub active: CategorySet,
    /// The count of the person's changes, modulo 65,536 (S6).
    pub version: u16,
    /// Codes issued before this instant are revoked.
    pub codes_valid_from: Timestamp,
    /// Day of the last declaration, which renews a Suikang code (P5).
    pub last_declaration: Option<Timestamp>,
    /// The masked name.
    pub name: MaskedName,
    /// The masked phone number.
    pub phone: Option<MaskedPhone>,
    /// Sex.
    pub sex: Sex,
    /// Birth year.
    pub birth_year: Option<u16>,
    /// How the identity was checked.
    pub verification: Verification,
    /// 16 keyed bits beyond the id, against collisions.
    pub residue: u16,
    /// Whether load generation made this person (X11).
    pub synthetic: bool,
}

/// What applying a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The status changed.
    Changed,
    /// The record was known already.
    Known,
    /// Another person has the id: the earlier enrolment stays (P1).
    Collision,
}

/// The cache. Readers take no lock; writers take turns.
pub struct StatusCache {
    table: Table,
    side_table: SideTable,
    /// Revocations of persons who are not enrolled yet, by arrival order of topics.
    early_revocations: Mutex<Vec<CodeRevocation>>,
    writer: Mutex<()>,
}

impl StatusCache {
    /// A cache for up to `capacity` persons.
    pub fn new(capacity: usize) -> Self {
        Self {
            table: Table::new(capacity),
            side_table: SideTable::default(),
            early_revocations: Mutex::default(),
            writer: Mutex::new(()),
        }
    }

    /// A person's status at `now`; `None` for someone unknown. Memory only (INV-2).
    pub fn get(&self, person: PersonId, now: Timestamp) -> Option<PersonStatus> {
        let Resident {
            decision,
            person: word,
            shown,
        } = self.table.get(person)?;
        let active = if decision.is_due(now) {
            self.side_table.active(person, now).0
        } else {
            decision.categories()
        };
        Some(PersonStatus {
            active,
            version: version_of(decision, word),
            codes_valid_from: decision.codes_valid_from(),
            last_declaration: decision.last_declaration(),
            name: shown.name(),
            phone: shown.phone(),
            sex: word.sex(),
            birth_year: word.birth_year(),
            verification: word.verification(),
            residue: word.residue(),
            synthetic: word.is_synthetic(),
        })
    }

    /// A person's facts, active or not.
    pub fn facts(&self, person: PersonId) -> Arc<[Fact]> {
        self.side_table.get(person)
    }

    /// Takes an enrolment in.
    ///
    /// # Errors
    /// [`TableFull`] where no more persons fit.
    pub fn apply_enrolment(&self, enrolment: &Enrolment) -> Result<Applied, TableFull> {
        let _turn = self.writer.lock();
        let id = enrolment.identity.person;
        let old = self.table.get(id);
        if old.is_some_and(|old| old.person.residue() != enrolment.identity.residue()) {
            return Ok(Applied::Collision);
        }
        let shown = ShownWord::new(enrolment.name, enrolment.phone);
        if let Some(old) = old {
            let same_version = PersonWord::new(enrolment, old.person.version());
            if same_version == old.person && shown == old.shown {
                return Ok(Applied::Known);
            }
        }
        let mut version = next_version(old, enrolment.change);
        if old.is_none() {
            version = self.version_after_early(id, version);
        }
        let (active, next) = self.side_table.active(id, Timestamp::now());
        let mut decision = old
            .map_or(Decision::EMPTY, |old| old.decision)
            .with_categories(active, next, version);
        if old.is_none() {
            self.early_revocations.lock().retain(|revocation| {
                if revocation.person == id {
                    decision = decision.with_codes_valid_from(revocation.valid_from, version);
                }
                revocation.person != id
            });
        }
        let person = PersonWord::new(enrolment, version);
        self.table.put(
            id,
            Resident {
                decision,
                person,
                shown,
            },
        )?;
        Ok(Applied::Changed)
    }

    /// The version after what arrived before its person's enrolment, so that a rebuild, which reads the topics side by side,
    /// comes to the version that was shown before.
    fn version_after_early(&self, person: PersonId, version: u16) -> u16 {
        let facts = self.side_table.get(person);
        let revocations = self.early_revocations.lock();
        let of_person = revocations.iter().filter(|r| r.person == person);
        let changes = facts.iter().map(|fact| fact.change);
        let mut changes: Vec<u16> = changes.chain(of_person.map(|r| r.change)).collect();
        changes.sort_unstable_by_key(|change| change.wrapping_sub(version));
        changes.into_iter().fold(version, version_after)
    }

    /// Takes a fact in, and changes its person's active categories at once where the person is enrolled.
    pub fn apply_fact(&self, fact: Fact) -> Applied {
        let _turn = self.writer.lock();
        let (person, change) = (fact.person, fact.change);
        if !self.side_table.put(fact) {
            return Applied::Known;
        }
        if let Some(old) = self.table.get(person) {
            self.recompute(person, old, next_version(Some(old), change));
        }
        Applied::Changed
    }

    /// Takes a revocation in. It is never forgotten, and an older one never undoes a newer.
    pub fn apply_revocation(&self, revocation: &CodeRevocation) -> Applied {
        let _turn = self.writer.lock();
        let Some(old) = self.table.get(revocation.person) else {
            self.early_revocations.lock().push(revocation.clone());
            return Applied::Changed;
        };
        if revocation.valid_from <= old.decision.codes_valid_from() {
            return Applied::Known;
        }
        let version = next_version(Some(old), revocation.change);
        let decision = old
            .decision
            .with_codes_valid_from(revocation.valid_from, version);
        if decision.codes_valid_from() == old.decision.codes_valid_from() {
            return Applied::Known;
        }
        let person = old.person.with_version(version);
        // The person is resident, so the table has a place.
        let _ = self.table.put(
            revocation.person,
            Resident {
                decision,
                person,
                ..old
            },
        );
        Applied::Changed
    }

    /// Brings decisions whose change is due up to date, so that lookups leave the side table again.
    /// Answers whose were changed.
    pub fn sweep_due(&self, now: Timestamp) -> usize {
        let mut swept = 0;
        for (person, _) in self.side_table.all() {
            let _turn = self.writer.lock();
            if let Some(old) = self.table.get(person)
                && old.decision.is_due(now)
            {
                self.recompute_at(person, old, old.person.version(), now);
                swept += 1;
            }
        }
        swept
    }

    fn recompute(&self, person: PersonId, old: Resident, version: u16) {
        self.recompute_at(person, old, version, Timestamp::now());
    }

    fn recompute_at(&self, person: PersonId, old: Resident, version: u16, now: Timestamp) {
        let (active, next) = self.side_table.active(person, now);
        let decision = old.decision.with_categories(active, next, version);
        let word = old.person.with_version(version);
        let _ = self.table.put(
            person,
            Resident {
                decision,
                person: word,
                ..old
            },
        );
    }

    /// The table, for its figures and for snapshots.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The side table, for its figures and for snapshots.
    pub const fn side_table(&self) -> &SideTable {
        &self.side_table
    }

    pub(crate) fn restore(&self, person: PersonId, resident: Resident) -> Result<(), TableFull> {
        self.table.put(person, resident)
    }

    pub(crate) fn restore_fact(&self, fact: Fact) {
        self.side_table.put(fact);
    }

    /// Nothing is applied while the guard lives; readers go on.
    pub(crate) fn hold_writers(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.writer.lock()
    }
}

fn next_version(old: Option<Resident>, change: u16) -> u16 {
    old.map_or(change.max(1), |old| {
        version_after(old.person.version(), change)
    })
}

/// The version after a change: the change's own number, or one more where two nodes gave the same number. An earlier number
/// is that of a record which another topic's has overtaken; the newest stays, so that the topics' order does not matter.
const fn version_after(version: u16, change: u16) -> u16 {
    let ahead = change.wrapping_sub(version);
    if ahead == 0 {
        version.wrapping_add(1)
    } else if ahead > u16::MAX / 2 {
        version
    } else {
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scan_model::person::Identity;
    use scan_model::{Category, Colour, Ruleset};

    const PERSON: PersonId = PersonId(0x1234_5678_9ABC_DEF0);

    fn enrolment(check: u128) -> Enrolment {
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
            let cache = StatusCache::new(10);
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
        let cache = StatusCache::new(10);
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
        let cache = StatusCache::new(10);
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
            let cache = StatusCache::new(10);
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
    fn p1_a_collision_keeps_the_earlier_enrolment() {
        let cache = StatusCache::new(10);
        cache.apply_enrolment(&enrolment(1)).unwrap();
        assert_eq!(
            cache.apply_enrolment(&enrolment(2)).unwrap(),
            Applied::Collision
        );
        assert_eq!(cache.get(PERSON, Timestamp::now()).unwrap().residue, 1);
    }

    #[test]
    fn p4_a_revocation_is_never_undone() {
        let cache = StatusCache::new(10);
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
}
