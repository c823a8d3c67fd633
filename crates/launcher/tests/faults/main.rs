//! The fault suite: a file a scenario, each under 3,000 scans a second or more, each ending with "acknowledged = stored =
//! counted in every rollup, once" (INV-1).
//!
//! One program holds them all, so that they are linked once; they run one after another. `TONGXING_LONG=1` gives each its
//! full length. `cargo test -p launcher --test faults aggregator_killed` runs one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../cluster_support/mod.rs"]
mod cluster_support;

mod aggregator_killed;
mod aggregator_stopped_past_its_session;
mod aggregators_join_and_leave;
mod all_brokers_down;
mod clock_steps_back;
mod disk_full_under_the_spool;
mod engine_restarted_between_inserts;
mod group_offsets_deleted;
mod ingest_killed;
mod newer_version;
mod one_broker_killed;
mod poison_record;
mod schedule;
mod soak;
mod store_answers_500_after_inserting;
mod store_paused;
mod store_refusing;
mod store_slow;
