//! A compacted topic of small segments, and what must be there after a compaction.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use event_log::{Cleanup, LocalLog, Offset, Record, TopicConfig, partition_for};

use super::{append, read_from, segment_files, topic};

pub const SEGMENT_BYTES: u64 = 2000;

pub fn compacted(segment_bytes: u64, delete_retention: Duration) -> TopicConfig {
    topic(1, Cleanup::Compact { delete_retention }, segment_bytes)
}

pub fn small() -> TopicConfig {
    compacted(SEGMENT_BYTES, Duration::from_hours(1))
}

pub fn keyed(key: usize, number: usize, value_length: usize) -> Record {
    let mut value = format!("{key}/{number}/").into_bytes();
    value.resize(value_length.max(value.len()), b'.');
    Record::keyed(format!("key-{key}"), value)
}

/// Appends `count` records over `keys` keys, some of them seldom, one batch each.
pub async fn append_mixed(
    log: &LocalLog,
    count: usize,
    keys: u32,
    value_length: usize,
) -> Vec<(Offset, Record)> {
    let mut records = Vec::new();
    for number in 0..count {
        let any = partition_for(number as u64, keys * keys);
        let record = keyed(any.isqrt() as usize, number, value_length);
        records.push((append(log, record.clone()).await, record));
    }
    records
}

/// What must be there after a compaction: the newest of each key, and what the active segment holds.
pub fn survivors(records: &[(Offset, Record)], active_base: Offset) -> Vec<(Offset, Record)> {
    let newest: HashMap<_, _> = records
        .iter()
        .map(|(offset, r)| (r.key.clone(), *offset))
        .collect();
    let survives = |offset: Offset, record: &Record| {
        offset >= active_base || record.key.is_none() || newest[&record.key] == offset
    };
    records
        .iter()
        .filter(|(offset, record)| survives(*offset, record))
        .cloned()
        .collect()
}

pub fn active_base(folder: &Path) -> Offset {
    segment_files(folder)
        .last()
        .unwrap()
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

pub async fn everything_from(log: &LocalLog, from: Offset) -> Vec<(Offset, Record)> {
    let records = read_from(log, 0, from).await.unwrap();
    records
        .into_iter()
        .map(|stored| (stored.offset, stored.record))
        .collect()
}
