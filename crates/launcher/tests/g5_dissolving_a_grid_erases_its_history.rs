//! Claim (G5, INV-5): a grid dissolved on a running deployment is gone from the statistics within seconds, its residents' own
//! records stay, whatever arrives or is replayed afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;

use loadtest::client::Client;
use serde_json::{Value, json};
use support::{Place, Service, TONGXING, wait_until};

const NUMBER: &str = "11010519491231002X";

async fn post(client: &mut Client, path: &str, body: Value) -> Value {
    let body = body.to_string().into();
    let answer = client.post(path, "application/json", body).await.unwrap();
    assert!(
        matches!(answer.status, 200 | 201),
        "{path}: {}",
        answer.text()
    );
    serde_json::from_slice(&answer.body).unwrap()
}

async fn start(place: &Place) -> Service {
    let service = place.start().await;
    wait_until("the engine answers", async || place.engine_answers().await).await;
    service
}

async fn visit(worker: &mut Client, grid: u32) {
    let scan = json!({"scan_id": uuid::Uuid::now_v7().to_string(), "kind": "grid_collection", "grid": grid,
        "document": {"kind": "resident_id", "number": NUMBER}, "temperature": {"band": "normal"}});
    post(worker, "/v1/scans", scan).await;
}

/// What the store says of a grid: rows that lead to it, in any table.
async fn rows_of(place: &Place, grid: u32) -> String {
    place
        .sql(&format!(
            "SELECT countIf(site_kind = 'grid' AND site = {grid}),
                (SELECT count() FROM grid_day WHERE grid = {grid}),
                (SELECT count() FROM sites WHERE site_kind = 'grid' AND site = {grid}) FROM scans"
        ))
        .await
}

/// Everything that the tables say, in an order of its own.
async fn contents(place: &Place) -> Vec<String> {
    let mut contents = Vec::new();
    for sql in [
        "SELECT * FROM scans ORDER BY log_partition, log_offset",
        "SELECT grid, worker, day, region, sum(registrations), uniqExactMerge(people) FROM grid_day GROUP BY ALL ORDER BY ALL",
        "SELECT venue, hour, sum(registrations), uniqExactMerge(people) FROM venue_hour GROUP BY ALL ORDER BY ALL",
        "SELECT region, hour, sum(registrations), uniqExactMerge(people) FROM region_hour GROUP BY ALL ORDER BY ALL",
        "SELECT site_kind, site, name, region FROM sites FINAL ORDER BY ALL",
    ] {
        contents.push(place.sql(sql).await);
    }
    contents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g5_a_dissolved_grids_statistics_go_and_its_residents_records_stay() {
    let place = Place::with(&["--linger-ms", "20"]);
    let service = start(&place).await;
    let mut operator = place.caller("operator");
    let grids = json!([{"id": 1, "name": "一号网格", "region": 440_106_003},
        {"id": 2, "name": "二号网格", "region": 440_106_003}]);
    post(&mut operator, "/v1/grids:import", grids).await;
    let person = json!({"document": {"kind": "resident_id", "number": NUMBER}, "name": "张伟"});
    post(&mut place.caller("identity-service"), "/v1/persons", person).await;
    let mut worker = place.caller("grid-worker");
    for grid in [1, 1, 1, 2, 2] {
        visit(&mut worker, grid).await;
    }
    place.wait_counted().await;
    wait_until("the grid is counted and named", async || {
        rows_of(&place, 1).await == "3\t1\t1"
    })
    .await;

    let wrong = json!({"id": 1, "confirm": "二号网格"}).to_string().into();
    let refused = operator
        .post("/v1/grids:dissolve", "application/json", wrong)
        .await
        .unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(rows_of(&place, 1).await, "3\t1\t1");

    let confirmed = json!({"id": 1, "confirm": "一号网格"});
    post(&mut operator, "/v1/grids:dissolve", confirmed).await;
    wait_until("its history is erased", async || {
        rows_of(&place, 1).await == "0\t0\t0"
    })
    .await;
    assert_eq!(rows_of(&place, 2).await, "2\t1\t1", "its neighbour stays");
    // The visits stay the resident's own: when, and what was measured; not where, nor by whom.
    let visits = place
        .sql("SELECT count(), uniqExact(person), max(region), max(operator), max(checkpoint) FROM scans WHERE kind = 'grid_collection' AND site_kind = 'none'")
        .await;
    assert_eq!(visits, "3\t1\t0\t0\t0");
    // No part on the disk that is still read holds them.
    place.assert_rollups_whole();
    visit(&mut worker, 2).await;
    place.wait_counted().await;
    let before = contents(&place).await;
    assert!(service.terminate().await.success());

    let replayed = Command::new(TONGXING)
        .args(["replay", "local", "--data"])
        .arg(place.data())
        .args(["--clickhouse-listen", &place.engine().authority])
        .output()
        .unwrap();
    assert!(replayed.status.success(), "{replayed:?}");
    let service = start(&place).await;
    place.wait_counted().await;
    assert_eq!(contents(&place).await, before);
    assert_eq!(rows_of(&place, 1).await, "0\t0\t0");
    assert!(service.terminate().await.success());
}
