//! What the query service holds.

use std::pin::Pin;
use std::sync::Arc;

use http_service::Problem;
use scan_model::Timestamp;
use warehouse::{Store, StoreError};

use crate::ingest::IngestClient;

/// Answers up to when everything is counted; `None` where that is not known.
pub type CompleteUpTo =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<Timestamp>> + Send>> + Send + Sync>;

/// The service.
pub struct Query {
    /// The store.
    pub store: Store,
    /// Up to when everything is counted.
    pub complete_up_to: CompleteUpTo,
    /// Where requests that belong to ingest go; without it they are refused.
    pub ingest: Option<IngestClient>,
}

impl Query {
    /// Up to when everything is counted, in RFC 3339.
    pub async fn complete_up_to_text(&self) -> Option<String> {
        (self.complete_up_to)().await.map(Timestamp::to_rfc3339)
    }
}

/// A store's refusal as a problem.
pub fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "the store is away");
            Problem::unavailable("the store does not answer; retry")
        }
        other => {
            tracing::error!(error = %other, "a query failed");
            Problem::unavailable("the query failed; the operator's log says why")
        }
    }
}
