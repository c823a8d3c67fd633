//! Waiting for a store or a log that is away, without leaving the group.
//!
//! A member that does not poll for long loses its partitions. So while something is away the assigned partitions are held
//! still, and the member goes on polling: partitions that go are let go, partitions that come wait to be taken over.

use std::time::Duration;

use event_log::ConsumerEvent;
use tokio::time::Instant;

use crate::pipeline::{Aggregator, AggregatorError};

/// Delays between tries: doubled from the first to the last.
pub(crate) struct Delays(Duration);

impl Delays {
    const LAST: Duration = Duration::from_secs(2);

    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(50))
    }

    pub(crate) fn next(&mut self) -> Duration {
        let delay = self.0;
        self.0 = (delay * 2).min(Self::LAST);
        delay
    }
}

impl Aggregator {
    /// Waits, polling, with every assigned partition held still.
    pub(crate) async fn hold_still(&mut self, delay: Duration) -> Result<(), AggregatorError> {
        self.pause_all(true);
        let until = Instant::now() + delay;
        let outcome = loop {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break Ok(());
            }
            match self.consumer.poll(wait).await {
                Ok(event) => self.note(event),
                Err(error) => break Err(error.into()),
            }
        };
        self.pause_all(false);
        outcome
    }

    fn pause_all(&mut self, paused: bool) {
        for (partition, assigned) in &self.assigned {
            // One that met a record of a newer version stays where it is (INV-10).
            if !assigned.paused {
                self.consumer.set_paused(*partition, paused);
            }
        }
    }

    /// Keeps account of what is this member's, and of what was received.
    pub(crate) fn note(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => self.arrivals.extend(partitions),
            ConsumerEvent::Revoked(partitions) => {
                for partition in partitions {
                    self.let_go(partition);
                }
            }
            ConsumerEvent::Records(partition, records) => {
                if let Some(assigned) = self.assigned.get_mut(&partition) {
                    assigned.gathered.extend(records);
                }
            }
            ConsumerEvent::Idle => {}
        }
    }
}
