//! A renewed document of a person who is enrolled under an earlier one (P1).

use bincode::{Decode, Encode};

use crate::person::Identity;
use crate::time::Timestamp;

/// The first version number of aliases, which share a topic with enrolments: the version byte tells them apart, and a build that knows no
/// aliases takes one for a newer record and pauses (INV-10).
pub const FIRST_VERSION: u8 = 128;

/// The person of one document is the person of another: whoever shows the later one is looked up, scanned and given facts as the person
/// who was enrolled under the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Alias {
    /// The later document's identity.
    pub identity: Identity,
    /// The person, by the document of the enrolment; never itself an alias.
    pub of: Identity,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Keyed hash of who supplied it.
    pub supplied_by: u64,
}
