//! The topics that ingest writes, with their policies. The local log and Kafka have the same ones.

use std::time::Duration;

use event_log::{Cleanup, TopicConfig};

/// Check-ins and every other scan.
pub const SCANS: &str = "scans";
/// Every change of facts, kept for provenance (S4).
pub const FACT_HISTORY: &str = "fact-history";
/// Who looked whom up, who set a person red and why (Y5).
pub const AUDIT: &str = "audit";
/// Records that the aggregator could not store.
pub const DEAD_LETTERS: &str = "dead-letters";

const DAY: Duration = Duration::from_hours(24);

/// How long topics keep their records.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Scans, facts' history and audit.
    pub scans_days: u32,
    /// How long a tombstone of a compacted topic stays.
    pub tombstone_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            scans_days: 60,
            tombstone_days: 14,
        }
    }
}

/// Every topic, the person-keyed ones with the same number of partitions.
pub fn all(partitions: u32, retention: Retention) -> Vec<TopicConfig> {
    let kept = Cleanup::Delete {
        retention: Some(DAY * retention.scans_days),
        retention_bytes: None,
    };
    let compacted = Cleanup::Compact {
        delete_retention: DAY * retention.tombstone_days,
    };
    vec![
        TopicConfig::new(SCANS, partitions, kept.clone()),
        TopicConfig::new(status_cache::feed::PERSONS, partitions, compacted.clone()),
        TopicConfig::new(status_cache::feed::FACTS, partitions, compacted.clone()),
        TopicConfig::new(status_cache::feed::CODE_REVOCATIONS, partitions, compacted),
        TopicConfig::new(status_cache::feed::DECLARATIONS, partitions, kept.clone()),
        TopicConfig::new(FACT_HISTORY, partitions, kept.clone()),
        TopicConfig::new(registry::TOPIC, 1, Cleanup::KEEP),
        TopicConfig::new(AUDIT, 1, kept),
        TopicConfig::new(DEAD_LETTERS, 1, Cleanup::KEEP),
    ]
}
