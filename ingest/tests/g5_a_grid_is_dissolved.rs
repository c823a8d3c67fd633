//! G5: a grid is dissolved by the operator alone, confirmed by its name; afterwards it is unknown for good.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ingest::topics;
use serde_json::{Value, json};
use support::{NUMBER, World, document, scan_id};

const PATH: &str = "/v1/grids:dissolve";

fn visit(grid: u32) -> Value {
    json!({"scan_id": scan_id(), "kind": "grid_collection", "document": document(NUMBER), "grid": grid,
           "temperature": {"band": "normal"}})
}

#[tokio::test]
async fn only_the_operator_dissolves_a_grid_and_only_by_its_exact_name() {
    let world = World::start().await;
    let before = world.state().await;
    let confirmed = json!({"id": 1, "confirm": "site"});
    let refused = world.post("tester", PATH, &confirmed).await;
    assert_eq!(refused.status, 403);
    for (body, field) in [
        (json!({"id": 1, "confirm": "Site"}), "confirm"),
        (json!({"id": 1, "confirm": ""}), "confirm"),
        (json!({"id": 1}), "confirm"),
        (json!({"id": 9, "confirm": "site"}), "id"),
    ] {
        let refused = world.post("operator", PATH, &body).await;
        let (status, named, _) = refused.problem();
        assert_eq!((status, named.as_str()), (422, field), "{}", refused.text);
    }
    assert_eq!(world.state().await, before, "nothing was written");
}

#[tokio::test]
async fn a_dissolved_grid_takes_no_scans_and_its_id_is_never_given_again() {
    let world = World::start().await;
    let visited = world.post("everything", "/v1/scans", &visit(1)).await;
    assert_eq!(visited.status, 201, "{}", visited.text);
    let confirmed = json!({"id": 1, "confirm": "site"});
    let answer = world.done("operator", PATH, &confirmed).await;
    assert_eq!(answer, json!({"id": 1, "dissolved": true}));

    let refused = world.post("everything", "/v1/scans", &visit(1)).await;
    let (status, field, _) = refused.problem();
    assert_eq!((status, field.as_str()), (422, "grid"));
    assert!(refused.text.contains("was dissolved"), "{}", refused.text);
    let again = world.post("operator", PATH, &confirmed).await;
    assert_eq!(again.problem().0, 422);
    assert!(again.text.contains("was dissolved"), "{}", again.text);

    let site = |id| json!({"id": id, "name": "site", "region": 440_106});
    let batch = json!([site(1), site(2)]);
    let reply = world.post("operator", "/v1/grids:import", &batch).await;
    let results = reply.json()["results"].clone();
    assert_eq!(
        results[0]["problem"]["rule"], "not_dissolved",
        "{}",
        reply.text
    );
    assert_eq!(results[1]["status"], 201, "{}", reply.text);

    // Who dissolved which grid stays in the audit.
    let audit = world.values(topics::AUDIT).await;
    let entry: Value = serde_json::from_slice(audit.last().unwrap()).unwrap();
    assert_eq!(entry["action"], "dissolve_grid");
    assert_eq!(entry["caller"], "operator");
    assert_eq!(entry["site"], json!({"kind": "grid", "id": 1}));
}
