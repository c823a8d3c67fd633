//! A writer's turn: applies records, one writer at a time.

use parking_lot::MutexGuard;
use scan_model::{
    Alias, CategorySet, CodeRevocation, Declaration, Enrolment, Fact, PersonId, Timestamp,
};

use super::{Applied, Behind, StatusCache};
use crate::layout::{Decision, PersonWord, ShownWord};
use crate::positions::LogPosition;
use crate::table::{Resident, TableFull, TableWriter, segment_of};

/// A writer's turn. Readers go on.
pub struct Turn<'c> {
    pub(super) cache: &'c StatusCache,
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
        let is_another_s = |old: Resident| old.person.residue() != enrolment.identity.residue();
        if old.is_some_and(is_another_s) || self.cache.aliases.is_another_s(enrolment.identity) {
            return Ok(Applied::Collision);
        }
        let shown = ShownWord::new(enrolment.name, enrolment.phone);
        if let Some(old) = old {
            let same_version = PersonWord::new(enrolment, old.person.version());
            if same_version == old.person && shown == old.shown {
                return Ok(Applied::Known);
            }
        }
        let has_facts = self.cache.side_table.holds(id);
        let mut version = next_version(old, enrolment.change);
        let mut decision = old.map_or(Decision::EMPTY, |old| old.decision);
        if old.is_none() {
            if !self.behind.early_declarations.is_empty()
                && let Some(declared) = self.behind.early_declarations.remove(&id)
            {
                decision = decision.with_declaration(declared);
            }
            let early = self.take_early_revocations(id);
            if has_facts || !early.is_empty() {
                version = self.version_after_early(id, &early, version);
            }
            for revocation in &early {
                if revocation.valid_from > decision.codes_valid_from() {
                    decision = decision.with_codes_valid_from(revocation.valid_from, version);
                }
            }
        }
        // The clock is read for those with facts alone.
        let (active, next) = if has_facts {
            self.cache.side_table.active(id, Timestamp::now())
        } else {
            (CategorySet::EMPTY, None)
        };
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

    /// The version after what arrived before its person's enrolment, so that a rebuild, which reads the topics side by side,
    /// comes to the version that was shown before.
    fn version_after_early(&self, person: PersonId, early: &[CodeRevocation], version: u16) -> u16 {
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
        let enrolled = self.table.get(id);
        let is_another_s = |old: Resident| old.person.residue() != alias.identity.residue();
        if enrolled.is_some_and(is_another_s) || self.cache.aliases.put(alias).is_err() {
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

    pub(super) fn recompute(
        &mut self,
        person: PersonId,
        old: Resident,
        version: u16,
        now: Timestamp,
    ) {
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
