//! Load with real shapes, and the check that nothing acknowledged is lost or doubled.
//!
//! - [`profile`] is a documented load profile: venue mix, hourly shapes, fever and red rates (X11).
//! - [`population`] draws people with valid documents from the 2020 census; [`world`] places venues and grids in real townships.
//! - [`traffic`] draws scans; [`setup`] brings people, venues and facts in over HTTP, as feeds would.
//! - [`generator`] sends at planned times and measures latency from them, lookups by [`paced`]; [`report`] is what comes of it.
//! - [`freshness`] measures how soon what was acknowledged shows in the query API.
//! - [`verify`] asks the query API and compares with what was acknowledged.
//!
//! Everything drawn comes from one seed. Everything sent is marked synthetic.

pub mod client;
pub mod exchange;
pub mod freshness;
pub mod generator;
pub mod paced;
pub mod population;
pub mod processor;
pub mod profile;
pub mod propagation;
pub mod report;
pub mod setup;
pub mod traffic;
pub mod verify;
pub mod world;
