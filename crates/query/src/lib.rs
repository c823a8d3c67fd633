//! The statistics API and the console's host. It only reads.
//!
//! - [`period`] reads and bounds the asked time range; [`scope`] says which rows belong to a venue, grid or division.
//! - [`flow`] answers figures by hour or day, empty ones as zeros; [`statistics`] answers totals;
//!   [`corrected`] refuses what raw scans cannot answer any more.
//! - [`fact_history`] answers who said what of a person, once [`ingest`] has said that the caller may know.
//! - [`dashboards`] serves the Grafana files and runs their panels, [`macros`] expands the Grafana plugin's macros.
//! - [`console`] serves the web console; [`routes`] joins them.
//!
//! Every figure is labelled as registrations (人次) or distinct people (人数) (T6); days and hours are Asia/Shanghai's
//! (T7). Load-test traffic is left out unless it is asked for (X11).

pub mod console;
pub mod corrected;
pub mod dashboards;
pub mod fact_history;
pub mod flow;
pub mod ingest;
pub mod macros;
pub mod period;
pub mod routes;
pub mod scope;
pub mod service;
pub mod statistics;

pub use ingest::IngestClient;
pub use routes::router;
pub use service::{CompleteUpTo, Query};
