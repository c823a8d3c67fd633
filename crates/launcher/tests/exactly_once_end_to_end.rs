//! Claim (INV-1): an acknowledged scan is counted exactly once in every statistic, whatever is killed, retried, late,
//! corrected or sent twice.
//!
//! The service is the real binary; everything goes over HTTP. The test keeps its own count of what was acknowledged and
//! compares every figure with the query API: at rest, after kill -9 of the service, after kill -9 of the engine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/comparing.rs"]
mod comparing;
#[path = "support/drawing.rs"]
mod drawing;
#[path = "support/sending.rs"]
mod sending;
mod support;
#[path = "support/tally.rs"]
mod tally;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use comparing::{Comparison, Scope};
use drawing::Drawing;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scan_model::Timestamp;
use scan_model::division::{self, Level};
use sending::Load;
use support::{Place, is_alive, is_long, seeded, wait_until};
use tally::{Sent, day_of};

/// The moment of the last comparison, which is the most thorough.
const LAST: &str = "after the engine was killed";
/// Connections that send at once.
const CONNECTIONS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_every_acknowledged_scan_is_counted_exactly_once_whatever_is_killed_or_sent_twice() {
    let (seed, mut random) = seeded("exactly once");
    let (people, scans) = if is_long() {
        (20_000, 100_000)
    } else {
        (2_000, 10_000)
    };
    let began = Instant::now();
    let say = |what: &str| println!("{:>6.1} s  {what}", began.elapsed().as_secs_f64());
    let place = Arc::new(Place::with(&["--linger-ms", "20"]));
    let mut service = place.start().await;
    say("the service is up");
    let mut drawing = Drawing::set_up(&place, seed, random.clone(), people).await;
    let today = day_of(Timestamp::now().0);
    let scopes = scopes_of(&drawing);
    say("people, places and red codes are in");

    // At rest.
    let (load, mut later) = Load::first(drawing.draw(scans * 2 / 5), &mut random);
    load.send(&place, CONNECTIONS).join_all().await;
    assert_eq!(
        load.retried.load(Ordering::Relaxed),
        0,
        "nothing was in the way: {}",
        place.log()
    );
    let again = later.split_off(later.len() / 2);
    Load::again(again).send(&place, 1).join_all().await;
    say("sent");
    check(&place, &drawing, today, &scopes, "at rest").await;
    say("compared at rest");

    // The service is killed under load; what was not acknowledged is sent again under the same ids.
    drawing
        .make_red(&mut place.caller("synthetic-feed"), people as usize / 100)
        .await;
    let (load, more) = Load::first(drawing.draw(scans * 3 / 10), &mut random);
    let senders = load.send(&place, CONNECTIONS);
    for share in shares_of(&mut random, scans * 3 / 10) {
        wait_until("the load goes on", async || load.answered() >= share).await;
        let engine = service.kill();
        service = place.start().await;
        let ended = async || engine.is_none_or(|engine| !is_alive(engine));
        wait_until("the engine ends with its service", ended).await;
        say("the service was killed and is ready again");
    }
    senders.join_all().await;
    assert!(
        load.retried.load(Ordering::Relaxed) > 0,
        "the kill met no request"
    );
    // Minutes later for their ids, after a restart that forgot which scans it has answered.
    Load::again(later).send(&place, 2).join_all().await;
    check(
        &place,
        &drawing,
        today,
        &scopes,
        "after the service was killed",
    )
    .await;
    say("compared after the service was killed");

    // The engine is killed under load; ingest does not notice.
    let (load, last) = Load::first(drawing.draw(scans * 3 / 10), &mut random);
    let senders = load.send(&place, CONNECTIONS);
    for share in shares_of(&mut random, scans * 3 / 10) {
        wait_until("the load goes on", async || load.answered() >= share).await;
        let killed = service.kill_engine().await;
        let is_back = async || service.engine_pid().is_some_and(|pid| pid != killed);
        wait_until("the engine is started again", is_back).await;
        say("the engine was killed and is started again");
    }
    senders.join_all().await;
    assert_eq!(
        load.retried.load(Ordering::Relaxed),
        0,
        "ingest answers without the engine"
    );
    Load::again([more, last].concat())
        .send(&place, 2)
        .join_all()
        .await;
    check(&place, &drawing, today, &scopes, LAST).await;
    say("compared after the engine was killed");
    assert!(service.terminate().await.success());
}

/// After how many answers something is killed: twice, or six times in the long form.
fn shares_of(random: &mut ChaCha8Rng, scans: usize) -> Vec<usize> {
    let kills = if is_long() { 6 } else { 2 };
    let share =
        |kill: usize| scans * (2 * kill + 1) / (2 * kills) / 2 + random.random_range(0..scans / 20);
    (0..kills).map(share).collect()
}

/// Every venue, every grid, every division with a site, down to a sample of townships.
fn scopes_of(drawing: &Drawing) -> BTreeSet<Scope> {
    let mut scopes = BTreeSet::from([Scope::Region(440_000)]);
    scopes.extend(drawing.venues.iter().map(|site| Scope::Venue(site.id)));
    scopes.extend(drawing.grids.iter().map(|site| Scope::Grid(site.id)));
    let with_data = drawing.venues.iter().chain(&drawing.compounds);
    for (number, site) in with_data.enumerate() {
        let district = if site.region > 999_999 {
            site.region / 1000
        } else {
            site.region
        };
        scopes.insert(Scope::Region(district / 100 * 100));
        if number % 5 == 0 {
            scopes.extend([Scope::Region(site.region), Scope::Region(district)]);
        }
    }
    let idle = division::all().into_iter().find(|division| {
        division.level == Level::Township
            && drawing
                .venues
                .iter()
                .chain(&drawing.compounds)
                .all(|site| site.region != division.code)
    });
    scopes.extend(idle.map(|division| Scope::Region(division.code)));
    scopes
}

/// Compares when everything is counted: figures with the test's own count, raw rows with ids, rollups with raw rows.
async fn check(
    place: &Arc<Place>,
    drawing: &Drawing,
    today: i64,
    scopes: &BTreeSet<Scope>,
    moment: &str,
) {
    place.wait_counted().await;
    let sent: &[Sent] = drawing.drawn();
    let rows = place
        .sql("SELECT count(), uniqExact(scan_id) FROM scans")
        .await;
    assert_eq!(
        rows,
        format!("{0}\t{0}", sent.len()),
        "{moment}: rows and ids in raw"
    );
    Comparison::new(sent, today, moment == LAST)
        .assert_exact(place, scopes, moment)
        .await;
    place.assert_rollups_whole();
}
