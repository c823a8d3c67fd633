//! What every HTTP service here shares: problems, reading, serving, metrics as text.

pub mod front_line;
pub mod problem;
pub mod reading;
pub mod serving;

pub use axum::response::IntoResponse;
pub use axum::{Router, routing};
pub use front_line::answering::{Answered, answer_requests};
pub use front_line::quick::{Answer, Headers, Quick};
pub use front_line::serve_front_line;
pub use problem::Problem;
pub use reading::{read_json, refusal};
pub use serving::{RenderMetrics, ServeError, bind, metrics_response, serve};
