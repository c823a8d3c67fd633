//! Facts of health, CDC and national-platform feeds (S4).

use bincode::{Decode, Encode};

use crate::person::PersonId;
use crate::status::{Category, CategorySet};
use crate::time::Timestamp;

/// What one source says of one person, from when until when, and who supplied it.
///
/// A later record of the same [`FactKey`] replaces it; a withdrawal is a record whose end is not after its start.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fact {
    /// Whom it is about.
    pub person: PersonId,
    /// What is said.
    pub category: Category,
    /// The feed, such as `guangzhou-cdc`.
    pub source: String,
    /// The feed's own reference.
    pub reference: String,
    /// From when it counts.
    pub effective: Timestamp,
    /// Until when it counts; `None` until withdrawn.
    pub expiry: Option<Timestamp>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Keyed hash of who supplied it.
    pub supplied_by: u64,
    /// Why, in the supplier's words. Carries no identity (INV-3).
    pub note: String,
    /// The number of this change of the person's status, as the appending node counted (S6).
    pub change: u16,
}

/// Ends every code of a person that was issued before an instant (P4, X13).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CodeRevocation {
    /// Whose codes.
    pub person: PersonId,
    /// Codes issued before this instant, rounded up to the minute, are refused.
    pub valid_from: Timestamp,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Keyed hash of who asked for it.
    pub supplied_by: u64,
    /// The number of this change of the person's status, as the appending node counted (S6).
    pub change: u16,
}

impl CodeRevocation {
    /// The key as the compacted topic `code-revocations` keeps it: person first, so that it partitions by person, and the minute from
    /// which codes are valid again, to which the status table rounds up. A person's latest record need not be the latest instant where
    /// two nodes revoke at once and their clocks differ, so compaction drops none of another minute.
    pub fn topic_key(&self) -> Vec<u8> {
        const MINUTE_MS: i64 = 60_000;
        let mut key = self.person.0.to_be_bytes().to_vec();
        let minute = (self.valid_from.0 + MINUTE_MS - 1).div_euclid(MINUTE_MS);
        key.extend_from_slice(&minute.to_be_bytes());
        key
    }
}

/// What makes two records speak of the same fact: person, source, category, reference.
pub type FactKey = (PersonId, String, Category, String);

/// Longest source, reference or note, in bytes.
pub const MAX_TEXT: usize = 200;

impl Fact {
    /// The key of this fact.
    pub fn key(&self) -> FactKey {
        (
            self.person,
            self.source.clone(),
            self.category,
            self.reference.clone(),
        )
    }

    /// The key as the compacted topic `facts` keeps it: person first, so that it partitions by person.
    pub fn topic_key(&self) -> Vec<u8> {
        let mut key = self.person.0.to_be_bytes().to_vec();
        key.push(self.category as u8);
        key.extend_from_slice(self.source.as_bytes());
        key.push(0);
        key.extend_from_slice(self.reference.as_bytes());
        key
    }

    /// Whether it counts at an instant: from `effective`, up to but not including `expiry`.
    pub fn is_active_at(&self, now: Timestamp) -> bool {
        is_active(self.effective, self.expiry, now)
    }

    /// The next instant after `now` at which [`Self::is_active_at`] changes.
    pub fn next_change_after(&self, now: Timestamp) -> Option<Timestamp> {
        next_change(self.effective, self.expiry, now)
    }
}

/// Whether something counts at an instant that counts from `effective`, up to but not including `expiry`.
pub fn is_active(effective: Timestamp, expiry: Option<Timestamp>, now: Timestamp) -> bool {
    effective <= now && expiry.is_none_or(|expiry| now < expiry)
}

/// The next instant after `now` at which [`is_active`] changes.
pub fn next_change(
    effective: Timestamp,
    expiry: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    if expiry.is_some_and(|expiry| expiry <= effective) {
        return None;
    }
    [Some(effective), expiry]
        .into_iter()
        .flatten()
        .filter(|time| *time > now)
        .min()
}

/// The categories active at an instant, and the next instant at which that may change.
pub fn active_categories(facts: &[Fact], now: Timestamp) -> (CategorySet, Option<Timestamp>) {
    let active = facts
        .iter()
        .filter(|f| f.is_active_at(now))
        .map(|f| f.category)
        .collect();
    let next = facts.iter().filter_map(|f| f.next_change_after(now)).min();
    (active, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(effective: i64, expiry: Option<i64>) -> Fact {
        Fact {
            person: PersonId(1),
            category: Category::Confirmed,
            source: "cdc".into(),
            reference: "1".into(),
            effective: Timestamp(effective),
            expiry: expiry.map(Timestamp),
            recorded_at: Timestamp(0),
            supplied_by: 0,
            note: String::new(),
            change: 1,
        }
    }

    #[test]
    fn s4_a_fact_counts_from_its_start_up_to_its_end() {
        let fact = fact(10, Some(20));
        assert_eq!(
            [9, 10, 19, 20].map(|t| fact.is_active_at(Timestamp(t))),
            [false, true, true, false]
        );
        assert_eq!(fact.next_change_after(Timestamp(9)), Some(Timestamp(10)));
        assert_eq!(fact.next_change_after(Timestamp(10)), Some(Timestamp(20)));
        assert_eq!(fact.next_change_after(Timestamp(20)), None);
    }

    #[test]
    fn s4_a_withdrawn_fact_never_counts() {
        let withdrawn = fact(10, Some(10));
        assert!(!withdrawn.is_active_at(Timestamp(10)));
        assert_eq!(withdrawn.next_change_after(Timestamp(0)), None);
    }

    #[test]
    fn x13_revocations_of_another_minute_have_another_key() {
        let revocation = |valid_from| CodeRevocation {
            person: PersonId(7),
            valid_from: Timestamp(valid_from),
            recorded_at: Timestamp(0),
            supplied_by: 0,
            change: 1,
        };
        let key = |valid_from| revocation(valid_from).topic_key();
        assert_eq!(key(60_001), key(120_000));
        assert_ne!(key(60_000), key(60_001));
        assert_eq!(key(1)[..8], 7_u64.to_be_bytes());
    }

    #[test]
    fn s4_several_facts_count_together() {
        let mut second = fact(15, None);
        second.category = Category::HomeIsolation;
        let (active, next) = active_categories(&[fact(10, Some(20)), second], Timestamp(16));
        assert!(active.contains(Category::Confirmed) && active.contains(Category::HomeIsolation));
        assert_eq!(next, Some(Timestamp(20)));
    }
}
