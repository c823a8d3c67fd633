//! Everyone's status, resident in memory (INV-2).
//!
//! - [`layout`] documents the 32-byte resident record to the bit.
//! - [`table`] is the open-addressed table of such records: readers take no lock and finish in bounded steps.
//! - [`side_table`] holds the facts of the few who have any, each person's [packed](packed_facts).
//! - [`aliases`] leads from a renewed document to the person enrolled under the earlier one.
//! - [`positions`] says what of the log is in the cache.
//! - [`cache`] joins them: it applies records and answers lookups, colour by ruleset at the moment of the lookup.
//! - [`feed`] keeps the cache at the log's end; [`snapshot`] spares a restart the whole log.

pub mod aliases;
pub mod cache;
pub mod feed;
pub mod layout;
pub mod packed_facts;
pub mod positions;
pub mod side_table;
pub mod snapshot;
pub mod table;

pub use cache::{Applied, PersonStatus, StatusCache, Turn};
pub use feed::{Feed, FeedError};
pub use table::TableFull;
