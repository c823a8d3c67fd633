//! A document as a request names it.

use scan_model::{Document, DocumentKind, Timestamp};
use serde::Deserialize;

use crate::problem::Problem;

/// A document. Its number lives as long as the request (INV-3).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentForm<S = String> {
    pub(super) kind: DocumentKind,
    pub(super) number: S,
    pub(super) issuer: Option<S>,
    pub(super) issue_count: Option<S>,
}

impl<S: AsRef<str>> DocumentForm<S> {
    /// Validates the document.
    pub fn parse(&self, now: Timestamp) -> Result<Document, Problem> {
        let (number, issuer) = (self.number.as_ref(), self.issuer.as_ref());
        let issuer = issuer.map(AsRef::as_ref);
        let issue_count = self.issue_count.as_ref().map(AsRef::as_ref);
        let today = now.shanghai_date();
        Document::parse(self.kind, number, issuer, issue_count, today).map_err(|error| {
            Problem::field(error.field(), error.rule(), error.to_string()).within("document")
        })
    }
}
