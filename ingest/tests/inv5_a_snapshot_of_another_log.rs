//! A snapshot that covers more than the log holds is refused, and everyone's status is rebuilt from the log (INV-5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::json;
use support::World;

#[tokio::test]
async fn inv5_a_node_whose_log_was_made_anew_rebuilds_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    let with_snapshot = || World::configured(|config| config.snapshot = Some(file.clone()));
    let earlier = with_snapshot().await;
    let persons: Vec<_> = (0..50)
        .map(|n| json!({"document": {"kind": "passport", "number": format!("X{n:08}"), "issuer": "SGP"}, "name": "A B"}))
        .collect();
    earlier
        .done("identity_service", "/v1/persons", &json!(persons))
        .await;
    earlier.redden("confirmed").await;
    earlier.ingest.write_snapshot().unwrap().unwrap();
    // Its log is another one, in which one person is enrolled and nobody is red.
    let anew = with_snapshot().await;
    assert_eq!(anew.ingest.feed.failure(), None);
    assert_eq!(anew.ingest.cache.table().len(), 1);
    let code = anew.code().await;
    assert_eq!(anew.look_up(&code, "en").await.json()["outcome"], "green");
}

#[tokio::test]
async fn inv5_a_node_that_learns_it_late_keeps_no_snapshot_of_the_other_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.snapshot");
    let earlier = World::configured(|config| config.snapshot = Some(file.clone())).await;
    earlier.redden("confirmed").await;
    earlier.ingest.write_snapshot().unwrap().unwrap();
    // As when the log is away at the start, and another one when it is back.
    let later = World::configured(|config| {
        config.snapshot = Some(file.clone());
        config.may_start_without_log = true;
    });
    let later = later.await;
    let started = std::time::Instant::now();
    while !later.ingest.feed.is_of_another_log() {
        assert!(started.elapsed() < std::time::Duration::from_secs(60));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let ready = later.get("operator", "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("made anew"), "{}", ready.text);
    assert_eq!(later.ingest.write_snapshot().unwrap(), None);
    assert!(!file.exists());
}
