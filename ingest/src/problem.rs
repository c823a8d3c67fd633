//! Problems of the front line: the shared form, and the log's refusals in it.

use event_log::LogError;
pub use http_service::Problem;

/// A log's refusal. What was appended is not known after some of them; the scan id settles it at a retry.
pub fn from_log(error: &LogError) -> Problem {
    match error {
        LogError::TooLarge { bytes, limit } => Problem::record_too_large(*bytes, *limit),
        LogError::Full => {
            Problem::unavailable("the log and its spool have no room; retry with the same ids")
        }
        LogError::Unavailable(reason) => {
            tracing::debug!(reason, "append not answered");
            Problem::unavailable("the log is away; retry with the same ids")
        }
        other => {
            tracing::error!(error = %other, "append failed");
            Problem::unavailable("the log does not take records; retry with the same ids")
        }
    }
}
