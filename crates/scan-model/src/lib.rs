//! The domain's own types, and nothing else: no I/O, no clock, no service.
//!
//! | module | what it holds | requirement |
//! |---|---|---|
//! | [`document`] | identity documents and their exact validation | P1 |
//! | [`person`] | `PersonId`, the keyed hash that names a person everywhere | P1, Y4 |
//! | [`code`] | sealed code payloads: app, rotating, paper | P4, P5 |
//! | [`mask`] | what of a name and a phone number a tester may see | Y1, Y4 |
//! | [`status`] | categories, colours, and the rulesets of the guide's editions | S1, S2 |
//! | [`fact`] | what a feed says of a person, from when until when | S4 |
//! | [`enrolment`] | a person as the identity service reports them | P7, P8 |
//! | [`scan`] | every kind of scan and what is kept of it | C2–C7 |
//! | [`site`] | venues, grids and compounds | V1, G1 |
//! | [`division`] | GB/T 2260 divisions and the nine-digit townships | V1 |
//! | [`time`] | instants, and Asia/Shanghai days and hours | T7 |
//! | [`codec`] | the versioned wire form of all of them | INV-10 |
//! | [`scan_json`] | a scan as JSON, for topics that others read | INV-10 |
//! | [`inspection`] | a scan's wire form field by field, where it breaks | INV-1 |

pub mod alias;
pub mod code;
pub mod codec;
pub mod declaration;
pub mod division;
pub mod document;
pub mod enrolment;
pub mod fact;
pub mod inspection;
mod keyed_hash;
pub mod mask;
mod packing;
pub mod person;
pub mod scan;
pub mod scan_json;
pub mod site;
pub mod status;
pub mod time;

pub use alias::Alias;
pub use code::{CodeForm, CodeKeys, CodePayload, Scheme};
pub use declaration::Declaration;
pub use document::{Document, DocumentError, DocumentKind};
pub use enrolment::{Enrolment, Sex, Verification};
pub use fact::{CodeRevocation, Fact, FactKey};
pub use person::{Identity, PersonId, PersonKey};
pub use scan::{Scan, ScanId, ScanKind};
pub use site::{SiteId, SiteKind, SiteRef, VenueType};
pub use status::{Category, CategorySet, Colour, Ruleset};
pub use time::Timestamp;
