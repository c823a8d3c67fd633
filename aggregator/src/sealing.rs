//! From stored records to a sealed batch: decoded, counted once, encoded once.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};

use bytes::Bytes;
use event_log::{Offset, Partition, StoredRecord};
use hashbrown::HashMap;
use scan_model::codec::{self, CodecError};
use scan_model::{Scan, SiteId, Timestamp};
use warehouse::{Store, StoreError, erasure};

use crate::dead_letters;
use crate::patience::Delays;
use crate::pipeline::{Aggregator, AggregatorError};
use crate::recovery;
use crate::sealed::{BatchSealer, SealedBatch};
use crate::window::{Seen, Window};

/// A scan at its place in the log.
pub(crate) type PlacedScan = (Offset, Timestamp, Scan);

/// What records of one partition are.
#[derive(Default)]
pub(crate) struct Decoded {
    /// The scans, in order.
    pub(crate) scans: Vec<PlacedScan>,
    /// Records that are no scans of any version, with the reason and the value.
    pub(crate) malformed: Vec<(Offset, String, Bytes)>,
    /// A record of a newer version: nothing behind it was decoded (INV-10).
    pub(crate) newer: Option<(Offset, CodecError)>,
}

/// Decodes records up to the first of a newer version.
pub(crate) fn decode(records: Vec<StoredRecord>) -> Decoded {
    let mut decoded = Decoded {
        scans: Vec::with_capacity(records.len()),
        ..Decoded::default()
    };
    for record in records {
        let value = record.record.value.unwrap_or_default();
        match codec::decode::<Scan>(&value) {
            Ok(scan) => {
                let appended_at = Timestamp(record.append_time_ms);
                decoded.scans.push((record.offset, appended_at, scan));
            }
            Err(error @ CodecError::NewerVersion { .. }) => {
                decoded.newer = Some((record.offset, error));
                break;
            }
            Err(error) => {
                let reason = error.to_string();
                decoded.malformed.push((record.offset, reason, value));
            }
        }
    }
    decoded
}

/// A batch, and how many records were left out of it.
pub(crate) struct CountedOnce {
    pub(crate) batch: SealedBatch,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
}

/// Seals the range `first..next` of a partition: drops what was seen before, forgets dissolved grids, encodes. After an error
/// nothing is remembered, and the same call may be made again.
pub(crate) async fn count_once(
    store: &Store,
    window: &mut Window,
    partition: Partition,
    range: std::ops::Range<Offset>,
    scans: &[PlacedScan],
    dissolved: &BTreeSet<SiteId>,
) -> Result<CountedOnce, StoreError> {
    // All are asked before any is remembered, because remembering makes the window forget others.
    let asked: Vec<(u64, Seen)> = scans
        .iter()
        .map(|(_, _, scan)| {
            let digest = digest(window.hasher(), scan);
            (digest, window.ask(scan, digest))
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
        recovery::seen_in_raw(store, partition, range.start, &old_ids).await?
    };
    let (mut duplicates, mut conflicts) = (0, 0);
    let mut in_batch = HashMap::with_capacity(scans.len());
    let mut sealer = BatchSealer::new(partition, range.start);
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
            conflicts += 1;
            tracing::warn!(partition, offset, scan = %scan.scan_id, "a scan id came again with other contents; the first counts");
        }
        if matches!(seen, Seen::Duplicate | Seen::Conflict) {
            duplicates += 1;
            continue;
        }
        in_batch.insert(key, digest);
        window.remember(scan.person, scan.scan_id, digest, *appended_at);
        if erasure::is_erased(scan, dissolved) {
            let mut forgotten = scan.clone();
            erasure::forget_grid(&mut forgotten);
            sealer.push(*offset, *appended_at, &forgotten);
        } else {
            sealer.push(*offset, *appended_at, scan);
        }
    }
    Ok(CountedOnce {
        batch: sealer.seal(range.end),
        duplicates,
        conflicts,
    })
}

impl Aggregator {
    /// Decodes, drops what was seen before, encodes. Dead letters are durable before the batch is sealed.
    pub(crate) async fn seal(
        &mut self,
        partition: Partition,
        mut records: Vec<StoredRecord>,
        range_end: Option<Offset>,
    ) -> Result<SealedBatch, AggregatorError> {
        let first = self
            .assigned
            .get(&partition)
            .map_or(0, |assigned| assigned.next);
        let mut next = range_end.unwrap_or_else(|| records.last().map_or(first, |r| r.offset + 1));
        if let Some(assigned) = self.assigned.get(&partition) {
            records.retain(|record| !assigned.buried.contains(&record.offset));
        }
        let decoded = decode(records);
        for (offset, reason, value) in &decoded.malformed {
            dead_letters::write(&self.log, partition, *offset, reason, value).await?;
        }
        if let Some((offset, error)) = decoded.newer {
            tracing::error!(partition, offset, %error, "partition paused (INV-10)");
            metrics::gauge!("aggregator_paused_partitions").increment(1.0);
            self.consumer.set_paused(partition, true);
            if let Some(assigned) = self.assigned.get_mut(&partition) {
                assigned.paused = true;
            }
            next = offset;
        }
        let dissolved = self.dissolved.grids();
        let mut delays = Delays::new();
        let CountedOnce {
            batch,
            duplicates,
            conflicts,
        } = loop {
            // It may have gone to another while the store was away.
            let Some(assigned) = self.assigned.get_mut(&partition) else {
                return Ok(BatchSealer::new(partition, first).seal(first));
            };
            let window = &mut assigned.window;
            let (scans, range) = (&decoded.scans, first..next);
            match count_once(&self.store, window, partition, range, scans, &dissolved).await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, partition, "the store is away; old scan ids are looked for again");
                    self.hold_still(delays.next()).await?;
                }
                counted => break counted?,
            }
        };
        if let Some(assigned) = self.assigned.get_mut(&partition) {
            assigned.next = next;
        }
        self.duplicates_total.increment(duplicates);
        self.conflicts_total.increment(conflicts);
        Ok(batch)
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
