//! Recognises a scan that was sent before (X3).
//!
//! A scan is remembered only once it is durable: marking it earlier would acknowledge a retry of a write that failed. Two
//! copies that arrive together may therefore both reach the log; the aggregator counts one.

use hashbrown::DefaultHashBuilder;
use moka::sync::Cache;
use scan_model::{PersonId, ScanId};

use crate::bulk::Done;
use crate::problem::Problem;

/// What was answered to a scan, as far as a retry needs it.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Hash of what the client sent.
    pub body: u64,
    /// The answer, or the refusal that was recorded.
    pub outcome: Result<Done, Problem>,
}

/// Answers by person and scan id, bounded; the least used are forgotten first.
pub struct Answers {
    cache: Cache<(PersonId, ScanId), Remembered, DefaultHashBuilder>,
}

/// What is known of a scan that arrives.
pub enum Recollection {
    /// Nothing.
    New,
    /// The same scan: answer the same again.
    Repeat(Result<Done, Problem>),
    /// The id was used for another body.
    Conflict(Problem),
}

impl Answers {
    /// Room for so many scans; about 300 bytes each.
    pub fn new(capacity: u64) -> Self {
        let cache = Cache::builder().max_capacity(capacity);
        Self {
            cache: cache.build_with_hasher(DefaultHashBuilder::default()),
        }
    }

    /// Compares a scan with what was answered before.
    pub fn recall(&self, person: PersonId, scan: ScanId, body: u64) -> Recollection {
        match self.cache.get(&(person, scan)) {
            None => Recollection::New,
            Some(known) if known.body == body => Recollection::Repeat(known.outcome),
            Some(_) => Recollection::Conflict(Problem::conflict(
                "scan_id",
                "this scan id was sent before with other contents; a correction is a new scan that names it in corrects",
            )),
        }
    }

    /// Remembers the answer to a scan that is durable.
    pub fn remember(&self, person: PersonId, scan: ScanId, remembered: Remembered) {
        self.cache.insert((person, scan), remembered);
    }

    /// Scans remembered.
    pub fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
