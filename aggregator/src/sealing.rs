//! From stored records to a sealed batch: decoded, counted once, encoded once.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use event_log::{Offset, Partition, StoredRecord};
use hashbrown::HashMap;
use scan_model::codec::{self, CodecError};
use scan_model::{Scan, Timestamp};

use crate::dead_letters;
use crate::pipeline::{Aggregator, AggregatorError};
use crate::recovery;
use crate::sealed::{BatchSealer, SealedBatch};
use crate::window::Seen;

impl Aggregator {
    /// Decodes, drops what was seen before, encodes. Dead letters are durable before the batch is sealed.
    pub(crate) async fn seal(
        &mut self,
        partition: Partition,
        records: Vec<StoredRecord>,
        range_end: Option<Offset>,
    ) -> Result<SealedBatch, AggregatorError> {
        let first = self
            .assigned
            .get(&partition)
            .map_or(0, |assigned| assigned.next);
        let mut next = range_end.unwrap_or_else(|| records.last().map_or(first, |r| r.offset + 1));
        let mut scans = Vec::with_capacity(records.len());
        for record in records {
            let value = record.record.value.unwrap_or_default();
            match codec::decode::<Scan>(&value) {
                Ok(scan) => scans.push((record.offset, Timestamp(record.append_time_ms), scan)),
                Err(error @ CodecError::NewerVersion { .. }) => {
                    tracing::error!(partition, record.offset, %error, "partition paused (INV-10)");
                    metrics::gauge!("aggregator_paused_partitions").increment(1.0);
                    self.consumer.set_paused(partition, true);
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        assigned.paused = true;
                    }
                    next = record.offset;
                    break;
                }
                Err(error) => {
                    let reason = error.to_string();
                    dead_letters::write(&self.log, partition, record.offset, &reason, &value)
                        .await?;
                }
            }
        }
        let Some(assigned) = self.assigned.get(&partition) else {
            return Ok(BatchSealer::new(partition, first).seal(first));
        };
        // All are asked before any is remembered, because remembering makes the window forget others.
        let asked: Vec<(u64, Seen)> = scans
            .iter()
            .map(|(_, _, scan)| {
                let digest = digest(assigned.window.hasher(), scan);
                (digest, assigned.window.ask(scan, digest))
            })
            .collect();
        let old_ids: Vec<_> = scans
            .iter()
            .zip(&asked)
            .filter(|(_, (_, seen))| *seen == Seen::PerhapsInRaw)
            .map(|((_, _, scan), _)| (scan.person, scan.scan_id))
            .collect();
        let in_raw = if old_ids.is_empty() {
            HashSet::new()
        } else {
            self.ask_store("look for old scan ids", |store| {
                let old_ids = &old_ids;
                async move { recovery::seen_in_raw(&store, partition, first, old_ids).await }
            })
            .await?
        };
        // It may have gone to another while the store was away.
        let Some(assigned) = self.assigned.get_mut(&partition) else {
            return Ok(BatchSealer::new(partition, first).seal(first));
        };
        let mut in_batch = HashMap::with_capacity(scans.len());
        let mut sealer = BatchSealer::new(partition, first);
        sealer.reserve(scans.len());
        for ((offset, appended_at, scan), (digest, seen)) in scans.iter().zip(asked) {
            sealer.note_time(*appended_at);
            let key = (scan.person, scan.scan_id);
            let seen = match (in_batch.get(&key), seen) {
                (Some(known), _) if *known == digest => Seen::Duplicate,
                (Some(_), _) => Seen::Conflict,
                (None, Seen::PerhapsInRaw) if in_raw.contains(&key) => Seen::Duplicate,
                (None, seen) => seen,
            };
            if seen == Seen::Conflict {
                self.conflicts_total.increment(1);
                tracing::warn!(partition, offset, scan = %scan.scan_id, "a scan id came again with other contents; the first counts");
            }
            if matches!(seen, Seen::Duplicate | Seen::Conflict) {
                self.duplicates_total.increment(1);
                continue;
            }
            in_batch.insert(key, digest);
            assigned
                .window
                .remember(scan.person, scan.scan_id, digest, *appended_at);
            sealer.push(*offset, *appended_at, scan);
        }
        assigned.next = next;
        Ok(sealer.seal(next))
    }
}

/// What of a scan its client decided: two copies of one scan agree on it, whatever the server added.
fn digest(hasher: &impl BuildHasher, scan: &Scan) -> u64 {
    let mut hasher = hasher.build_hasher();
    scan.kind.hash(&mut hasher);
    scan.site.hash(&mut hasher);
    (scan.checkpoint, scan.direction, scan.band, scan.decidegrees).hash(&mut hasher);
    (scan.corrects, scan.party, scan.operator).hash(&mut hasher);
    // A client that states no time gets the time of arrival, which differs between copies.
    if scan.event_time != scan.received_at {
        scan.event_time.0.hash(&mut hasher);
    }
    hasher.finish().max(1)
}
