//! The facts of the few who have any, read without a lock.

use std::sync::Arc;

use papaya::HashMap;
use scan_model::{CategorySet, Fact, PersonId, Timestamp, fact};

/// Facts by person. A person's facts are replaced as a whole, so a reader sees one state of them.
#[derive(Default)]
pub struct SideTable {
    facts: HashMap<PersonId, Arc<[Fact]>>,
}

impl SideTable {
    /// A person's facts, active or not.
    pub fn get(&self, person: PersonId) -> Arc<[Fact]> {
        self.facts
            .pin()
            .get(&person)
            .cloned()
            .unwrap_or_else(|| Arc::from([]))
    }

    /// Persons with facts.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether nobody has facts.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Takes a fact in: it replaces the one with the same key. Answers whether anything changed. One writer at a time.
    pub(crate) fn put(&self, fact: Fact) -> bool {
        let pinned = self.facts.pin();
        let current = pinned
            .get(&fact.person)
            .cloned()
            .unwrap_or_else(|| Arc::from([]));
        if current.contains(&fact) {
            return false;
        }
        let (person, key) = (fact.person, fact.key());
        let mut facts: Vec<Fact> = current
            .iter()
            .filter(|old| old.key() != key)
            .cloned()
            .collect();
        facts.push(fact);
        pinned.insert(person, facts.into());
        true
    }

    /// The categories active at an instant, and the next instant at which that may change.
    pub(crate) fn active(
        &self,
        person: PersonId,
        now: Timestamp,
    ) -> (CategorySet, Option<Timestamp>) {
        match self.facts.pin().get(&person) {
            Some(facts) => fact::active_categories(facts, now),
            None => (CategorySet::EMPTY, None),
        }
    }

    /// Everyone's facts, for a snapshot and for the sweep of due changes.
    pub(crate) fn all(&self) -> Vec<(PersonId, Arc<[Fact]>)> {
        self.facts
            .pin()
            .iter()
            .map(|(person, facts)| (*person, Arc::clone(facts)))
            .collect()
    }
}
