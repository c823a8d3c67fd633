//! A documented load profile.

use scan_model::VenueType;
use serde::Deserialize;

/// A kind of day: who goes where, when.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Share of screenings with a fever.
    pub fever_rate: f64,
    /// Share of people with a red code.
    pub red_rate: f64,
    /// Share of scans that are quick check-ins.
    pub quick_check_in_share: f64,
    /// Share of scans that are exits.
    pub exit_share: f64,
    /// Share of scans that are displays.
    pub display_share: f64,
    /// Share of scans that are grid collections.
    pub grid_collection_share: f64,
    /// Share of scans that are compound passes.
    pub compound_pass_share: f64,
    /// Share of people who carry a paper code.
    pub paper_share: f64,
    /// Venues for each thousand people.
    pub venues_per_thousand: f64,
    /// Grids for each thousand people.
    pub grids_per_thousand: f64,
    /// Types of venues.
    #[serde(rename = "venue")]
    pub venues: Vec<VenueProfile>,
}

/// One type of venue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VenueProfile {
    /// The type.
    #[serde(rename = "type")]
    pub venue_type: VenueType,
    /// Its share of all scans.
    pub share: f64,
    /// Its share of all places.
    pub places: f64,
    /// Relative weights of the 24 hours.
    pub hours: [u32; 24],
}

/// Why a profile is not one.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not the form.
    #[error(transparent)]
    Form(#[from] toml::de::Error),
    /// A share is not between 0 and 1, or shares do not add up to 1.
    #[error("{0}")]
    Shares(String),
}

impl Profile {
    /// The profile that the demonstration uses.
    ///
    /// # Errors
    /// Never for the file that is built in; a test reads it.
    pub fn guangdong_weekday() -> Result<Self, ProfileError> {
        Self::parse(include_str!("../profiles/guangdong-weekday.toml"))
    }

    /// Reads a profile and checks its shares.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)?;
        let sum = |share: fn(&VenueProfile) -> f64| profile.venues.iter().map(share).sum::<f64>();
        for (name, total) in [("share", sum(|v| v.share)), ("places", sum(|v| v.places))] {
            if (total - 1.0).abs() > 0.001 {
                let text = format!("venue.{name} of all types must add up to 1, not {total:.3}");
                return Err(ProfileError::Shares(text));
            }
        }
        let shares = [
            ("fever_rate", profile.fever_rate),
            ("red_rate", profile.red_rate),
            ("quick_check_in_share", profile.quick_check_in_share),
            ("exit_share", profile.exit_share),
            ("display_share", profile.display_share),
            ("grid_collection_share", profile.grid_collection_share),
            ("compound_pass_share", profile.compound_pass_share),
            ("paper_share", profile.paper_share),
        ];
        if let Some((name, value)) = shares.iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(ProfileError::Shares(format!(
                "{name} must lie between 0 and 1, not {value}"
            )));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x11_the_built_in_profile_is_whole() {
        let profile = Profile::guangdong_weekday().unwrap();
        assert_eq!(profile.venues.len(), 8);
        assert!(
            profile
                .venues
                .iter()
                .all(|v| (950..=1050).contains(&v.hours.iter().sum::<u32>()))
        );
    }

    #[test]
    fn a_profile_whose_shares_do_not_add_up_is_refused() {
        let text = include_str!("../profiles/guangdong-weekday.toml")
            .replace("share = 0.24", "share = 0.5");
        assert!(
            Profile::parse(&text)
                .unwrap_err()
                .to_string()
                .contains("venue.share")
        );
    }
}
