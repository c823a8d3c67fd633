//! A venue, grid or compound: what the registry knows of it, and how a request describes it.

use bincode::{Decode, Encode};
use scan_model::{SiteId, SiteKind, SiteRef, VenueType, division};
use serde::{Deserialize, Serialize};

/// Longest name or address, in characters.
const MAX_TEXT: usize = 100;
/// Most checkpoints of one site.
const MAX_CHECKPOINTS: usize = 200;

/// A place where scans happen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Site {
    /// Its kind and id.
    #[serde(flatten)]
    pub site: SiteRef,
    /// 名称.
    pub name: String,
    /// Its division: six digits, or nine to township level (V1).
    pub region: u32,
    /// What kind of venue it is; `unspecified` for grids.
    pub venue_type: VenueType,
    /// Its address.
    pub address: String,
    /// Its entrances; checkpoint 1 is the first.
    pub checkpoints: Vec<String>,
    /// Whether load generation made it (X11).
    pub synthetic: bool,
}

/// How a request or an imported file describes a site.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SiteForm {
    /// The id, chosen by the importing authority; unique within the kind.
    pub id: u32,
    /// 名称.
    pub name: String,
    /// Its division: six digits, or nine to township level.
    pub region: u32,
    /// What kind of venue it is; venues only.
    #[serde(default)]
    pub venue_type: Option<VenueType>,
    /// Its address.
    #[serde(default)]
    pub address: String,
    /// Its entrances.
    #[serde(default)]
    pub checkpoints: Vec<String>,
    /// Whether load generation made it.
    #[serde(default)]
    pub synthetic: bool,
}

/// Which rule a description breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct SiteFormError {
    /// The field.
    pub field: &'static str,
    /// What is allowed.
    pub rule: &'static str,
}

impl SiteForm {
    /// Checks the description and makes it a site of a kind.
    pub fn into_site(self, kind: SiteKind) -> Result<Site, SiteFormError> {
        let refuse = |field, rule| Err(SiteFormError { field, rule });
        if self.id == 0 {
            return refuse("id", "must be a number from 1 to 4294967295");
        }
        let is_text = |text: &str| {
            let length = text.trim().chars().count();
            (1..=MAX_TEXT).contains(&length) && !text.chars().any(char::is_control)
        };
        if !is_text(&self.name) {
            return refuse(
                "name",
                "must have 1 to 100 characters, none of them control characters",
            );
        }
        if division::find(self.region).is_none() {
            return refuse(
                "region",
                "must be a division of Guangdong: six digits of GB/T 2260, or nine of a township",
            );
        }
        let has_type = !matches!(self.venue_type, None | Some(VenueType::Unspecified));
        if has_type != (kind == SiteKind::Venue) {
            return refuse(
                "venue_type",
                "is required for a venue, where it must say what kind, and belongs to venues only",
            );
        }
        if !self.address.is_empty() && !is_text(&self.address) {
            return refuse(
                "address",
                "must have at most 100 characters, none of them control characters",
            );
        }
        if self.checkpoints.len() > MAX_CHECKPOINTS || !self.checkpoints.iter().all(|c| is_text(c))
        {
            return refuse(
                "checkpoints",
                "must be at most 200 names of 1 to 100 characters",
            );
        }
        Ok(Site {
            site: SiteRef {
                kind,
                id: SiteId(self.id),
            },
            name: self.name.trim().to_owned(),
            region: self.region,
            venue_type: self.venue_type.unwrap_or(VenueType::Unspecified),
            address: self.address.trim().to_owned(),
            checkpoints: self.checkpoints,
            synthetic: self.synthetic,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: &str) -> SiteForm {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn v1_a_venue_names_its_township_and_type() {
        let form = form(r#"{"id":1,"name":" 天河城 ","region":440106,"venue_type":"mall"}"#);
        let site = form.clone().into_site(SiteKind::Venue).unwrap();
        assert_eq!(
            (site.name.as_str(), site.venue_type),
            ("天河城", VenueType::Mall)
        );
        assert_eq!(
            form.into_site(SiteKind::Grid).unwrap_err().field,
            "venue_type"
        );
    }

    #[test]
    fn v1_each_bad_field_is_named() {
        let field = |json| form(json).into_site(SiteKind::Venue).unwrap_err().field;
        assert_eq!(
            field(r#"{"id":0,"name":"a","region":440106,"venue_type":"mall"}"#),
            "id"
        );
        assert_eq!(
            field(r#"{"id":1,"name":"\u0000","region":440106,"venue_type":"mall"}"#),
            "name"
        );
        assert_eq!(
            field(r#"{"id":1,"name":"a","region":440199999,"venue_type":"mall"}"#),
            "region"
        );
        assert_eq!(
            field(r#"{"id":1,"name":"a","region":440106}"#),
            "venue_type"
        );
    }
}
