//! Request bodies as domain records: each form says which field breaks which rule.

pub mod declaration;
pub mod document;
pub mod fact;
pub mod named_person;
pub mod person;
pub mod scan;
pub mod text;

pub use declaration::DeclarationForm;
pub use document::DocumentForm;
pub use fact::{FactForm, Facts};
pub use named_person::NamedPerson;
pub use person::{EnrolmentDraft, PersonForm, Persons};
pub use scan::ScanForm;
pub use text::Text;

use scan_model::{Timestamp, division};

use crate::problem::Problem;

/// How far a client's clock may run ahead.
pub const CLOCK_SKEW_MS: i64 = 5 * 60_000;

/// A residence is a division of Guangdong, where one is given (P9).
fn check_residence(residence: Option<u32>) -> Result<(), Problem> {
    if residence.is_none_or(|code| division::find(code).is_some()) {
        return Ok(());
    }
    let detail = "must be a division of Guangdong: six digits of GB/T 2260, or nine of a township";
    Err(Problem::field("residence", "known_division", detail))
}

/// Reads a time.
fn time(field: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse_rfc3339(text)
        .map_err(|error| Problem::field(field, "rfc3339", error.to_string()))
}

/// Reads the time of something that has happened.
fn past_time(field: &str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let time = time(field, text)?;
    if time.0 > now.0 + CLOCK_SKEW_MS {
        let detail = "must not lie in the future (5 minutes of clock skew are allowed)";
        return Err(Problem::field(field, "not_in_future", detail));
    }
    Ok(time)
}
