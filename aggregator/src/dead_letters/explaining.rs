//! What is the matter with a letter, in words, and what to do about it.

use scan_model::codec::{self, CodecError, WireRecord};
use scan_model::inspection::{self, Inspection};
use scan_model::{PersonId, Scan, scan_json};

use super::Letter;

/// What can be said of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What can be read of the value; `None` where the letter does not hold it.
    pub inspection: Option<Inspection>,
    /// Whose scan it is, by pseudonym, where that much can be read.
    pub person: Option<PersonId>,
    /// What is wrong.
    pub trouble: String,
    /// What to do.
    pub advice: &'static str,
}

/// Explains a letter as this build sees it.
pub fn explain(letter: &Letter) -> Explanation {
    let Some(value) = &letter.value else {
        return Explanation {
            inspection: None,
            person: None,
            trouble: "The letter does not hold its record's value.".into(),
            advice: "While the log keeps the record itself, it can be read at the place that the letter names.",
        };
    };
    let inspection = inspection::inspect(value);
    let (trouble, advice) = match codec::decode::<Scan>(value) {
        Ok(_) => (
            "This build reads the value: the store refused the row for what it is, or the build that buried it could not read it."
                .into(),
            "Mend what the reason names, then re-drive it: it is then counted once, however often it is sent.",
        ),
        Err(CodecError::NewerVersion { found, known }) => (
            format!("The value is of version {found}; this build reads versions up to {known}."),
            "Bring every aggregator to the build that writes this version, then re-drive it with that build.",
        ),
        Err(CodecError::Malformed { reason }) => (
            malformed(&inspection, &reason),
            "No scan was lost that this build could count. Look for what wrote it: ingest writes only what it can read back, so it was \
             another program, or damage. Re-driving is refused until a build reads it; the letter stays as evidence.",
        ),
    };
    let person = inspection.fields.iter().find(|(name, _)| *name == "person");
    Explanation {
        person: person.and_then(|(_, id)| id.parse().ok()),
        inspection: Some(inspection),
        trouble,
        advice,
    }
}

fn malformed(inspection: &Inspection, reason: &str) -> String {
    match (inspection.version, &inspection.failure) {
        (None, _) => "The value is empty: not even a version byte is there.".into(),
        (Some(scan_json::FIRST_BYTE), _) => format!("The value is JSON, but no scan: {reason}"),
        (Some(0), _) => "The value begins with version 0, which was never written.".into(),
        (Some(version), Some(failure)) if version == Scan::VERSION => format!(
            "The value says version {version}, but its field {} (at byte {}) cannot be read: {}",
            failure.field, failure.byte, failure.reason
        ),
        (Some(_), _) if inspection.trailing > 0 => format!(
            "A whole scan is there, and {} bytes too many behind it.",
            inspection.trailing
        ),
        _ => format!("The value is no scan of any version: {reason}"),
    }
}
