//! Who may do what (INV-8): decided here and nowhere else, from memory.
//!
//! Callers hold API keys. A key is kept as the hash of its secret, with a role, further rights, and the sites that it is
//! limited to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::http::header;
use http_service::Headers;
use scan_model::{ScanKind, SiteRef};
use serde::{Deserialize, Serialize};

use crate::admission::Rate;
use crate::problem::Problem;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Look up by code (C1).
    LookUpCode,
    /// Look up, and scan, by document number (C1, C5).
    LookUpDocument,
    /// Screen temperatures (C2).
    Screen,
    /// Check in by poster (C3).
    QuickCheckIn,
    /// Record displays (C4, P6).
    RecordDisplay,
    /// Declare, for oneself or another (D1).
    Declare,
    /// Collect in a grid (C5).
    CollectInGrid,
    /// Pass people into a compound (C6).
    PassCompound,
    /// Issue release notices (C7).
    IssueReleaseNotice,
    /// Enrol persons (P8).
    EnrolPersons,
    /// Issue and revoke codes (P4).
    IssueCodes,
    /// Supply facts (S4).
    SupplyFacts,
    /// Read a person's facts with who supplied them (Y5).
    ReadFacts,
    /// Import venues and grids.
    ImportSites,
    /// Dissolve grids (G5).
    DissolveGrids,
}

impl Right {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LookUpCode => "look_up_code",
            Self::LookUpDocument => "look_up_document",
            Self::Screen => "screen",
            Self::QuickCheckIn => "quick_check_in",
            Self::RecordDisplay => "record_display",
            Self::Declare => "declare",
            Self::CollectInGrid => "collect_in_grid",
            Self::PassCompound => "pass_compound",
            Self::IssueReleaseNotice => "issue_release_notice",
            Self::EnrolPersons => "enrol_persons",
            Self::IssueCodes => "issue_codes",
            Self::SupplyFacts => "supply_facts",
            Self::ReadFacts => "read_facts",
            Self::ImportSites => "import_sites",
            Self::DissolveGrids => "dissolve_grids",
        }
    }

    /// The right that a kind of scan needs.
    pub const fn of_scan(kind: ScanKind) -> Self {
        match kind {
            ScanKind::TemperatureScreening => Self::Screen,
            ScanKind::QuickCheckIn => Self::QuickCheckIn,
            ScanKind::Display => Self::RecordDisplay,
            ScanKind::GridCollection => Self::CollectInGrid,
            ScanKind::CompoundPass => Self::PassCompound,
            ScanKind::ReleaseNotice => Self::IssueReleaseNotice,
        }
    }
}

/// A caller's role: the rights that come with the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// 检测员.
    Tester,
    /// A gate machine.
    Gate,
    /// The citizen's app.
    CitizenApp,
    /// 网格员.
    GridWorker,
    /// A compound's gate checker.
    CompoundChecker,
    /// 医护人员.
    MedicalStaff,
    /// The external identity service.
    IdentityService,
    /// A feed of health, CDC or the national platform.
    HealthFeed,
    /// The deployment's operator.
    Operator,
}

impl Role {
    const fn rights(self) -> &'static [Right] {
        match self {
            Self::Tester | Self::Gate => &[Right::LookUpCode, Right::Screen, Right::RecordDisplay],
            Self::CitizenApp => &[Right::QuickCheckIn, Right::RecordDisplay, Right::Declare],
            Self::GridWorker => &[Right::LookUpCode, Right::CollectInGrid],
            Self::CompoundChecker => &[Right::LookUpCode, Right::PassCompound],
            Self::MedicalStaff => &[Right::LookUpCode, Right::IssueReleaseNotice],
            Self::IdentityService => &[Right::EnrolPersons, Right::IssueCodes],
            Self::HealthFeed => &[Right::SupplyFacts, Right::ReadFacts],
            Self::Operator => &[Right::ImportSites, Right::DissolveGrids],
        }
    }
}

/// A key as configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What logs and audit call the caller. Not a person's name.
    pub name: String,
    /// The caller's role.
    pub role: Role,
    /// BLAKE3 of the secret, in hexadecimal.
    pub secret_hash: String,
    /// Rights beyond the role's.
    #[serde(default)]
    pub further_rights: Vec<Right>,
    /// The sites that scans of this key are limited to; none listed means any.
    #[serde(default)]
    pub sites: Vec<SiteRef>,
    /// Requests a second; none means no bound of its own.
    #[serde(default)]
    pub requests_per_second: Option<u32>,
    /// Whether everything that comes under this key is marked synthetic (X11).
    #[serde(default)]
    pub synthetic: bool,
}

/// A caller.
pub struct Caller {
    /// What logs and audit call it.
    pub name: String,
    /// Keyed hash of the name, as records carry it.
    pub operator: u64,
    /// Its role.
    pub role: Role,
    /// Whether everything of it is synthetic.
    pub synthetic: bool,
    /// A few: looked through sooner than hashed.
    rights: Vec<Right>,
    sites: HashSet<SiteRef>,
    rate: Option<Rate>,
}

impl Caller {
    /// Checks a right.
    pub fn require(&self, right: Right) -> Result<(), Problem> {
        if self.rights.contains(&right) {
            Ok(())
        } else {
            Err(Problem::missing_right(right.name()))
        }
    }

    /// Checks that the caller works at a site.
    pub fn require_site(&self, site: SiteRef) -> Result<(), Problem> {
        if self.sites.is_empty() || self.sites.contains(&site) {
            return Ok(());
        }
        Err(Problem::missing_right(&format!(
            "to work at {} {}",
            site.kind.name(),
            site.id.0
        )))
    }
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not a BLAKE3 hash.
    #[error("keys.{0}.secret_hash must be 64 hexadecimal digits")]
    SecretHash(String),
    /// Two keys share a secret.
    #[error("keys.{0}.secret_hash is another key's as well")]
    Duplicate(String),
}

/// Every caller of the deployment.
#[derive(Default)]
pub struct Authority {
    callers: HashMap<[u8; 32], Arc<Caller>>,
}

impl Authority {
    /// Takes the configured keys; `operator` gives the keyed hash of a name.
    pub fn new(keys: &[ApiKey], operator: impl Fn(&str) -> u64) -> Result<Self, AuthorityError> {
        let mut callers = HashMap::new();
        for key in keys {
            let hash = blake3::Hash::from_hex(&key.secret_hash)
                .map_err(|_| AuthorityError::SecretHash(key.name.clone()))?;
            let rights = key
                .role
                .rights()
                .iter()
                .chain(&key.further_rights)
                .copied()
                .collect();
            let caller = Caller {
                name: key.name.clone(),
                operator: operator(&key.name),
                role: key.role,
                synthetic: key.synthetic,
                rights,
                sites: key.sites.iter().copied().collect(),
                rate: key.requests_per_second.map(Rate::new),
            };
            if callers.insert(*hash.as_bytes(), Arc::new(caller)).is_some() {
                return Err(AuthorityError::Duplicate(key.name.clone()));
            }
        }
        Ok(Self { callers })
    }

    /// The caller behind a request, within its rate. Touches memory only (INV-2).
    ///
    /// The secret is hashed before it is compared, so the comparison's time says nothing of it.
    pub fn identify(&self, headers: &impl Headers) -> Result<&Arc<Caller>, Problem> {
        let secret = headers
            .field(&header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix(b"Bearer "))
            .ok_or_else(Problem::unauthenticated)?;
        let hash = blake3::hash(secret);
        let caller = self
            .callers
            .get(hash.as_bytes())
            .ok_or_else(Problem::unauthenticated)?;
        if caller.rate.as_ref().is_some_and(|rate| !rate.admit()) {
            return Err(Problem::too_many_requests());
        }
        Ok(caller)
    }

    /// The hash under which a secret is configured.
    pub fn secret_hash(secret: &str) -> String {
        blake3::hash(secret.as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderMap;
    use scan_model::{SiteId, SiteKind};

    fn authority() -> Authority {
        let key = ApiKey {
            name: "gate-1".into(),
            role: Role::Tester,
            secret_hash: Authority::secret_hash("s3cret"),
            further_rights: vec![],
            sites: vec![SiteRef {
                kind: SiteKind::Venue,
                id: SiteId(7),
            }],
            requests_per_second: None,
            synthetic: false,
        };
        Authority::new(&[key], |_| 1).unwrap()
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn inv8_only_a_configured_key_is_a_caller() {
        let authority = authority();
        assert!(authority.identify(&headers("Bearer s3cret")).is_ok());
        for wrong in ["Bearer S3cret", "s3cret", "Bearer ", "Basic s3cret"] {
            assert_eq!(
                authority.identify(&headers(wrong)).err().unwrap().status(),
                401,
                "{wrong}"
            );
        }
    }

    #[test]
    fn inv8_a_refusal_says_which_right_is_missing() {
        let authority = authority();
        let caller = authority.identify(&headers("Bearer s3cret")).unwrap();
        assert!(caller.require(Right::LookUpCode).is_ok());
        let refusal = caller.require(Right::LookUpDocument).unwrap_err();
        assert!(
            serde_json::to_string(&refusal)
                .unwrap()
                .contains("look_up_document")
        );
        let elsewhere = SiteRef {
            kind: SiteKind::Venue,
            id: SiteId(8),
        };
        assert_eq!(caller.require_site(elsewhere).unwrap_err().status(), 403);
    }
}
