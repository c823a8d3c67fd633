//! Keys and configuration of the node under test.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest::{ApiKey, Authority, IngestConfig, Right, Role};
use scan_model::{PersonKey, Ruleset, SiteId, SiteKind, SiteRef};

fn key(name: &str, role: Role) -> ApiKey {
    ApiKey {
        name: name.to_owned(),
        role,
        secret_hash: Authority::secret_hash(name),
        further_rights: Vec::new(),
        sites: Vec::new(),
        requests_per_second: None,
        synthetic: false,
    }
}

/// A key of each role, named as the role, and some special ones. A key's secret is its name.
fn api_keys() -> Vec<ApiKey> {
    let mut keys = vec![
        key("tester", Role::Tester),
        key("gate", Role::Gate),
        key("citizen_app", Role::CitizenApp),
        key("grid_worker", Role::GridWorker),
        key("compound_checker", Role::CompoundChecker),
        key("medical_staff", Role::MedicalStaff),
        key("identity_service", Role::IdentityService),
        key("health_feed", Role::HealthFeed),
        key("operator", Role::Operator),
    ];
    keys.push(ApiKey {
        further_rights: vec![
            Right::LookUpDocument,
            Right::QuickCheckIn,
            Right::CollectInGrid,
            Right::PassCompound,
            Right::IssueReleaseNotice,
        ],
        ..key("everything", Role::Tester)
    });
    keys.push(ApiKey {
        sites: vec![SiteRef {
            kind: SiteKind::Venue,
            id: SiteId(2),
        }],
        ..key("tester_of_venue_2", Role::Tester)
    });
    keys.push(ApiKey {
        requests_per_second: Some(2),
        ..key("slow", Role::Tester)
    });
    keys.push(ApiKey {
        synthetic: true,
        ..key("load", Role::Tester)
    });
    keys
}

/// The configuration of the tests.
pub fn config() -> IngestConfig {
    IngestConfig {
        person_key: PersonKey::new(&[7; 32]),
        code_keys: scan_model::CodeKeys::new(&BTreeMap::from([(1, [1; 32])])).unwrap(),
        api_keys: api_keys(),
        ruleset: Ruleset::edition_4(),
        capacity: 10_000,
        expected: 0,
        refuse_red_check_ins: true,
        scan_version: <scan_model::Scan as scan_model::codec::WireRecord>::WRITTEN,
        lateness_days: 31,
        stale_after_ms: 60_000,
        rotating_seconds: 60,
        scans_format: scan_model::codec::ScanFormat::default(),
        appends: 50_000,
        remembered_scans: 10_000,
        snapshot: None,
        snapshot_max_age: Duration::from_hours(1),
        durability: "local log, fsynced".into(),
        spool: None,
        may_start_without_log: false,
    }
}
