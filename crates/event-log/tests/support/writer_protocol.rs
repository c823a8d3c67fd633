//! What the writer program and the test that kills it agree on.

use std::time::Duration;

use event_log::{Cleanup, Offset, Partition, TopicConfig, partition_for};

/// The topic that keeps everything.
pub const EVENTS: &str = "events";
/// The topic that keeps the newest record of each key.
pub const NEWEST: &str = "newest";
/// The group whose position the writer commits in partition 0 of [`EVENTS`].
pub const GROUP: &str = "followers";
/// Partitions of [`EVENTS`].
pub const PARTITIONS: u32 = 4;
/// Keys of [`NEWEST`].
pub const KEYS: u64 = 8;
/// Tasks that append to [`EVENTS`] at the same time.
pub const TASKS: u64 = 6;

/// The topics, with segments so small that each run rolls and compacts many.
pub fn topics() -> Vec<TopicConfig> {
    let events = TopicConfig::new(EVENTS, PARTITIONS, Cleanup::KEEP);
    let compact = Cleanup::Compact {
        delete_retention: Duration::from_hours(1),
    };
    let newest = TopicConfig::new(NEWEST, 1, compact);
    vec![
        TopicConfig {
            segment_bytes: 16 << 10,
            ..events
        },
        TopicConfig {
            segment_bytes: 2 << 10,
            ..newest
        },
    ]
}

/// One append to [`EVENTS`]: the `sequence`th of a task in a run of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Append {
    pub run: u64,
    pub task: u64,
    pub sequence: u64,
}

impl Append {
    fn dice(self, sides: u32) -> u32 {
        let Self {
            run,
            task,
            sequence,
        } = self;
        partition_for(
            (run << 40) ^ (task << 32) ^ sequence ^ (u64::from(sides) << 56),
            sides,
        )
    }

    pub fn partition(self) -> Partition {
        self.dice(PARTITIONS)
    }

    /// How many records: mostly one.
    pub fn count(self) -> u64 {
        u64::from(self.dice(9)).saturating_sub(4).max(1)
    }

    pub fn key(self) -> String {
        format!("{}-{}", self.task, self.sequence % 32)
    }

    /// The value of one of its records: who wrote it, and padding that differs from value to value.
    pub fn value(self, index: u64) -> Vec<u8> {
        let Self {
            run,
            task,
            sequence,
        } = self;
        let mut value = format!("{run} {task} {sequence} {index} ").into_bytes();
        // Now and then one so large that a kill can meet the write half done.
        let padding = if self.dice(101) == 7 {
            96 << 10
        } else {
            self.dice(257) as usize
        };
        value.resize(value.len() + padding, b'a' + self.dice(26) as u8);
        value
    }

    /// The append and the index that a value states.
    pub fn of_value(value: &[u8]) -> Option<(Self, u64)> {
        let mut words = value
            .split(|byte| *byte == b' ')
            .map(|word| str::from_utf8(word).ok());
        let mut number = || words.next()??.parse().ok();
        let append = Self {
            run: number()?,
            task: number()?,
            sequence: number()?,
        };
        Some((append, number()?))
    }
}

/// A line of the writer's output, written only after the log has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// An append to [`EVENTS`] came to stand at an offset.
    Appended(Append, Partition, Offset),
    /// The `number`th record of a run to [`NEWEST`] came to stand at an offset.
    Newest {
        run: u64,
        number: u64,
        offset: Offset,
    },
    /// The group's position was committed.
    Committed(Offset),
}

impl Line {
    pub fn print(self) -> String {
        match self {
            Self::Appended(
                Append {
                    run,
                    task,
                    sequence,
                },
                partition,
                first,
            ) => {
                format!("appended {run} {task} {sequence} {partition} {first}")
            }
            Self::Newest {
                run,
                number,
                offset,
            } => format!("newest {run} {number} {offset}"),
            Self::Committed(offset) => format!("committed {offset}"),
        }
    }

    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse().ok();
        match kind {
            "appended" => {
                let append = Append {
                    run: number()?,
                    task: number()?,
                    sequence: number()?,
                };
                Some(Self::Appended(append, number()? as Partition, number()?))
            }
            "newest" => Some(Self::Newest {
                run: number()?,
                number: number()?,
                offset: number()?,
            }),
            "committed" => number().map(Self::Committed),
            _ => None,
        }
    }
}
