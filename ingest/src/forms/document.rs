//! A document as a request names it.

use scan_model::{Document, DocumentKind, Timestamp};
use serde::Deserialize;

use crate::problem::Problem;

/// A document. Its number lives as long as the request (INV-3).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentForm {
    kind: DocumentKind,
    number: String,
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    issue_count: Option<String>,
}

impl DocumentForm {
    /// Validates the document.
    pub fn parse(&self, now: Timestamp) -> Result<Document, Problem> {
        let issuer = self.issuer.as_deref();
        let issue_count = self.issue_count.as_deref();
        Document::parse(self.kind, &self.number, issuer, issue_count, today(now)).map_err(|error| {
            Problem::field(error.field(), error.rule(), error.to_string()).within("document")
        })
    }
}

/// The Asia/Shanghai date of an instant.
pub fn today(now: Timestamp) -> (i16, i8, i8) {
    let text = now.to_rfc3339();
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<i16>().ok());
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    (
        year.unwrap_or(9999),
        month.unwrap_or(12) as i8,
        day.unwrap_or(31) as i8,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_is_the_date_in_shanghai() {
        let late = Timestamp::parse_rfc3339("2026-11-21T16:00:00Z").unwrap();
        assert_eq!(today(late), (2026, 11, 22));
    }
}
