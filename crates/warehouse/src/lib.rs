//! ClickHouse: the schema, the client, and the embedded engine.
//!
//! - [`boot_marks`] tells whether a server was restarted.
//! - [`completeness`] says up to when the statistics are complete, for readers without a log.
//! - [`engine`] serves `libchdb.so` over ClickHouse's HTTP interface, in a process of its own, and supervises that process.
//! - [`erasure`] erases the history of dissolved grids.
//! - [`fact_rows`] encodes changes of facts into RowBinary.
//! - [`ownership`] lets the store refuse inserts of those who are not a log partition's owner any more.
//! - [`replacement`] puts a database that was built beside the live one in its place.
//! - [`schema`] holds the versioned migrations and applies them.
//! - [`store`] is the client: sealed inserts, typed reads, errors by what the caller can do.
//! - [`replicas`] brings a cluster's replicas level before a read that must miss nothing.
//! - [`retention`] lets old slices leave, and keeps the proof away from them.
//! - [`scan_rows`] encodes scans into the raw table's RowBinary.
//! - [`slices`] proves rollup slices against raw rows and rebuilds those that differ.
//! - [`topology`] says what a cluster of servers does otherwise than one.
//!
//! The same code talks to a ClickHouse server: only the URL differs.

pub mod boot_marks;
pub mod completeness;
pub mod engine;
pub mod erasure;
pub mod fact_rows;
pub mod ownership;
pub mod replacement;
pub mod replicas;
pub mod retention;
pub mod scan_rows;
pub mod schema;
pub mod slices;
pub mod store;
pub mod topology;

pub use store::{Store, StoreConfig, StoreError};
pub use topology::{Cluster, Topology};
