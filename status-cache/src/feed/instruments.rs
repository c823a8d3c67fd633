//! What a feed says of itself in metrics.

use metrics::{Counter, Histogram, counter, histogram};

use crate::positions::StatusTopic;

/// Counts what is applied and what cannot be (INV-9).
pub(super) struct Instruments {
    /// Seconds from a record's append to its effect on this node's answers, once the node has caught up (X2). Between machines the
    /// difference of their clocks is in it.
    pub(super) propagation: Histogram,
    pub(super) applied: Counter,
    pub(super) collisions: Counter,
    pub(super) malformed: Counter,
    pub(super) without_place: Counter,
}

impl Instruments {
    pub(super) fn of(topic: StatusTopic) -> Self {
        Self {
            propagation: histogram!("status_propagation_seconds", "topic" => topic.name()),
            applied: counter!("status_applied_records_total", "topic" => topic.name()),
            collisions: counter!("status_collisions_total"),
            without_place: counter!("status_persons_without_place_total"),
            malformed: counter!("status_malformed_records_total", "topic" => topic.name()),
        }
    }
}
