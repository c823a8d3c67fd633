//! Venues, grids and compounds: the places where scans happen (V1, G1, K1).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Names a site within its kind.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SiteId(pub u32);

/// What kind of site it is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// A public venue with testers (V).
    Venue,
    /// A grid with workers (G).
    Grid,
    /// A residential compound with certified passers (K).
    Compound,
    /// A medical institution that issues release notices (M).
    Institution,
}

impl SiteKind {
    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Venue => "venue",
            Self::Grid => "grid",
            Self::Compound => "compound",
            Self::Institution => "institution",
        }
    }
}

/// A site by kind and id.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct SiteRef {
    /// The kind.
    pub kind: SiteKind,
    /// The id within the kind.
    pub id: SiteId,
}

/// What a venue is (V1), with `Unspecified` for sites that are not venues.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum VenueType {
    /// Not a venue.
    Unspecified,
    /// 住宅小区.
    ResidentialCompound,
    /// 写字楼.
    Office,
    /// 商场商店.
    Mall,
    /// 餐饮.
    Catering,
    /// 酒店住宿.
    Lodging,
    /// 文化娱乐.
    Culture,
    /// 体育游乐.
    Sport,
    /// 交通出行: metro and bus.
    Transport,
    /// 医院.
    Hospital,
    /// 机场.
    Airport,
    /// 码头.
    Port,
    /// 铁路公路站场.
    Station,
    /// 工业园.
    IndustrialPark,
    /// 公园.
    Park,
    /// 学校.
    School,
}

impl VenueType {
    /// Every venue type, in wire order.
    pub const ALL: [Self; 16] = [
        Self::Unspecified,
        Self::ResidentialCompound,
        Self::Office,
        Self::Mall,
        Self::Catering,
        Self::Lodging,
        Self::Culture,
        Self::Sport,
        Self::Transport,
        Self::Hospital,
        Self::Airport,
        Self::Port,
        Self::Station,
        Self::IndustrialPark,
        Self::Park,
        Self::School,
    ];

    /// The stable name used in the API and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::ResidentialCompound => "residential_compound",
            Self::Office => "office",
            Self::Mall => "mall",
            Self::Catering => "catering",
            Self::Lodging => "lodging",
            Self::Culture => "culture",
            Self::Sport => "sport",
            Self::Transport => "transport",
            Self::Hospital => "hospital",
            Self::Airport => "airport",
            Self::Port => "port",
            Self::Station => "station",
            Self::IndustrialPark => "industrial_park",
            Self::Park => "park",
            Self::School => "school",
        }
    }
}
