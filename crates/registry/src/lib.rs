//! Venues, grids and compounds, and later who works where: a deterministic state machine over one ordered topic.
//!
//! - [`site`] is what the registry knows of a place, and how a request describes one.
//! - [`command`] is what is appended; [`state`] applies commands, on every node at the same position with the same verdict.
//! - [`node`] follows the topic and submits commands; it starts from a copy on this machine's disk while the log is away.

pub mod command;
mod copy;
pub mod node;
pub mod site;
pub mod state;

pub use command::{Command, Verdict};
pub use node::{RegistryError, RegistryNode};
pub use site::{Site, SiteForm, SiteFormError};
pub use state::RegistryState;

/// The topic of registry commands: one partition, kept for ever.
pub const TOPIC: &str = "registry";
