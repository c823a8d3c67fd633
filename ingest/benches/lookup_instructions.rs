//! Lookups by code on a node's front line, from a request's bytes to its answer's bytes, for counting instructions:
//! `scripts/instructions.sh` runs this twice under callgrind and divides the difference, which is the same on every run whatever else the
//! machine does. Sockets and the kernel are not in it.
//!
//! usage: `lookup_instructions <lookups>`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use event_log::local::LocalOptions;
use event_log::{LocalLog, SharedLog};
use http_service::answer_requests;
use ingest::topics::{self, Retention};
use ingest::{ApiKey, Authority, Front, Ingest, IngestConfig, Role};
use registry::RegistryNode;
use scan_model::codec::{ScanFormat, WireRecord};
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::person::Identity;
use scan_model::{
    CodeForm, CodeKeys, CodePayload, PersonId, PersonKey, Ruleset, Scan, Scheme, Timestamp,
};

const PERSONS: u64 = 1000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let lookups: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1000);
    let folder = tempfile::tempdir()?;
    let declared = topics::all(1, Retention::default());
    let (log, _) = LocalLog::open(folder.path(), declared, &LocalOptions::default())?;
    let log: SharedLog = Arc::new(log);
    let registry = Arc::new(RegistryNode::start(Arc::clone(&log)).await?);
    let node = Ingest::start(log, registry, config()?).await?;
    let requests = requests(&node)?;
    let front = Front(node);
    let (mut body, mut output) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    for request in requests.iter().cycle().take(lookups) {
        output.clear();
        answer_one(&front, request, &mut body, &mut output);
        ensure!(
            output.starts_with(b"HTTP/1.1 200 OK\r\n"),
            "a lookup was refused"
        );
    }
    Ok(())
}

/// What is counted: callgrind collects inside of this function alone.
#[inline(never)]
fn answer_one(front: &Front, request: &[u8], body: &mut Vec<u8>, output: &mut Vec<u8>) {
    black_box(answer_requests(front, black_box(request), body, output));
}

/// A request for each person, as a gate's client writes it.
fn requests(node: &Ingest) -> Result<Vec<Vec<u8>>> {
    let keys = node.code_keys.load();
    let issued_second = u32::try_from(Timestamp::now().seconds())?;
    (1..=PERSONS)
        .map(|n| {
            let person = PersonId(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
            node.cache.apply_enrolment(&enrolment(person)?)?;
            let code = keys.seal(&CodePayload {
                person,
                issued_second,
                scheme: Scheme::Yuekang,
                form: CodeForm::App,
            });
            let request = format!(
                "GET /v1/codes/{code} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
            );
            Ok(request.into_bytes())
        })
        .collect()
}

fn config() -> Result<IngestConfig> {
    let gate = ApiKey {
        name: "gate".into(),
        role: Role::Gate,
        secret_hash: Authority::secret_hash(SECRET),
        further_rights: vec![],
        sites: vec![],
        requests_per_second: None,
        synthetic: false,
    };
    Ok(IngestConfig {
        person_key: PersonKey::new(&[7; 32]),
        code_keys: CodeKeys::new(&BTreeMap::from([(1, [7; 32])]))?,
        api_keys: vec![gate],
        ruleset: Ruleset::edition_4(),
        capacity: PERSONS as usize,
        expected: 0,
        refuse_red_check_ins: true,
        scan_version: <Scan as WireRecord>::WRITTEN,
        lateness_days: 31,
        stale_after_ms: 60_000,
        rotating_seconds: 60,
        scans_format: ScanFormat::default(),
        appends: 1,
        remembered_scans: 1,
        snapshot: None,
        snapshot_max_age: Duration::from_hours(1),
        durability: "local log, fsynced".into(),
        spool: None,
        may_start_without_log: false,
    })
}

fn enrolment(person: PersonId) -> Result<Enrolment> {
    Ok(Enrolment {
        identity: Identity { person, check: 1 },
        verification: Verification::FaceChecked,
        sex: Sex::Female,
        birth_year: Some(1990),
        name: MaskedName::of("张伟")?,
        phone: MaskedPhone::of("13812345678").ok(),
        name_hash: 1,
        phone_hash: None,
        residence: None,
        recorded_at: Timestamp(0),
        synthetic: false,
        change: 1,
    })
}
