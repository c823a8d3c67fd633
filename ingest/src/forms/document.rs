//! A document as a request names it.

use scan_model::{Document, DocumentKind, Timestamp};
use serde::Deserialize;

use crate::problem::Problem;

/// A document. Its number lives as long as the request (INV-3).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentForm {
    pub(super) kind: DocumentKind,
    pub(super) number: String,
    #[serde(default)]
    pub(super) issuer: Option<String>,
    #[serde(default)]
    pub(super) issue_count: Option<String>,
}

impl DocumentForm {
    /// Validates the document.
    pub fn parse(&self, now: Timestamp) -> Result<Document, Problem> {
        let issuer = self.issuer.as_deref();
        let issue_count = self.issue_count.as_deref();
        let today = now.shanghai_date();
        Document::parse(self.kind, &self.number, issuer, issue_count, today).map_err(|error| {
            Problem::field(error.field(), error.rule(), error.to_string()).within("document")
        })
    }
}
