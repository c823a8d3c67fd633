//! What lookups and the status feed say of themselves in metrics.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ingest::Ingest;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use registry::RegistryNode;
use scan_model::{CategorySet, CodeForm, CodeKeys, CodePayload, PersonId, Scheme, Timestamp};
use serde_json::{Value, json};
use support::World;

const BUCKETS: [f64; 3] = [0.001, 0.1, 10.0];
const DAY: i64 = 86_400;

/// The recorder of this process, which its tests share: each reads metrics that no other test here touches.
fn recorded() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS);
        builder.unwrap().install_recorder().unwrap()
    })
}

/// The value of a series, by its name and labels in the exposition's text; 0 where there is none yet.
fn value(series: &str) -> u64 {
    let text = recorded().render();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(series));
    lines
        .next()
        .map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn c10_lookups_are_counted_by_outcome() {
    recorded();
    let world = World::start().await;
    let stranger = CodePayload {
        person: PersonId(1),
        issued_second: Timestamp::now().seconds() as u32,
        scheme: Scheme::Yuekang,
        form: CodeForm::App,
    };
    let foreign = CodeKeys::new(&[(9, [9; 32])].into()).unwrap();
    let expired = world.code_issued(120, Scheme::Yuekang, CodeForm::Rotating);
    let genuine = world.code_issued(DAY, Scheme::Yuekang, CodeForm::App);
    let altered = {
        let last = if genuine.ends_with('A') { 'E' } else { 'A' };
        format!("{}{last}", &genuine[..genuine.len() - 1])
    };
    world.look_up(&genuine, "en").await;
    let keys = world.ingest.code_keys.load_full();
    for (codes, outcome) in [
        (vec!["x".to_owned()], "malformed"),
        (
            vec![keys.seal(&stranger), foreign.seal(&stranger)],
            "forged",
        ),
        (vec![altered], "altered"),
        (vec![expired], "expired"),
        (vec![genuine], "revoked"),
    ] {
        if outcome == "revoked" {
            let revocation = json!({"person": world.person.to_string()});
            world
                .done("identity_service", "/v1/codes:revoke", &revocation)
                .await;
        }
        let series = format!("ingest_lookups_total{{outcome=\"{outcome}\"}}");
        assert_eq!(value(&series), 0, "{outcome}");
        let count = codes.len() as u64;
        for code in &codes {
            let answer = world.look_up(code, "en").await.json();
            let kind = answer["type"].as_str().unwrap_or_default().to_owned();
            assert_eq!(kind, format!("urn:tongxing:problem:code-{outcome}"));
        }
        assert_eq!(value(&series), count, "{outcome}");
        // Many at once are counted as one by one.
        let batch = json!({"codes": codes});
        world.post("gate", "/v1/lookups", &batch).await;
        assert_eq!(value(&series), 2 * count, "{outcome}");
    }
    assert_eq!(value("ingest_lookups_total{outcome=\"answered\"}"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_facts_take_effect_on_every_node_and_each_propagation_is_measured() {
    const PERSONS: usize = 200;
    recorded();
    let world = World::start().await;
    let registry = RegistryNode::start(Arc::clone(&world.log)).await.unwrap();
    let config = world.ingest.config.clone();
    let other = Ingest::start(Arc::clone(&world.log), Arc::new(registry), config);
    let other = other.await.unwrap();
    let documents: Vec<Value> = (0..PERSONS)
        .map(|n| json!({"kind": "passport", "number": format!("X{n:08}"), "issuer": "SGP"}))
        .collect();
    let persons: Vec<Value> = documents
        .iter()
        .map(|document| json!({"document": document, "name": "A B"}))
        .collect();
    let enrolled = world
        .done("identity_service", "/v1/persons", &json!(persons))
        .await;
    let ids: Vec<PersonId> = enrolled["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["result"]["person"].as_str().unwrap().parse().unwrap())
        .collect();
    let counted = || value("status_propagation_seconds_count{topic=\"facts\"}");
    let before = counted();
    let facts: Vec<Value> = documents
        .iter()
        .map(|document| json!({"document": document, "category": "confirmed", "source": "cdc", "reference": "1"}))
        .collect();
    world.done("health_feed", "/v1/facts", &json!(facts)).await;
    let acknowledged = Instant::now();
    let is_red = |node: &Ingest, id: PersonId| {
        let status = node.cache.get(id, Timestamp::now());
        status.is_some_and(|status| status.active != CategorySet::EMPTY)
    };
    // The node that was told answers by it from the acknowledgement on, the others a moment later.
    assert!(ids.iter().all(|id| is_red(&world.ingest, *id)));
    while !ids.iter().all(|id| is_red(&other, *id)) || counted() < before + 2 * PERSONS as u64 {
        assert!(acknowledged.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(counted(), before + 2 * PERSONS as u64);
    let within_10_s = value("status_propagation_seconds_bucket{topic=\"facts\",le=\"10\"}");
    assert_eq!(within_10_s, counted());
}
