//! Claim: records that are no scans, and scans that the store refuses for what they are, become dead letters, each once, and
//! neither hold up nor spoil the scans around them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use aggregator::{DEAD_LETTERS, SCANS};
use event_log::{Offset, Partition, Record, partition_for};
use scan_model::codec;
use serde::Deserialize;

use crate::cluster_support::PARTITIONS;
use crate::cluster_support::engine_support::scans::ScanSource;
use crate::cluster_support::scenario::{Scenario, short_or_long};

/// Nobody's id; the store is made to refuse it.
const REFUSED: u64 = 0xDEAD;

#[derive(Deserialize)]
struct DeadLetter {
    partition: Partition,
    offset: Offset,
    reason: String,
    /// In hexadecimal.
    value: String,
}

fn to_hex(value: &[u8]) -> String {
    value.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_poison_record() {
    let scenario = Scenario::start(1, 2).await;
    let log = scenario.cluster.log();
    // Stands for whatever a store may refuse: an insert with this person fails as a whole.
    let guard = format!(
        "ALTER TABLE scans ADD COLUMN guard UInt8 MATERIALIZED throwIf(person = {REFUSED})"
    );
    scenario.cluster.store().execute(&guard).await.unwrap();
    let mut source = ScanSource::new(scenario.random.clone());
    let mut poisoned = BTreeMap::new();
    let pause = short_or_long(1, 5);
    for number in 0..12 {
        tokio::time::sleep(pause).await;
        let mut scan = source.next();
        scan.person.0 = REFUSED;
        scan.scan_id.0 += number;
        let whole = codec::encode(&scan).unwrap();
        let (partition, value) = match number % 4 {
            0 => (0, whole[..whole.len() / 2].to_vec()),
            1 => (1, Vec::new()),
            2 => (2, vec![1; 40]),
            _ => (partition_for(REFUSED, PARTITIONS), whole),
        };
        let appended = log.append(SCANS, partition, vec![Record::unkeyed(value.clone())]);
        let place = (partition, appended.await.unwrap().first);
        poisoned.insert(place, to_hex(&value));
    }
    scenario
        .conclude_with(async |_| {
            let end = log.bounds(DEAD_LETTERS, 0).await.unwrap().end;
            let mut reader = log.read(DEAD_LETTERS, 0, 0).await.unwrap();
            let mut letters: Vec<DeadLetter> = Vec::new();
            while reader.position() < end {
                for record in reader.next(1 << 20, Duration::from_secs(1)).await.unwrap() {
                    letters.push(serde_json::from_slice(&record.record.value.unwrap()).unwrap());
                }
            }
            let kept = letters
                .iter()
                .map(|letter| ((letter.partition, letter.offset), letter.value.clone()));
            assert_eq!(kept.collect::<BTreeMap<_, _>>(), poisoned);
            assert_eq!(letters.len(), poisoned.len(), "each once");
            assert!(letters.iter().all(|letter| !letter.reason.is_empty()));
        })
        .await;
}
