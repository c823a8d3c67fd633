//! Where a cache stands in the log: one offset a partition, and after a restore one a partition and segment.
//!
//! A snapshot copies segment by segment while the log is followed, so each segment is as of an offset of its own. After a
//! restore a partition is read from the lowest of them on, and a record is applied only where it is not below the offset
//! of its person's segment: everything exactly once, though nothing stood still for the copy.

use std::collections::{BTreeMap, HashMap};

use event_log::{Offset, Partition};

use crate::table::SEGMENTS;

/// The next offset of each partition of each topic.
pub type Positions = HashMap<(String, Partition), Offset>;

/// The topics that a cache follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusTopic {
    /// Enrolments and aliases.
    Persons,
    /// Facts.
    Facts,
    /// Revocations of codes.
    CodeRevocations,
    /// Declarations, which renew codes.
    Declarations,
}

impl StatusTopic {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Persons,
        Self::Facts,
        Self::CodeRevocations,
        Self::Declarations,
    ];

    /// The topic's name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Persons => "persons",
            Self::Facts => "facts",
            Self::CodeRevocations => "code-revocations",
            Self::Declarations => "declarations",
        }
    }

    /// The topic of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// An offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The topic.
    pub topic: StatusTopic,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
}

/// What of the log is applied.
#[derive(Clone, Debug, Default)]
pub struct AppliedPositions {
    next: BTreeMap<(StatusTopic, Partition), Offset>,
    /// Of a restored snapshot, by segment; a partition leaves it once it is beyond all of them.
    restored: BTreeMap<(StatusTopic, Partition), Box<[Offset]>>,
}

impl AppliedPositions {
    /// States that all below an offset is applied.
    pub fn advance(&mut self, to: LogPosition) {
        let key = (to.topic, to.partition);
        self.next.insert(key, to.offset);
        if let Some(segments) = self.restored.get(&key)
            && segments.iter().all(|offset| *offset <= to.offset)
        {
            self.restored.remove(&key);
        }
    }

    /// Whether a restored segment contains the record at an offset.
    pub fn covers(&self, at: &LogPosition, segment: usize) -> bool {
        self.restored
            .get(&(at.topic, at.partition))
            .is_some_and(|segments| at.offset < segments[segment])
    }

    /// For a segment: the offset of each partition below which all of the segment's records are applied.
    pub fn of_segment(&self, segment: usize) -> Vec<LogPosition> {
        let offset_of = |key, next: Offset| {
            let restored = self.restored.get(key).map_or(0, |all| all[segment]);
            next.max(restored)
        };
        self.next
            .iter()
            .map(|(key, next)| LogPosition {
                topic: key.0,
                partition: key.1,
                offset: offset_of(key, *next),
            })
            .collect()
    }

    /// Takes in where a restored segment stands.
    pub fn restore_segment(&mut self, segment: usize, positions: &[LogPosition]) {
        for at in positions {
            let offsets = self
                .restored
                .entry((at.topic, at.partition))
                .or_insert_with(|| vec![0; SEGMENTS].into_boxed_slice());
            offsets[segment] = at.offset;
        }
    }

    /// After the last segment is restored: partitions are to be read from the lowest offset of any segment.
    pub fn finish_restore(&mut self) {
        for (key, offsets) in &self.restored {
            let lowest = offsets.iter().copied().min().unwrap_or(0);
            self.next.insert(*key, lowest);
        }
        self.restored
            .retain(|_, offsets| offsets.iter().any(|offset| *offset != offsets[0]));
    }

    /// The next offset of each partition that is applied nowhere: beyond the lowest where a restored segment is.
    pub fn highest(&self) -> BTreeMap<(StatusTopic, Partition), Offset> {
        let highest = |(key, next): (&(StatusTopic, Partition), &Offset)| {
            let restored = self.restored.get(key).into_iter().flatten();
            let all = restored.chain([next]);
            (*key, all.copied().max().unwrap_or(*next))
        };
        self.next.iter().map(highest).collect()
    }

    /// The next offset of each partition that is not applied everywhere.
    pub fn lowest(&self) -> Positions {
        self.next
            .iter()
            .map(|((topic, partition), next)| ((topic.name().to_owned(), *partition), *next))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(offset: Offset) -> LogPosition {
        LogPosition {
            topic: StatusTopic::Facts,
            partition: 3,
            offset,
        }
    }

    #[test]
    fn a_restored_segment_skips_what_it_contains_and_no_more() {
        let mut applied = AppliedPositions::default();
        for segment in 0..SEGMENTS {
            applied.restore_segment(segment, &[at(if segment < 100 { 10 } else { 20 })]);
        }
        applied.finish_restore();
        assert_eq!(applied.lowest()[&("facts".to_owned(), 3)], 10);
        assert_eq!(applied.highest()[&(StatusTopic::Facts, 3)], 20);
        assert!(!applied.covers(&at(10), 0) && applied.covers(&at(10), 120));
        applied.advance(at(15));
        assert!(applied.covers(&at(19), 120), "not beyond all segments yet");
        assert_eq!(applied.of_segment(0), [at(15)]);
        assert_eq!(applied.of_segment(120), [at(20)]);
        applied.advance(at(20));
        assert!(!applied.covers(&at(20), 120));
        assert_eq!(applied.of_segment(120), [at(20)]);
    }
}
