//! Open-loop load: requests are sent at planned times, and latency counts from the planned time, so that a stalled service
//! shows in the figures instead of slowing the load (coordinated omission; G. Tene, wrk2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use scan_model::Timestamp;
use tokio::task::JoinSet;

use crate::client::Endpoint;
use crate::exchange::Exchange;
use crate::paced::{self, Pace};
use crate::traffic::{CountedScan, Traffic};

/// What is sent, how fast, for how long.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Lookups a second.
    pub lookups_per_second: u32,
    /// Check-ins a second.
    pub check_ins_per_second: u32,
    /// How long.
    pub duration: Duration,
    /// Connections for each of the two.
    pub connections: usize,
    /// Another server that takes the lookups, to be compared with ingest under the same check-ins.
    pub lookups_at: Option<Endpoint>,
}

/// Live counters, for progress.
#[derive(Default)]
pub struct Live {
    /// Lookups answered.
    pub lookups: AtomicU64,
    /// Check-ins acknowledged.
    pub check_ins: AtomicU64,
    /// Requests that failed or were refused.
    pub failures: AtomicU64,
}

/// What one kind of request came to.
pub struct Measured {
    /// Latency from the planned send time, in microseconds.
    pub latency_us: Histogram<u64>,
    /// Answers by status.
    pub statuses: std::collections::BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub broken: u64,
}

/// What a run came to.
pub struct Outcome {
    /// Lookups.
    pub lookups: Measured,
    /// Check-ins.
    pub check_ins: Measured,
    /// Scans that were acknowledged, those refused for a red code among them (status 403).
    pub acknowledged: Vec<CountedScan>,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Measured {
    pub(crate) fn new() -> Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, 120_000_000, 3)?;
        Ok(Self {
            latency_us,
            statuses: std::collections::BTreeMap::new(),
            broken: 0,
        })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.latency_us.add(&other.latency_us)?;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.broken += other.broken;
        Ok(())
    }
}

/// Runs a plan against ingest.
pub async fn run(
    plan: &LoadPlan,
    ingest: &Endpoint,
    secret: &str,
    mut traffic: Traffic,
    live: &Arc<Live>,
) -> Result<Outcome> {
    let started = Instant::now();
    let end = started + plan.duration;
    let mut tasks = JoinSet::new();
    if plan.lookups_per_second > 0 {
        let pace = Pace {
            per_second: plan.lookups_per_second,
            duration: plan.duration,
            connections: plan.connections,
        };
        let endpoint = plan.lookups_at.as_ref().unwrap_or(ingest).clone();
        let secret = secret.to_owned();
        let (mut traffic, live) = (traffic.fork(), Arc::clone(live));
        tasks.spawn_blocking(move || {
            let next_path = |path: &mut String| {
                path.push_str("/v1/codes/");
                path.push_str(traffic.code());
            };
            let measured = paced::get(&pace, &endpoint, &secret, next_path, &live);
            (true, measured, Vec::new())
        });
    }
    let per_second = plan.check_ins_per_second;
    let connections = plan.connections.min(per_second as usize);
    for index in 0..connections {
        // Each connection sends every n-th request, so together they keep the plan's pace.
        let interval = Duration::from_secs_f64(connections as f64 / f64::from(per_second));
        let first = started + interval.mul_f64(index as f64 / connections as f64);
        let sender = Sender {
            exchange: Exchange::new(ingest.clone(), secret.to_owned()),
            traffic: traffic.fork(),
            live: Arc::clone(live),
            interval,
            end,
        };
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            let measured = sender.check_ins(first, &mut acknowledged).await;
            (false, measured, acknowledged)
        });
    }
    let mut outcome = Outcome {
        lookups: Measured::new()?,
        check_ins: Measured::new()?,
        acknowledged: Vec::new(),
        elapsed: Duration::ZERO,
    };
    while let Some(joined) = tasks.join_next().await {
        let (is_lookup, measured, acknowledged) = joined?;
        let measured = measured?;
        if is_lookup {
            outcome.lookups.add(&measured)?
        } else {
            outcome.check_ins.add(&measured)?
        }
        outcome.acknowledged.extend(acknowledged);
    }
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

struct Sender {
    exchange: Exchange,
    traffic: Traffic,
    live: Arc<Live>,
    interval: Duration,
    end: Instant,
}

impl Sender {
    async fn check_ins(
        mut self,
        first: Instant,
        acknowledged: &mut Vec<CountedScan>,
    ) -> Result<Measured> {
        let mut measured = Measured::new()?;
        let mut planned = first;
        while planned < self.end {
            let scan = self.traffic.draw_now(Timestamp::now());
            sleep_until(planned).await;
            // A request that broke may have been taken: it is sent again under the same id until it is answered.
            loop {
                match self.exchange.post("/v1/scans", &scan.body).await {
                    Ok(status) => {
                        *measured.statuses.entry(status).or_default() += 1;
                        if matches!(status, 201 | 202 | 403) {
                            self.live.check_ins.fetch_add(1, Ordering::Relaxed);
                            acknowledged.push(scan.counted);
                        } else {
                            self.live.failures.fetch_add(1, Ordering::Relaxed);
                        }
                        if !matches!(status, 429 | 503) {
                            break;
                        }
                    }
                    Err(_) => {
                        measured.broken += 1;
                        self.live.failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if Instant::now() > self.end + Duration::from_secs(60) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            measured
                .latency_us
                .saturating_record(planned.elapsed().as_micros() as u64);
            planned += self.interval;
        }
        Ok(measured)
    }
}

/// Waits for an instant; one that has passed costs no timer.
async fn sleep_until(planned: Instant) {
    if planned > Instant::now() {
        tokio::time::sleep_until(planned.into()).await;
    }
}
