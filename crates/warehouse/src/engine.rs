//! The embedded engine: ClickHouse as a library, served over ClickHouse's own HTTP interface.
//!
//! | module | one idea |
//! |---|---|
//! | [`library`] | the C functions of `libchdb.so` that are used, and nothing unsafe beyond it |
//! | [`statement`] | where an INSERT's SQL ends and its data begins |
//! | [`decoding`] | request bodies: lz4, gzip, deflate, ClickHouse's own blocks, multipart |
//! | [`exception`] | ClickHouse's error text as code and HTTP status |
//! | [`sandbox`] | what the engine's process can open, kept by the kernel |
//! | [`server`] | the HTTP interface |
//! | [`child`] | the engine as a supervised child process |
//!
//! The engine runs in its own process because its crash must not take ingest along.

pub mod child;
mod decoding;
mod exception;
mod hello;
mod library;
mod request;
pub mod sandbox;
pub mod server;
mod statement;

pub use child::{EngineProcess, EngineSettings};
pub use library::EngineError;
pub use sandbox::Sandbox;
pub use server::{EngineBounds, EngineServer, serve};
