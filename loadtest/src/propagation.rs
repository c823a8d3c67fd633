//! How soon an acknowledged fact decides the answers of every node (X2).
//!
//! Feeds supply facts at a steady pace. Beside them one probe after the other: a fact of a person of its own is supplied to the first
//! node, and from its acknowledgement on every node is asked for that person's code until its answer has the fact's change. What
//! is measured reaches from the acknowledgement to the end of the first such answer, the asking included.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::client::{Client, Endpoint};

/// How long a fact may take until a node's answer shows it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Facts sent in one request.
const BATCH: u32 = 50;
/// Connections that supply facts.
const FEEDS: u32 = 8;

/// What is done.
#[derive(Clone)]
pub struct Plan {
    /// The nodes; the first takes the facts.
    pub nodes: Vec<Endpoint>,
    /// The secret of a caller who may supply facts.
    pub feed_secret: String,
    /// The secret of a caller who may look codes up.
    pub lookup_secret: String,
    /// Facts a second beside the probes.
    pub facts_per_second: u32,
    /// Probes a second, at most.
    pub probes_per_second: u32,
    /// How long.
    pub duration: Duration,
}

/// What was measured.
pub struct Measured {
    /// Of each node, microseconds from the acknowledgement.
    pub nodes: Vec<Histogram<u64>>,
    /// Facts acknowledged beside the probes.
    pub facts: u64,
    /// How long the facts were supplied.
    pub elapsed: Duration,
}

/// Runs the plan over persons and the code of each.
///
/// # Errors
/// Where a fact is refused, or an acknowledged one does not show at a node within half a minute.
pub async fn run(plan: &Plan, persons: &[(String, String)]) -> Result<Measured> {
    let (probed, others) = persons.split_at(persons.len() / 4);
    if probed.is_empty() {
        bail!("at least four persons are needed");
    }
    let started = Instant::now();
    let feeding: Vec<_> = (0..FEEDS)
        .map(|feed| {
            let persons = others.iter().map(|(person, _)| person.clone()).collect();
            tokio::spawn(supply(plan.clone(), feed, persons))
        })
        .collect();
    let nodes = probe(plan, probed).await?;
    let mut facts = 0;
    for feed in feeding {
        facts += feed.await??;
    }
    Ok(Measured {
        nodes,
        facts,
        elapsed: started.elapsed(),
    })
}

/// Supplies this feed's share of the facts; answers how many were acknowledged.
async fn supply(plan: Plan, feed: u32, persons: Vec<String>) -> Result<u64> {
    let mut client = Client::new(plan.nodes[0].clone(), plan.feed_secret.clone());
    let interval = Duration::from_secs(1) * BATCH * FEEDS / plan.facts_per_second.max(1);
    let started = Instant::now();
    let mut planned = started + interval * feed / FEEDS;
    let mut acknowledged = 0;
    let mut turn = feed as usize;
    while plan.facts_per_second > 0 && planned < started + plan.duration {
        tokio::time::sleep_until(planned.into()).await;
        let lines: Vec<String> = (0..BATCH)
            .map(|_| {
                turn += FEEDS as usize;
                let person = &persons[turn % persons.len()];
                fact(person, turn.is_multiple_of(2), "load").to_string()
            })
            .collect();
        let body = lines.join("\n").into();
        let answer = client
            .post("/v1/facts:import", "application/x-ndjson", body)
            .await?;
        if answer.status != 200 || answer.text().contains("\"problem\"") {
            bail!("facts were answered {}: {}", answer.status, answer.text());
        }
        acknowledged += u64::from(BATCH);
        planned += interval;
    }
    Ok(acknowledged)
}

fn fact(person: &str, withdrawn: bool, reference: &str) -> Value {
    json!({
        "person": person, "category": "close_contact", "source": "synthetic-cdc", "reference": reference,
        "effective": "2026-01-01T00:00:00+08:00", "withdrawn": withdrawn,
    })
}

async fn probe(plan: &Plan, persons: &[(String, String)]) -> Result<Vec<Histogram<u64>>> {
    let mut feed = Client::new(plan.nodes[0].clone(), plan.feed_secret.clone());
    let asking = plan.nodes.iter();
    let mut asking: Vec<Client> = asking
        .map(|node| Client::new(node.clone(), plan.lookup_secret.clone()))
        .collect();
    let empty = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut measured = vec![empty; asking.len()];
    let interval = Duration::from_secs(1) / plan.probes_per_second.max(1);
    let started = Instant::now();
    let mut planned = started;
    let mut turns: BTreeMap<&str, bool> = BTreeMap::new();
    for (person, code) in persons.iter().cycle() {
        if planned >= started + plan.duration {
            break;
        }
        tokio::time::sleep_until(planned.into()).await;
        let withdrawn = turns.entry(person).or_insert(true);
        *withdrawn = !*withdrawn;
        let body = fact(person, *withdrawn, "probe").to_string().into();
        let answer = feed.post("/v1/facts", "application/json", body).await?;
        let acknowledged = Instant::now();
        if answer.status != 201 {
            bail!("a probe was answered {}: {}", answer.status, answer.text());
        }
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let change = answer["change"].as_u64().context("change")? as u16;
        let waiting = asking
            .iter_mut()
            .map(|node| shown(node, code, change, acknowledged));
        for (histogram, took) in measured.iter_mut().zip(try_join_all(waiting).await?) {
            histogram.saturating_record((took.as_micros() as u64).max(1));
        }
        // A probe that took longer than its share delays the next one and is not made up for.
        planned = (planned + interval).max(Instant::now());
    }
    Ok(measured)
}

/// Asks until the answer has a change; answers how long after the acknowledgement that was.
async fn shown(
    node: &mut Client,
    code: &str,
    change: u16,
    acknowledged: Instant,
) -> Result<Duration> {
    loop {
        let answer = node.get(&format!("/v1/codes/{code}")).await?;
        if answer.status != 200 {
            bail!("a lookup was answered {}: {}", answer.status, answer.text());
        }
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let version = answer["status_version"]
            .as_u64()
            .context("status_version")? as u16;
        let took = acknowledged.elapsed();
        if version.wrapping_sub(change) < u16::MAX / 2 {
            return Ok(took);
        }
        if took > PATIENCE {
            bail!("an acknowledged fact does not show");
        }
    }
}
