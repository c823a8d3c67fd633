//! The audit (Y5): who looked whom up by document, who supplied what about whom.

use event_log::Record;
use scan_model::{PersonId, SiteRef, Timestamp};
use serde::Serialize;

use crate::problem::{self, Problem};
use crate::service::Ingest;
use crate::topics::AUDIT;

/// One entry. Carries ids and stable names, never identity (INV-3).
#[derive(Serialize)]
pub struct Entry<'a> {
    /// What was done, a stable name.
    pub action: &'static str,
    /// The caller's configured name.
    pub caller: &'a str,
    /// About whom.
    pub person: Option<PersonId>,
    /// At which site, for acts about sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteRef>,
    /// When, in Unix milliseconds.
    pub at: Timestamp,
}

/// Makes an entry durable before the act that it records is answered.
pub async fn write(ingest: &Ingest, entry: &Entry<'_>) -> Result<(), Problem> {
    let value = serde_json::to_vec(entry).unwrap_or_default();
    let appended = ingest
        .log
        .append(AUDIT, 0, vec![Record::unkeyed(value)])
        .await;
    appended
        .map(|_| ())
        .map_err(|error| problem::from_log(&error))
}
