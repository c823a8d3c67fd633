//! The facts of the few who have any, read without a lock.

use std::sync::Arc;

use papaya::HashMap;
use scan_model::{CategorySet, Fact, PersonId, Timestamp};
use seize::Collector;

use crate::packed_facts::PackedFacts;
use crate::table::{SEGMENTS, segment_of};

/// Facts by person, in the table's segments. A person's facts are replaced as a whole, so a reader sees one state of them.
pub struct SideTable {
    segments: Box<[HashMap<PersonId, PackedFacts, foldhash::fast::RandomState>]>,
}

impl Default for SideTable {
    fn default() -> Self {
        let collector = Arc::new(Collector::new());
        let segment = |_| {
            HashMap::builder()
                .hasher(foldhash::fast::RandomState::default())
                .shared_collector(Arc::clone(&collector))
                .build()
        };
        Self {
            segments: (0..SEGMENTS).map(segment).collect(),
        }
    }
}

impl SideTable {
    fn of(&self, person: PersonId) -> &HashMap<PersonId, PackedFacts, foldhash::fast::RandomState> {
        &self.segments[segment_of(person)]
    }

    /// A person's facts, active or not.
    pub fn get(&self, person: PersonId) -> Vec<Fact> {
        self.of(person)
            .pin()
            .get(&person)
            .map_or_else(Vec::new, |packed| packed.unpack(person))
    }

    /// Whether a person has facts, active or not.
    pub fn holds(&self, person: PersonId) -> bool {
        let segment = self.of(person);
        !segment.is_empty() && segment.pin().contains_key(&person)
    }

    /// Persons with facts.
    pub fn len(&self) -> usize {
        self.segments.iter().map(HashMap::len).sum()
    }

    /// Whether nobody has facts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a fact in: it replaces the one with the same key. Answers whether anything changed. One writer at a time.
    pub(crate) fn put(&self, fact: Fact) -> bool {
        let person = fact.person;
        let mut facts = self.get(person);
        let same_key = |old: &Fact| {
            old.category == fact.category
                && old.source == fact.source
                && old.reference == fact.reference
        };
        match facts.iter_mut().find(|old| same_key(old)) {
            Some(old) if *old == fact => return false,
            Some(old) => *old = fact,
            None => facts.push(fact),
        }
        self.restore(person, PackedFacts::of(&facts));
        true
    }

    /// Gives the facts that came under one id to the person whom it stands for; of two with one key the later one counts. Answers the
    /// numbers of the changes that this makes.
    pub(crate) fn share(&self, from: PersonId, to: PersonId) -> Vec<u16> {
        let mut changes = Vec::new();
        for mut fact in self.get(from) {
            fact.person = to;
            let same = |old: &Fact| old.key() == fact.key();
            let has_newer = self
                .get(to)
                .iter()
                .any(|old| same(old) && old.recorded_at >= fact.recorded_at);
            let change = fact.change;
            if !has_newer && self.put(fact) {
                changes.push(change);
            }
        }
        changes
    }

    /// Puts a person's facts in as a whole.
    pub(crate) fn restore(&self, person: PersonId, facts: PackedFacts) {
        self.of(person).pin().insert(person, facts);
    }

    /// The categories active at an instant, and the next instant at which that may change.
    pub(crate) fn active(
        &self,
        person: PersonId,
        now: Timestamp,
    ) -> (CategorySet, Option<Timestamp>) {
        match self.of(person).pin().get(&person) {
            Some(facts) => facts.active(now),
            None => (CategorySet::EMPTY, None),
        }
    }

    /// The facts of a segment's persons, for a snapshot.
    pub(crate) fn copy_segment(&self, segment: usize) -> Vec<(PersonId, PackedFacts)> {
        let pinned = self.segments[segment].pin();
        pinned
            .iter()
            .map(|(person, facts)| (*person, facts.clone()))
            .collect()
    }

    /// The persons of a segment who have facts.
    pub(crate) fn persons(&self, segment: usize) -> Vec<PersonId> {
        self.segments[segment].pin().keys().copied().collect()
    }
}
