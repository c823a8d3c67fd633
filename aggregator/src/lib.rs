//! From the log to ClickHouse, exactly once (INV-1). It only writes.
//!
//! One turn of the [`pipeline`]:
//!
//! 1. *gather* records of each assigned partition, up to a number or a time (`batch_size`);
//! 2. *seal* them: decode, drop what was seen before ([`window`]), encode once (`sealing`, [`sealed`]);
//! 3. *record* the pending range beside the group's position ([`pending`], `recording`);
//! 4. *insert* each sealed batch whole;
//! 5. *prove*: where the engine was restarted meanwhile, or an insert's outcome is unknown, count the range's rows in raw, send
//!    what is missing, compare the touched rollup slices with raw and rebuild those that differ (`settling`, [`recovery`]);
//! 6. *commit* the position behind the range.
//!
//! A partition that comes is taken over first (`taking_over`): what its former owner left pending is settled. A store that is away
//! makes the member hold its partitions still and go on polling (`patience`). On a stop, what has been gathered is settled
//! within a deadline.
//!
//! A record that cannot be decoded or stored becomes a dead letter ([`dead_letters`]); one of a newer version pauses its
//! partition (INV-10). Positions that were lost are restored from what raw holds ([`positions`]). [`names`] keeps the names of sites
//! and divisions beside the figures, [`fact_history`] who said what of whom, [`dissolved`] erases grids, and [`replay`] builds every table
//! anew from the log.

mod batch_size;
pub mod completeness;
pub mod dead_letters;
pub mod dissolved;
pub mod fact_history;
pub mod names;
mod patience;
pub mod pending;
pub mod pipeline;
pub mod positions;
mod recording;
pub mod recovery;
pub mod replay;
mod retry;
pub mod sealed;
mod sealing;
mod settling;
mod taking_over;
mod watermark;
pub mod window;

pub use pipeline::{Aggregator, AggregatorConfig, AggregatorError};

/// The group under which positions are kept.
pub const GROUP: &str = "aggregator";
/// The topic of scans.
pub const SCANS: &str = "scans";
/// The topic of dead letters.
pub const DEAD_LETTERS: &str = "dead-letters";
