//! What every HTTP service here shares: problems, serving, metrics as text.

pub mod problem;
pub mod serving;

pub use axum::Router;
pub use problem::Problem;
pub use serving::{RenderMetrics, ServeError, metrics_response, serve};
