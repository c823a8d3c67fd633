//! A partition's watermark: everything appended up to it is counted.

use event_log::Partition;
use scan_model::Timestamp;

/// The watermark of one assigned partition, and its metric `aggregator_complete_up_to_seconds`, in Unix seconds. The oldest of all
/// partitions is the watermark of the whole.
pub(crate) struct Watermark {
    complete_up_to: Timestamp,
    gauge: metrics::Gauge,
}

impl Watermark {
    /// A watermark that knows nothing yet.
    pub(crate) fn of(partition: Partition) -> Self {
        // Bounded by the number of partitions, and made when one comes (INV-9).
        let label = partition.to_string();
        Self {
            complete_up_to: Timestamp(0),
            gauge: metrics::gauge!("aggregator_complete_up_to_seconds", "partition" => label),
        }
    }

    /// Everything appended up to an instant is counted.
    pub(crate) fn raise(&mut self, instant: Timestamp) {
        if instant > self.complete_up_to {
            self.complete_up_to = instant;
            self.gauge.set(instant.0 as f64 / 1000.0);
        }
    }

    /// The instant, once one is known.
    pub(crate) fn known(&self) -> Option<Timestamp> {
        (self.complete_up_to.0 > 0).then_some(self.complete_up_to)
    }
}

impl Drop for Watermark {
    fn drop(&mut self) {
        // The next owner states it.
        self.gauge.set(f64::NAN);
    }
}
