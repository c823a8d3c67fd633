//! Lookups by code from the caller's headers to the answer's bytes, for counting instructions: `scripts/instructions.sh` runs this twice
//! under callgrind and divides the difference, which is the same on every run whatever else the machine does.
//!
//! usage: `lookup_instructions <lookups>`

use std::collections::BTreeMap;
use std::hint::black_box;

use axum::http::{HeaderMap, HeaderValue, header};
use ingest::decision::{self, AnswerContext, Moment, Named};
use ingest::problem::Problem;
use ingest::wording::Language;
use ingest::{ApiKey, Authority, Right, Role};
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::person::Identity;
use scan_model::{CodeForm, CodeKeys, CodePayload, PersonId, Ruleset, Scheme, Timestamp};
use status_cache::StatusCache;

const PERSONS: u64 = 1000;

fn main() -> anyhow::Result<()> {
    let lookups: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1000);
    let secret = "0123456789abcdef0123456789abcdef";
    let key = ApiKey {
        name: "gate".into(),
        role: Role::Gate,
        secret_hash: Authority::secret_hash(secret),
        further_rights: vec![],
        sites: vec![],
        requests_per_second: None,
        synthetic: false,
    };
    let authority = Authority::new(&[key], |_| 1)?;
    let keys = CodeKeys::new(&BTreeMap::from([(1, [7; 32])]))?;
    let cache = StatusCache::new(PERSONS as usize)?;
    let person = |n: u64| PersonId(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut codes = Vec::new();
    for n in 1..=PERSONS {
        cache.apply_enrolment(&enrolment(person(n))?)?;
        codes.push(keys.seal(&CodePayload {
            person: person(n),
            issued_second: 1_790_000_000,
            scheme: Scheme::Yuekang,
            form: CodeForm::App,
        }));
    }
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::from_str(&format!("Bearer {secret}"))?;
    headers.insert(header::AUTHORIZATION, bearer);
    let ruleset = Ruleset::edition_4();
    let now = Timestamp(1_790_000_100_000);
    let moment = Moment {
        now,
        shown_at: now,
        rotating_seconds: 60,
    };
    let mut answer = Vec::with_capacity(1024);
    for code in codes.iter().cycle().take(lookups) {
        let caller = authority.identify(black_box(&headers)).map_err(refused)?;
        caller.require(Right::LookUpCode).map_err(refused)?;
        let valid = decision::open_code(black_box(code), &keys, &cache, moment)
            .map_err(|refusal| anyhow::anyhow!(refusal.name()))?;
        let context = AnswerContext {
            ruleset: &ruleset,
            knowledge_age_ms: 12,
            stale_after_ms: 60_000,
            language: Language::of(&headers),
        };
        answer.clear();
        let named = Named::Code(valid.payload);
        decision::write_answer(&mut answer, &valid.status, named, &context);
        black_box(&answer);
    }
    Ok(())
}

fn refused(problem: Problem) -> anyhow::Error {
    anyhow::anyhow!("{problem:?}")
}

fn enrolment(person: PersonId) -> anyhow::Result<Enrolment> {
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
