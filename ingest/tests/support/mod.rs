//! A node of the front line in this process: a local log in a temporary folder, sites, keys of every role, a person.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/event-log/tests/support/failing_log.rs"]
pub mod failing_log;
pub mod openapi;
pub mod refusals;
mod secrets;
mod setup;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use event_log::local::LocalOptions;
use event_log::{LocalLog, SharedLog};
use http_body_util::BodyExt;
use ingest::topics::{self, Retention};
use ingest::{Ingest, IngestConfig, routes};
use registry::RegistryNode;
use scan_model::{CodeForm, CodePayload, PersonId, Scheme, SiteKind, Timestamp, codec};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A resident ID that breaks no rule.
pub const NUMBER: &str = "44010619900307001X";
/// Another one.
pub const OTHER_NUMBER: &str = "440305198512240021";
/// A full name.
pub const NAME: &str = "欧阳示例";
/// A full phone number.
pub const PHONE: &str = "13812345678";
/// Partitions of the person-keyed topics.
pub const PARTITIONS: u32 = 4;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// The node under test.
pub struct World {
    pub ingest: Arc<Ingest>,
    pub log: SharedLog,
    pub person: PersonId,
    pub router: axum::Router,
    folder: tempfile::TempDir,
}

/// An answer.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn content_type(&self) -> &str {
        self.headers
            .get(header::CONTENT_TYPE)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The problem's status, field and rule; also that it is a problem as RFC 9457 has it.
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(
            self.content_type(),
            "application/problem+json",
            "{}",
            self.text
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        field_and_rule(&problem)
    }
}

/// Status, field and rule of a problem.
pub fn field_and_rule(problem: &Value) -> (u16, String, String) {
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let kind = text("type");
    assert!(kind.starts_with("urn:tongxing:problem:"), "{problem}");
    assert!(
        !text("title").is_empty() && !text("detail").is_empty(),
        "{problem}"
    );
    (
        problem["status"].as_u64().unwrap() as u16,
        text("field"),
        text("rule"),
    )
}

/// What the tests name in place of a triple of strings.
pub fn refusal(status: u16, field: &str, rule: &str) -> (u16, String, String) {
    (status, field.to_owned(), rule.to_owned())
}

/// A fresh scan id.
pub fn scan_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The scan id of an instant.
pub fn scan_id_at(time: Timestamp) -> String {
    let random = uuid::Uuid::now_v7().as_u128() & ((1 << 80) - 1);
    uuid::Uuid::from_u128((time.0 as u128) << 80 | random).to_string()
}

pub fn document(number: &str) -> Value {
    json!({"kind": "resident_id", "number": number})
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}, |log| log).await
    }

    pub async fn configured(change: impl FnOnce(&mut IngestConfig)) -> Self {
        Self::with(change, |log| log).await
    }

    /// Starts with a changed configuration over a wrapped log, imports sites and enrols the person.
    pub async fn with(
        change: impl FnOnce(&mut IngestConfig),
        wrap: impl FnOnce(SharedLog) -> SharedLog,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let declared = topics::all(PARTITIONS, Retention::default());
        let (local, _) = LocalLog::open(folder.path(), declared, &LocalOptions::default()).unwrap();
        let log = wrap(Arc::new(local));
        let mut config = setup::config();
        change(&mut config);
        let registry = Arc::new(RegistryNode::start(Arc::clone(&log)).await.unwrap());
        let ingest = Ingest::start(Arc::clone(&log), registry, config)
            .await
            .unwrap();
        let router = routes::router(Arc::clone(&ingest), Arc::new(|| "metrics 1\n".to_owned()));
        let mut world = Self {
            ingest,
            log,
            person: PersonId(0),
            router,
            folder,
        };
        let venue = |id: u32| json!({"id": id, "name": "venue", "region": 440_106, "venue_type": "mall", "checkpoints": ["east"]});
        let site = json!({"id": 1, "name": "site", "region": 440_106});
        let mut load_venue = venue(3);
        load_venue["synthetic"] = json!(true);
        let venues = json!([venue(1), venue(2), load_venue]);
        world.done("operator", "/v1/venues:import", &venues).await;
        world.done("operator", "/v1/grids:import", &site).await;
        world.done("operator", "/v1/compounds:import", &site).await;
        world.person = world.enrol(NUMBER, NAME, Some(PHONE)).await;
        world
    }

    pub async fn enrol(&self, number: &str, name: &str, phone: Option<&str>) -> PersonId {
        let person = json!({"document": document(number), "name": name, "phone": phone});
        let answer = self.done("identity_service", "/v1/persons", &person).await;
        answer["person"].as_str().unwrap().parse().unwrap()
    }

    /// A fresh app code of the person.
    pub async fn code(&self) -> String {
        let request = json!({"person": self.person.to_string()});
        let answer = self.done("identity_service", "/v1/codes", &request).await;
        answer["code"].as_str().unwrap().to_owned()
    }

    /// A code as if it had been issued some seconds ago.
    pub fn code_issued(&self, seconds_ago: i64, scheme: Scheme, form: CodeForm) -> String {
        let issued = Timestamp::now().seconds() - seconds_ago;
        self.ingest.code_keys.load().seal(&CodePayload {
            person: self.person,
            issued_second: issued as u32,
            scheme,
            form,
        })
    }

    /// A screening at venue 1, normal, by a code.
    pub fn screening(code: &str) -> Value {
        json!({"scan_id": scan_id(), "kind": "temperature_screening", "code": code, "venue": 1,
               "temperature": {"band": "normal", "celsius": 36.5}})
    }

    /// Makes the person red.
    pub async fn redden(&self, category: &str) {
        let fact = json!({"person": self.person.to_string(), "category": category, "source": "cdc", "reference": "1"});
        self.done("health_feed", "/v1/facts", &fact).await;
    }

    /// Posts JSON that must be accepted; a batch must be accepted whole.
    pub async fn done(&self, key: &str, path: &str, body: &Value) -> Value {
        let reply = self.post(key, path, body).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
        let answer = reply.json();
        assert!(
            answer.get("refused").is_none_or(|refused| *refused == 0),
            "{answer}"
        );
        answer
    }

    pub async fn post(&self, key: &str, path: &str, body: &Value) -> Reply {
        let json = [("content-type", "application/json")];
        self.call(Method::POST, Some(key), path, &json, body.to_string())
            .await
    }

    pub async fn get(&self, key: &str, path: &str) -> Reply {
        self.call(Method::GET, Some(key), path, &[], String::new())
            .await
    }

    /// Looks a code up in a language.
    pub async fn look_up(&self, code: &str, language: &str) -> Reply {
        let asked = [("accept-language", language)];
        let path = format!("/v1/codes/{code}");
        self.call(Method::GET, Some("tester"), &path, &asked, String::new())
            .await
    }

    /// Any request. Whatever the answer, it repeats no identity (INV-3).
    pub async fn call(
        &self,
        method: Method,
        key: Option<&str>,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        let body: Vec<u8> = body.into();
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let secrets = secrets::secrets_of(path, &body);
        let request = request.body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if path != "/openapi.json" {
            for secret in secrets {
                assert!(!text.contains(&secret), "{path} repeats {secret}: {text}");
            }
        }
        Reply {
            status,
            headers,
            bytes: bytes.to_vec(),
            text,
        }
    }

    /// Everything that a refused request must leave alone: the end of every partition, the sites, the status.
    pub async fn state(&self) -> String {
        let mut ends = Vec::new();
        for topic in self.log.topics() {
            for partition in 0..topic.partitions {
                let end = self.log.bounds(&topic.name, partition).await.unwrap().end;
                ends.push(format!("{}/{partition}={end}", topic.name));
            }
        }
        let kinds = [SiteKind::Venue, SiteKind::Grid, SiteKind::Compound];
        let sites = kinds.map(|kind| self.ingest.registry.sites(kind));
        let status = self.ingest.cache.get(self.person, Timestamp::now());
        format!(
            "{ends:?} {sites:?} {status:?} {}",
            self.ingest.cache.table().len()
        )
    }

    /// How many records a topic holds.
    pub async fn count(&self, topic: &str) -> u64 {
        let mut count = 0;
        for partition in 0..self.log.partitions(topic).unwrap() {
            let bounds = self.log.bounds(topic, partition).await.unwrap();
            count += bounds.end - bounds.start;
        }
        count
    }

    /// Every scan of the log, in order of partitions.
    pub async fn scans(&self) -> Vec<scan_model::Scan> {
        let values = self.values(topics::SCANS).await;
        values
            .iter()
            .map(|value| codec::decode(value).unwrap())
            .collect()
    }

    /// Every value of a topic.
    pub async fn values(&self, topic: &str) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for partition in 0..self.log.partitions(topic).unwrap() {
            let bounds = self.log.bounds(topic, partition).await.unwrap();
            let mut reader = self.log.read(topic, partition, bounds.start).await.unwrap();
            while reader.position() < bounds.end {
                let records = reader.next(1 << 20, Duration::from_secs(1)).await.unwrap();
                values.extend(
                    records
                        .into_iter()
                        .filter_map(|r| Some(r.record.value?.to_vec())),
                );
            }
        }
        values
    }
}
