//! Metric handles, made once at start (INV-9). Label values are stable names.

use metrics::{Counter, Histogram, counter, histogram};
use scan_model::ScanKind;

use crate::decision::CodeRefusal;

/// The handles.
pub struct Instruments {
    /// Lookups answered with a status.
    pub lookups_answered: Counter,
    /// Lookups of codes that are not in force, by why.
    lookups_refused: [Counter; 5],
    /// Seconds from request to answer of a scan request, durable.
    pub scan_seconds: Histogram,
    /// Scans acknowledged, by kind.
    scans: [Counter; 6],
    /// Items refused for what they say.
    pub items_refused: Counter,
    /// Scans recognised as sent before.
    pub scans_repeated: Counter,
    /// Quick check-ins refused for a red code.
    pub red_refusals: Counter,
    /// Persons enrolled.
    pub persons: Counter,
    /// Declarations taken.
    pub declarations: Counter,
    /// Facts taken.
    pub facts: Counter,
    /// Requests refused by a bound.
    pub shed: Counter,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            lookups_answered: counter!("ingest_lookups_total", "outcome" => "answered"),
            lookups_refused: CodeRefusal::ALL
                .map(|refusal| counter!("ingest_lookups_total", "outcome" => refusal.name())),
            scan_seconds: histogram!("ingest_scan_request_seconds"),
            scans: ScanKind::ALL.map(|kind| counter!("ingest_scans_total", "kind" => kind.name())),
            items_refused: counter!("ingest_items_refused_total"),
            scans_repeated: counter!("ingest_scans_repeated_total"),
            red_refusals: counter!("ingest_red_refusals_total"),
            persons: counter!("ingest_persons_total"),
            declarations: counter!("ingest_declarations_total"),
            facts: counter!("ingest_facts_total"),
            shed: counter!("ingest_shed_total"),
        }
    }
}

impl Instruments {
    /// The counter of lookups refused for a reason.
    pub const fn lookups_refused(&self, refusal: CodeRefusal) -> &Counter {
        &self.lookups_refused[refusal as usize]
    }

    /// The counter of acknowledged scans of a kind.
    pub const fn scans(&self, kind: ScanKind) -> &Counter {
        &self.scans[kind as usize]
    }
}
