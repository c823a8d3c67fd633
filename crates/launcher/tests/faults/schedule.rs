//! What a soak does when: a function of its seed.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A fault, with everything about it that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    IngestKilled {
        node: usize,
    },
    AggregatorKilled {
        aggregator: usize,
    },
    /// Between an insert and its commit.
    AllAggregatorsKilledAfterAnInsert,
    AggregatorFrozen {
        aggregator: usize,
        milliseconds: u64,
    },
    AggregatorLeaves {
        aggregator: usize,
        milliseconds: u64,
    },
    EngineKilled,
    EngineFrozen {
        milliseconds: u64,
    },
    StoreRefuses {
        milliseconds: u64,
    },
    StoreSlow {
        milliseconds: u64,
    },
    StoreAnswersErrors {
        milliseconds: u64,
    },
    StoreCutsAnswers {
        milliseconds: u64,
    },
    BrokerKilled {
        broker: u32,
        milliseconds: u64,
    },
    AllBrokersFrozen {
        milliseconds: u64,
    },
    PoisonRecord {
        partition: u32,
    },
}

/// Kinds of faults.
pub const KINDS: usize = 14;

/// Every so often something fails, for as long as the soak lasts; each kind comes once before any comes again.
pub fn schedule(seed: u64, lasts: Duration) -> Vec<(Duration, Fault)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut kinds: Vec<usize> = Vec::new();
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.random_range(1_000..5_000));
        if at >= lasts {
            return steps;
        }
        if kinds.is_empty() {
            kinds = (0..KINDS).collect();
            kinds.shuffle(&mut random);
        }
        let kind = kinds.pop().unwrap_or_default();
        let fault = draw(kind, &mut random);
        steps.push((at, fault));
        at += fault.lasts();
    }
}

fn draw(kind: usize, random: &mut ChaCha8Rng) -> Fault {
    let which = random.random_range(0..2);
    let milliseconds = random.random_range(500..6_000);
    match kind {
        0 => Fault::IngestKilled { node: which },
        1 => Fault::AggregatorKilled { aggregator: which },
        2 => Fault::AllAggregatorsKilledAfterAnInsert,
        3 => Fault::AggregatorFrozen {
            aggregator: which,
            milliseconds,
        },
        4 => Fault::AggregatorLeaves {
            aggregator: which,
            milliseconds,
        },
        5 => Fault::EngineKilled,
        6 => Fault::EngineFrozen { milliseconds },
        7 => Fault::StoreRefuses { milliseconds },
        8 => Fault::StoreSlow { milliseconds },
        9 => Fault::StoreAnswersErrors { milliseconds },
        10 => Fault::StoreCutsAnswers { milliseconds },
        11 => Fault::BrokerKilled {
            broker: random.random_range(1..=3),
            milliseconds,
        },
        12 => Fault::AllBrokersFrozen { milliseconds },
        _ => Fault::PoisonRecord {
            partition: random.random_range(0..4),
        },
    }
}

impl Fault {
    /// How long it lasts by itself; what a restart takes comes on top.
    pub fn lasts(self) -> Duration {
        Duration::from_millis(match self {
            Self::AggregatorFrozen { milliseconds, .. }
            | Self::AggregatorLeaves { milliseconds, .. }
            | Self::EngineFrozen { milliseconds }
            | Self::StoreRefuses { milliseconds }
            | Self::StoreSlow { milliseconds }
            | Self::StoreAnswersErrors { milliseconds }
            | Self::StoreCutsAnswers { milliseconds }
            | Self::BrokerKilled { milliseconds, .. }
            | Self::AllBrokersFrozen { milliseconds } => milliseconds,
            Self::IngestKilled { .. }
            | Self::AggregatorKilled { .. }
            | Self::AllAggregatorsKilledAfterAnInsert
            | Self::EngineKilled
            | Self::PoisonRecord { .. } => 0,
        })
    }
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
    let minutes = |count| Duration::from_mins(count);
    for seed in 0..50 {
        assert_eq!(schedule(seed, minutes(10)), schedule(seed, minutes(10)));
        assert_ne!(schedule(seed, minutes(10)), schedule(seed + 1, minutes(10)));
        let (short, long) = (schedule(seed, minutes(1)), schedule(seed, minutes(10)));
        assert_eq!(
            short,
            long[..short.len()],
            "a shorter soak is the beginning of a longer one"
        );
    }
}

#[test]
fn ten_minutes_of_any_schedule_hold_every_kind_of_fault_several_times() {
    for seed in 0..50 {
        let steps = schedule(seed, Duration::from_mins(10));
        let mut counts = std::collections::HashMap::new();
        for (_, fault) in steps {
            *counts.entry(std::mem::discriminant(&fault)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), KINDS);
        assert!(counts.values().all(|count| *count >= 3), "{counts:?}");
    }
}
