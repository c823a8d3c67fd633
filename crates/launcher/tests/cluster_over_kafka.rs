//! Claim (INV-1 in the cluster deployment): with two ingest nodes and two aggregators over a real Kafka broker and a ClickHouse
//! interface, every acknowledged scan is counted exactly once, whichever of the processes is killed under load.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster_support;

use std::sync::Arc;
use std::time::Duration;

use cluster_support::engine_support::{is_long, seeded};
use cluster_support::processes::Service;
use cluster_support::{Cluster, PATIENCE, wait_until};
use loadtest::client::Client;
use loadtest::generator::{self, Live, LoadPlan};
use loadtest::profile::Profile;
use loadtest::traffic::Traffic;
use loadtest::{setup, verify};
use rand::Rng;
use scan_model::Timestamp;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_whatever_is_killed_every_acknowledged_scan_is_counted_once() {
    let mut random = seeded();
    let mut cluster = Cluster::start().await;
    let mut ingest = cluster.ingest("node-1").await;
    let other_ingest = cluster.ingest("node-2").await;
    let mut aggregators = [
        cluster.aggregator("aggregator-1").await,
        cluster.aggregator("aggregator-2").await,
    ];
    let query = cluster
        .service("query", &["query", "--ingest-url", &other_ingest.url()])
        .await;
    // A person whose facts change before, and after, everything is killed.
    let person = enrol_somebody(&cluster, &other_ingest).await;
    change_facts(&cluster, &other_ingest, &person).await;

    let profile = Profile::guangdong_weekday().unwrap();
    let mut feed = Client::new(other_ingest.endpoint(), cluster.secret("synthetic-feed"));
    let setting = setup::set_up(&mut feed, random.random(), &profile, 500, |_, _, _| {})
        .await
        .unwrap();
    let traffic = Traffic::new(random.random(), profile, &setting.world, setting.codes).unwrap();
    let plan = LoadPlan {
        lookups_per_second: 50,
        check_ins_per_second: 300,
        duration: Duration::from_secs(if is_long() { 300 } else { 30 }),
        connections: 8,
        lookups_at: None,
    };
    // The people were enrolled through one node and are scanned at the other.
    let (endpoint, secret) = (ingest.endpoint(), cluster.secret("synthetic-load"));
    let live = Arc::new(Live::default());
    let duration = plan.duration;
    let load =
        tokio::spawn(
            async move { generator::run(&plan, &endpoint, &secret, traffic, &live).await },
        );

    let started = std::time::Instant::now();
    let mut kills = [0; 3];
    while started.elapsed() < duration {
        tokio::time::sleep(Duration::from_millis(random.random_range(1_000..4_000))).await;
        let victim = random.random_range(0..3);
        kills[victim] += 1;
        match victim {
            0 => {
                ingest.kill();
                ingest.start(&cluster).await;
            }
            1 => {
                let aggregator = &mut aggregators[random.random_range(0..2)];
                aggregator.kill();
                aggregator.start(&cluster).await;
            }
            _ => {
                cluster.engine.kill();
                cluster.engine.restart();
            }
        }
    }
    let outcome = load.await.unwrap().unwrap();
    println!(
        "{} scans acknowledged; killed: ingest {}, aggregators {}, engine {}",
        outcome.acknowledged.len(),
        kills[0],
        kills[1],
        kills[2]
    );
    let expected = verify::expected(&outcome.acknowledged);
    assert!(!expected.is_empty());
    verify::wait_complete(&query.endpoint(), Timestamp::now(), PATIENCE)
        .await
        .unwrap();
    let counted = verify::counted(&query.endpoint(), &expected).await.unwrap();
    let differences = verify::differences(&expected, &verify::Counts::new(), &counted);
    assert!(differences.is_empty(), "{differences:#?}");
    change_facts(&cluster, &other_ingest, &person).await;
    let mut reader = Client::new(query.endpoint(), cluster.secret("health-feed"));
    let mut changes = 0;
    wait_until("every change of the facts is in the history", async || {
        let asked = json!({ "person": person }).to_string().into();
        let answer = reader.post("/v1/facts:history", "application/json", asked);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        changes = answer["history"].as_array().unwrap().len();
        changes >= 2 * FACTS
    })
    .await;
    assert_eq!(changes, 2 * FACTS);
}

/// Facts that [`change_facts`] supplies.
const FACTS: usize = 20;

async fn enrol_somebody(cluster: &Cluster, node: &Service) -> Value {
    let mut client = Client::new(node.endpoint(), cluster.secret("identity-service"));
    let person = json!({"document": {"kind": "passport", "number": "X12345678", "issuer": "SGP"}, "name": "A B"});
    let body = person.to_string().into();
    let answer = client.post("/v1/persons", "application/json", body).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    answer["person"].clone()
}

async fn change_facts(cluster: &Cluster, node: &Service, person: &Value) {
    let mut feed = Client::new(node.endpoint(), cluster.secret("health-feed"));
    for number in 0..FACTS {
        let fact = json!({"person": person, "category": "confirmed", "source": "cdc", "reference": number.to_string()});
        let body = fact.to_string().into();
        let answer = feed.post("/v1/facts", "application/json", body).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_refuses_topics_that_are_not_as_declared_and_says_what_is_weaker() {
    let cluster = Cluster::start().await;
    let refused = cluster
        .command(&["ingest", "--partitions", "5", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("partitions is 4, wanted 5"), "{said}");

    let compared = cluster
        .command(&["topics", "--compare", "--kafka-replication", "3"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stdout);
    assert!(!compared.status.success());
    assert!(said.contains("replication.factor is 1, wanted 3"), "{said}");

    let ready = cluster.ingest("node").await.ready_report().await;
    let durability = ready["durability"].as_str().unwrap();
    assert!(durability.contains("weaker than INV-7"), "{durability}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_that_may_not_go_on_is_not_ready() {
    let cluster = Cluster::start().await;
    let first = cluster.aggregator("aggregator").await;
    let query = cluster.service("query", &["query"]).await;
    // The first one gives the database its key's fingerprint.
    verify::wait_complete(&query.endpoint(), Timestamp::now(), PATIENCE)
        .await
        .unwrap();
    let other = cluster.fresh_folder("other-keys");
    let created = cluster
        .command(&["keys", "--folder", &other, "create"])
        .output();
    assert!(created.unwrap().status.success());
    let mut foreign = cluster.stopped("foreign", &["aggregator", "--keys", &other]);
    foreign.spawn(&cluster);
    wait_until("it says that it may not go on", async || {
        foreign.readiness().await == 503
    })
    .await;
    assert_eq!(first.readiness().await, 200);
}
