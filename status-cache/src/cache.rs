//! Applies records and answers lookups.

use std::collections::HashMap;
use std::io;

use parking_lot::{Mutex, MutexGuard};
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::{
    Alias, CategorySet, CodeRevocation, Declaration, Fact, Identity, PersonId, Timestamp,
};

use crate::aliases::Aliases;
use crate::layout::{Decision, PersonWord, ShownWord, version_of};
use crate::positions::{AppliedPositions, LogPosition, Positions};
use crate::side_table::SideTable;
use crate::table::{Resident, SEGMENTS, Table, TableFull, TableWriter, segment_of};

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
    aliases: Aliases,
    behind: Mutex<Behind>,
}

/// What the writer alone knows.
#[derive(Default)]
pub(crate) struct Behind {
    /// Revocations of persons who are not enrolled yet, for topics are read side by side. They are never forgotten (P4).
    pub(crate) early_revocations: HashMap<PersonId, Vec<CodeRevocation>>,
    /// When somebody who is not enrolled yet declared last, for the same reason.
    pub(crate) early_declarations: HashMap<PersonId, Timestamp>,
    /// What of the log is in the cache.
    pub(crate) applied: AppliedPositions,
}

impl StatusCache {
    /// A cache for up to `capacity` persons.
    ///
    /// # Errors
    /// Where the system refuses address space for them.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            table: Table::new(capacity)?,
            side_table: SideTable::default(),
            aliases: Aliases::default(),
            behind: Mutex::default(),
        })
    }

    /// A person's status at `now`; `None` for someone unknown. Memory only (INV-2).
    #[inline]
    pub fn get(&self, person: PersonId, now: Timestamp) -> Option<PersonStatus> {
        let resident = self.table.get(person)?;
        Some(self.status(person, resident, now))
    }

    /// The statuses of many, in the order asked. Their records are on their way from memory before the first is looked at.
    pub fn get_each(
        &self,
        persons: &[PersonId],
        now: Timestamp,
        mut found: impl FnMut(Option<PersonStatus>),
    ) {
        let mut asked = persons.iter();
        self.table.get_each(persons, |resident| {
            let person = asked.next();
            found(
                resident
                    .zip(person)
                    .map(|(resident, person)| self.status(*person, resident, now)),
            );
        });
    }

    fn status(&self, id: PersonId, resident: Resident, now: Timestamp) -> PersonStatus {
        let Resident {
            decision,
            person: word,
            shown,
        } = resident;
        let active = if decision.is_due(now) {
            self.side_table.active(id, now).0
        } else {
            decision.categories()
        };
        PersonStatus {
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
        }
    }

    /// The identity under which the person of a document is enrolled (P1). Memory only (INV-2).
    pub fn resolve(&self, identity: Identity) -> Identity {
        self.aliases.resolve(identity)
    }

    /// The aliases, for their figures and for snapshots.
    pub const fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// A person's facts, active or not, each with its provenance.
    pub fn facts(&self, person: PersonId) -> Vec<Fact> {
        self.side_table.get(person)
    }

    /// Takes the writer's turn: what is applied in it is in no snapshot, or all of it is.
    pub fn turn(&self) -> Turn<'_> {
        // Always in this order.
        let table = self.table.writer();
        Turn {
            cache: self,
            table,
            behind: self.behind.lock(),
        }
    }

    /// Takes an enrolment in, in a turn of its own.
    ///
    /// # Errors
    /// [`TableFull`] where no more persons fit.
    pub fn apply_enrolment(&self, enrolment: &Enrolment) -> Result<Applied, TableFull> {
        self.turn().apply_enrolment(enrolment)
    }

    /// Takes a fact in, in a turn of its own.
    pub fn apply_fact(&self, fact: Fact) -> Applied {
        self.turn().apply_fact(fact)
    }

    /// Takes a declaration in, in a turn of its own.
    pub fn apply_declaration(&self, declaration: &Declaration) -> Applied {
        self.turn().apply_declaration(declaration)
    }

    /// Takes an alias in, in a turn of its own.
    pub fn apply_alias(&self, alias: &Alias) -> Applied {
        self.turn().apply_alias(alias)
    }

    /// Takes a revocation in, in a turn of its own.
    pub fn apply_revocation(&self, revocation: &CodeRevocation) -> Applied {
        self.turn().apply_revocation(revocation)
    }

    /// Brings decisions whose change is due up to date, so that lookups leave the side table again.
    /// Answers whose were changed.
    pub fn sweep_due(&self, now: Timestamp) -> usize {
        let mut swept = 0;
        for segment in 0..SEGMENTS {
            for person in self.side_table.persons(segment) {
                if !self
                    .table
                    .get(person)
                    .is_some_and(|r| r.decision.is_due(now))
                {
                    continue;
                }
                let mut turn = self.turn();
                if let Some(old) = turn.table.get(person) {
                    turn.recompute(person, old, old.person.version(), now);
                    swept += 1;
                }
            }
        }
        swept
    }

    /// The table, for its figures and for snapshots.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The side table, for its figures and for snapshots.
    pub const fn side_table(&self) -> &SideTable {
        &self.side_table
    }

    /// What of the log is in the cache: the next offset of each partition.
    pub fn positions(&self) -> Positions {
        self.behind.lock().applied.lowest()
    }
}

/// A writer's turn. Readers go on.
pub struct Turn<'c> {
    cache: &'c StatusCache,
    pub(crate) table: TableWriter<'c>,
    pub(crate) behind: MutexGuard<'c, Behind>,
}

impl Turn<'_> {
    /// Whether a record of a person is in the cache already, from a snapshot.
    pub fn is_applied(&self, at: &LogPosition, person: PersonId) -> bool {
        self.behind.applied.covers(at, segment_of(person))
    }

    /// States that all below an offset is applied.
    pub fn advance(&mut self, to: LogPosition) {
        self.behind.applied.advance(to);
    }

    /// Fetches the records of persons whose changes come next, so that memory is waited for once.
    pub fn expect(&self, persons: impl Iterator<Item = PersonId>) {
        self.cache.table.touch_each(persons);
    }

    /// Takes an enrolment in.
    ///
    /// # Errors
    /// [`TableFull`] where no more persons fit.
    pub fn apply_enrolment(&mut self, enrolment: &Enrolment) -> Result<Applied, TableFull> {
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
        let mut decision = old.map_or(Decision::EMPTY, |old| old.decision);
        if old.is_none() {
            if let Some(declared) = self.behind.early_declarations.remove(&id) {
                decision = decision.with_declaration(declared);
            }
            let early = self.take_early_revocations(id);
            version = self.version_after_early(id, &early, version);
            for revocation in &early {
                if revocation.valid_from > decision.codes_valid_from() {
                    decision = decision.with_codes_valid_from(revocation.valid_from, version);
                }
            }
        }
        let (active, next) = self.active_now(id);
        let resident = Resident {
            decision: decision.with_categories(active, next, version),
            person: PersonWord::new(enrolment, version),
            shown,
        };
        self.table.put(id, resident)?;
        Ok(Applied::Changed)
    }

    fn take_early_revocations(&mut self, person: PersonId) -> Vec<CodeRevocation> {
        let early = &mut self.behind.early_revocations;
        if early.is_empty() {
            return Vec::new();
        }
        early.remove(&person).unwrap_or_default()
    }

    /// The categories active now, and when that may change. The clock is read for those with facts alone.
    fn active_now(&self, person: PersonId) -> (CategorySet, Option<Timestamp>) {
        if self.cache.side_table.holds(person) {
            self.cache.side_table.active(person, Timestamp::now())
        } else {
            (CategorySet::EMPTY, None)
        }
    }

    /// The version after what arrived before its person's enrolment, so that a rebuild, which reads the topics side by side,
    /// comes to the version that was shown before.
    fn version_after_early(&self, person: PersonId, early: &[CodeRevocation], version: u16) -> u16 {
        if early.is_empty() && !self.cache.side_table.holds(person) {
            return version;
        }
        let facts = self.cache.side_table.get(person);
        let changes = facts.iter().map(|fact| fact.change);
        let mut changes: Vec<u16> = changes.chain(early.iter().map(|r| r.change)).collect();
        changes.sort_unstable_by_key(|change| change.wrapping_sub(version));
        changes.into_iter().fold(version, version_after)
    }

    /// The person whom an id stands for: itself, unless it is an alias.
    pub fn person(&self, id: PersonId) -> PersonId {
        self.cache.aliases.person(id)
    }

    /// Takes an alias in. Facts that came under its id before are the person's from then on; the first alias of an id stays.
    pub fn apply_alias(&mut self, alias: &Alias) -> Applied {
        let (id, person) = (alias.identity.person, alias.of.person);
        if id == person || self.person(id) == person {
            return Applied::Known;
        }
        if self.cache.aliases.put(alias).is_err() {
            return Applied::Collision;
        }
        self.share_facts(id, person);
        Applied::Changed
    }

    /// Gives the facts under an id to its person.
    pub(crate) fn share_facts(&mut self, id: PersonId, person: PersonId) {
        let changes = self.cache.side_table.share(id, person);
        if let Some(old) = self.table.get(person)
            && !changes.is_empty()
        {
            let version = changes
                .into_iter()
                .fold(old.person.version(), version_after);
            self.recompute(person, old, version, Timestamp::now());
        }
    }

    /// Takes a fact in, and changes its person's active categories at once where the person is enrolled.
    pub fn apply_fact(&mut self, mut fact: Fact) -> Applied {
        fact.person = self.person(fact.person);
        let (person, change) = (fact.person, fact.change);
        if !self.cache.side_table.put(fact) {
            return Applied::Known;
        }
        if let Some(old) = self.table.get(person) {
            let version = next_version(Some(old), change);
            self.recompute(person, old, version, Timestamp::now());
        }
        Applied::Changed
    }

    /// Takes a revocation in. It is never forgotten, and an older one never undoes a newer.
    pub fn apply_revocation(&mut self, revocation: &CodeRevocation) -> Applied {
        let person = revocation.person;
        let Some(old) = self.table.get(person) else {
            let early = self.behind.early_revocations.entry(person).or_default();
            if early.contains(revocation) {
                return Applied::Known;
            }
            early.push(revocation.clone());
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
        self.replace(
            person,
            Resident {
                decision,
                person: old.person.with_version(version),
                ..old
            },
        );
        Applied::Changed
    }

    /// Takes a declaration in: the latest day renews codes (P5). It changes no status, so it counts as no change (S6).
    pub fn apply_declaration(&mut self, declaration: &Declaration) -> Applied {
        self.declared(self.person(declaration.person), declaration.event_time)
    }

    /// Somebody declared at an instant.
    pub(crate) fn declared(&mut self, person: PersonId, time: Timestamp) -> Applied {
        let Some(old) = self.table.get(person) else {
            let latest = self.behind.early_declarations.entry(person).or_insert(time);
            *latest = time.max(*latest);
            return Applied::Changed;
        };
        let decision = old.decision.with_declaration(time);
        if decision == old.decision {
            return Applied::Known;
        }
        self.replace(person, Resident { decision, ..old });
        Applied::Changed
    }

    fn recompute(&mut self, person: PersonId, old: Resident, version: u16, now: Timestamp) {
        let (active, next) = self.cache.side_table.active(person, now);
        self.replace(
            person,
            Resident {
                decision: old.decision.with_categories(active, next, version),
                person: old.person.with_version(version),
                ..old
            },
        );
    }

    /// Changes the record of someone resident, who has a place in the table.
    fn replace(&mut self, person: PersonId, resident: Resident) {
        let _ = self.table.put(person, resident);
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
}
