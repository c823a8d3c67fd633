//! Venues, grids and compounds in real townships, with the profile's mix.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scan_model::VenueType;
use scan_model::division::{self, Division, Level};
use serde_json::{Value, json};

use crate::profile::Profile;

/// A synthetic venue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticVenue {
    /// Its id.
    pub id: u32,
    /// Its type.
    pub venue_type: VenueType,
    /// Its township.
    pub region: u32,
    /// Its name.
    pub name: String,
}

/// The synthetic places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Venues.
    pub venues: Vec<SyntheticVenue>,
    /// Grids: id, township, name.
    pub grids: Vec<(u32, u32, String)>,
    /// Compounds: id, township, name.
    pub compounds: Vec<(u32, u32, String)>,
}

/// Synthetic sites have ids from here on, apart from a deployment's own.
pub const FIRST_ID: u32 = 900_000_001;

impl World {
    /// Places for so many people.
    pub fn new(seed: u64, profile: &Profile, people: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x005E_ED0F_B1AC);
        let all = division::all();
        let townships: Vec<&Division> = all
            .into_iter()
            .filter(|d| d.level == Level::Township && is_ordinary(d.name))
            .collect();
        let mut place = |what: &str, number: u32| {
            let township = townships[random.random_range(0..townships.len())];
            (township.code, format!("{}{what}{number}号", township.name))
        };
        let thousands = f64::from(people) / 1000.0;
        let venue_count = (thousands * profile.venues_per_thousand).ceil().max(8.0);
        let mut venues = Vec::new();
        for kind in &profile.venues {
            let count = (venue_count * kind.places).round().max(1.0) as u32;
            for number in 1..=count {
                let (region, name) = place(label(kind.venue_type), number);
                let id = FIRST_ID + venues.len() as u32;
                venues.push(SyntheticVenue {
                    id,
                    venue_type: kind.venue_type,
                    region,
                    name,
                });
            }
        }
        let grid_count = (thousands * profile.grids_per_thousand).ceil().max(2.0) as u32;
        let mut sites = |what: &str| {
            (0..grid_count)
                .map(|n| {
                    let (region, name) = place(what, n + 1);
                    (FIRST_ID + n, region, name)
                })
                .collect()
        };
        let grids = sites("网格");
        let compounds = sites("小区");
        Self {
            venues,
            grids,
            compounds,
        }
    }

    /// The lines of `/v1/venues:import`.
    pub fn venue_forms(&self) -> Vec<Value> {
        let form = |v: &SyntheticVenue| json!({ "id": v.id, "name": v.name, "region": v.region, "venue_type": v.venue_type, "checkpoints": ["东门", "西门"], "synthetic": true });
        self.venues.iter().map(form).collect()
    }

    /// The lines of `/v1/grids:import` or `/v1/compounds:import`.
    pub fn site_forms(sites: &[(u32, u32, String)]) -> Vec<Value> {
        let form = |(id, region, name): &(u32, u32, String)| json!({ "id": id, "name": name, "region": region, "synthetic": true });
        sites.iter().map(form).collect()
    }
}

/// Statistical divisions that are not towns: farms, zones, prisons.
fn is_ordinary(name: &str) -> bool {
    name.ends_with('镇') || name.ends_with("街道") || name.ends_with('乡')
}

const fn label(venue_type: VenueType) -> &'static str {
    match venue_type {
        VenueType::Transport => "地铁站",
        VenueType::Mall => "商场",
        VenueType::Office => "写字楼",
        VenueType::ResidentialCompound => "花园小区",
        VenueType::School => "学校",
        VenueType::Hospital => "医院",
        VenueType::Park => "公园",
        VenueType::Catering => "餐厅",
        _ => "场所",
    }
}
