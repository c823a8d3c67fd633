//! The HTTP front line: authorise → look up in memory (no I/O) → decide → append → answer when durable.
//!
//! - [`authority`] decides what a caller may do (INV-8); [`admission`] bounds what callers use (INV-6), [`room`] how many are enrolled.
//! - [`forms`] turns request bodies into domain records and says which field breaks which rule.
//! - [`decision`] turns a code and a status into what a checker sees; [`wording`] puts it into Chinese or English.
//! - [`idempotency`] recognises a scan that was sent before; [`bulk`] reads batches and answers item by item.
//! - [`routes`] joins them, and [`front`] answers lookups before them; [`problem`] is every error as `application/problem+json`.

pub mod admission;
pub mod authority;
pub mod bulk;
pub mod decision;
pub mod forms;
pub mod front;
pub mod idempotency;
pub mod instruments;
pub mod problem;
pub mod room;
pub mod routes;
pub mod service;
pub mod topics;
pub mod wording;

pub use authority::{ApiKey, Authority, Right, Role};
pub use front::Front;
pub use service::{Ingest, IngestConfig, IngestError};
