//! Claim (S4, Y5, INV-5): whoever may read it is told every change of a person's facts, each once, with who supplied it and why: after
//! a withdrawal, a kill of the whole deployment and of its engine, a replay from the log, and a loss of the table.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use loadtest::client::Client;
use serde_json::{Value, json};
use support::{Place, tongxing, wait_until};

async fn post(client: &mut Client, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string().into();
    let answer = client.post(path, "application/json", body).await.unwrap();
    (
        answer.status,
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
    )
}

/// Supplies a fact, and answers the changes of its person once there are so many.
async fn supply(place: &Place, fact: &Value, expected: usize) -> Vec<Value> {
    let mut feed = place.caller("health-feed");
    let (status, answer) = post(&mut feed, "/v1/facts", fact).await;
    assert_eq!(status, 201, "{answer}");
    history(place, &fact["person"], expected).await
}

/// The changes of a person's facts, the newest first, once there are so many.
async fn history(place: &Place, person: &Value, expected: usize) -> Vec<Value> {
    let mut reader = Client::new(place.query(), place.secret("health-feed"));
    let asked = json!({ "person": person });
    let mut changes = Vec::new();
    wait_until("the history is whole", async || {
        let (status, answer) = post(&mut reader, "/v1/facts:history", &asked).await;
        // The engine may still be starting.
        if status != 200 {
            assert_eq!(status, 503, "{answer}");
            return false;
        }
        assert_eq!(answer["is_whole"], true);
        changes.clone_from(answer["history"].as_array().unwrap());
        changes.len() >= expected
    })
    .await;
    assert_eq!(changes.len(), expected, "{changes:?}");
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn y5_every_change_of_a_person_s_facts_is_told_once_whatever_came_between() {
    let place = Place::with(&["--partitions", "2"]);
    let service = place.start().await;
    let document = json!({"kind": "passport", "number": "X12345678", "issuer": "SGP"});
    let mut identity = place.caller("identity-service");
    let enrolled = json!({"document": document, "name": "A B"});
    let (status, enrolled) = post(&mut identity, "/v1/persons", &enrolled).await;
    assert_eq!(status, 201, "{enrolled}");
    let person = &enrolled["person"];
    let fact = |note: &str| json!({"person": person, "category": "confirmed", "source": "cdc", "reference": "1", "note": note});
    let mut withdrawal = fact("mistaken identity");
    withdrawal["withdrawn"] = json!(true);
    supply(&place, &fact("tested on Monday"), 1).await;
    let changes = supply(&place, &withdrawal, 2).await;
    let notes = |changes: &[Value]| -> Vec<String> {
        let notes = changes.iter().map(|change| change["note"].as_str());
        notes.map(|note| note.unwrap().to_owned()).collect()
    };
    assert_eq!(notes(&changes), ["mistaken identity", "tested on Monday"]);
    assert!(changes[0]["expiry"].is_string() && changes[1]["expiry"].is_null());
    assert_eq!(changes[0]["change"], 3);
    // Who lacks the right is told which, and by a document it is the same person.
    let mut tester = Client::new(place.query(), place.secret("tester"));
    let (status, refused) = post(
        &mut tester,
        "/v1/facts:history",
        &json!({ "person": person }),
    )
    .await;
    assert_eq!((status, &refused["rule"]), (403, &json!("read_facts")));
    let mut reader = Client::new(place.query(), place.secret("health-feed"));
    let by_document = json!({ "document": document });
    let (_, answer) = post(&mut reader, "/v1/facts:history", &by_document).await;
    assert_eq!(answer["history"], json!(changes));

    // Killed with its engine between the store and the position, at worst.
    service.kill();
    let service = place.start().await;
    let changes = supply(&place, &fact("tested again"), 3).await;
    service.kill_engine().await;
    assert_eq!(history(&place, person, 3).await, changes);

    // The table is a function of the log.
    assert!(service.terminate().await.success());
    let replayed = tongxing()
        .args(["replay", "local", "--partitions", "2", "--data"])
        .arg(place.data())
        .args(["--clickhouse-listen", &place.engine_address()])
        .output()
        .unwrap();
    assert!(replayed.status.success(), "{replayed:?}");
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(said.contains("3 changes of facts stored"), "{said}");
    let service = place.start().await;
    assert_eq!(history(&place, person, 3).await, changes);

    // A store that lacks what the position says is filled from the log.
    place.sql("TRUNCATE TABLE fact_history").await;
    service.kill();
    let service = place.start().await;
    assert_eq!(history(&place, person, 3).await, changes);
    assert!(service.terminate().await.success());
}
