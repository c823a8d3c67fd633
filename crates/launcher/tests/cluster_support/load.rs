//! A steady load that is reconciled: every scan is sent under its id until it is acknowledged, and counted then.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loadtest::client::{Client, Endpoint};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scan_model::Scan;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::engine_support::counted::Counted;
use super::engine_support::is_long;
use super::people::{CALLER, Setting};
use super::{Cluster, PARTITIONS, PATIENCE};

/// Scans a second that every scenario is to hold outside its outages, in its long form.
const REQUIRED: f64 = 3_000.0;
/// The same in its short form, which is there for what is lost or counted twice, on a machine of whatever speed: what stalls falls below it.
const REQUIRED_AT_LEAST: f64 = 1_000.0;
/// Scans a second that are offered: some more, so that an instant's delay is made up for.
const OFFERED: u64 = 3_400;
/// Scans of one request.
const BATCH: u64 = 50;
/// Requests under way at once, each on a connection of its own.
const CONNECTIONS: usize = 32;
/// What a stall leaves unsent is sent late up to this far back; older turns are let go.
const CATCH_UP: Duration = Duration::from_secs(2);
/// A wait between two tries of one request.
const RETRY: Duration = Duration::from_millis(100);
/// One request in so many is sent a second time after it was acknowledged, to any node.
const REPEATED_ONE_IN: u32 = 50;
/// One scan in so many corrects an earlier one.
const CORRECTING_ONE_IN: u32 = 200;

/// Load under way.
pub struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<()>,
    started: Instant,
}

struct Shared {
    setting: Arc<Setting>,
    nodes: Vec<Endpoint>,
    secret: String,
    counted: Mutex<Counted>,
    acknowledged: AtomicU64,
    spooled: AtomicU64,
    repeated: AtomicU64,
    retried: AtomicU64,
    is_over: AtomicBool,
    /// When the next request is due, in nanoseconds since the start.
    due_ns: AtomicU64,
    outages: Mutex<Outages>,
}

/// Time in which the load could not be taken by the scenario's own doing, and what was taken all the same.
#[derive(Default)]
struct Outages {
    open: Option<(Instant, u64)>,
    lasted: Duration,
    acknowledged: u64,
}

/// What a load came to.
pub struct Taken {
    /// Every scan that was acknowledged.
    pub counted: Counted,
    /// Scans.
    pub acknowledged: u64,
    /// Of them, answered from a node's spool.
    pub spooled: u64,
    /// Scans a second outside outages.
    pub rate: f64,
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<ItemResult<'a>>,
}

#[derive(Deserialize)]
struct ItemResult<'a> {
    status: u16,
    #[serde(borrow)]
    problem: Option<&'a RawValue>,
}

impl Load {
    /// Starts to send to some nodes, any scan to any of them.
    pub fn start(
        cluster: &Cluster,
        setting: Arc<Setting>,
        nodes: Vec<Endpoint>,
        seed: u64,
    ) -> Self {
        let started = Instant::now();
        let shared = Arc::new(Shared {
            setting,
            nodes,
            secret: cluster.secret(CALLER),
            counted: Mutex::new(Counted::without_offsets()),
            acknowledged: AtomicU64::new(0),
            spooled: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            due_ns: AtomicU64::new(0),
            outages: Mutex::default(),
        });
        let mut senders = JoinSet::new();
        for number in 0..CONNECTIONS {
            let random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(number as u64));
            let sender = Sender::new(Arc::clone(&shared), number, random, started);
            senders.spawn(sender.run());
        }
        Self {
            shared,
            senders,
            started,
        }
    }

    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Scans that were answered from a node's spool.
    pub fn spooled(&self) -> u64 {
        self.shared.spooled.load(Ordering::Relaxed)
    }

    /// From now on scans may be refused or wait.
    pub fn outage_begins(&self) {
        let mut outages = self.shared.outages.lock().unwrap();
        outages.open = Some((Instant::now(), self.acknowledged()));
    }

    /// From now on they must be taken at once.
    pub fn outage_ends(&self) {
        let acknowledged = self.acknowledged();
        self.shared.outages.lock().unwrap().close(acknowledged);
    }

    /// Goes on until so much time has passed since the start.
    pub async fn last(&self, time: Duration) {
        tokio::time::sleep_until((self.started + time).into()).await;
    }

    /// Ends it: what is under way is sent until it is acknowledged. Fails where less was taken than is required.
    pub async fn finish(mut self) -> Taken {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let (lasted, taken) = (self.started.elapsed(), self.acknowledged());
        let ended = tokio::time::timeout(PATIENCE, async {
            while let Some(sender) = self.senders.join_next().await {
                sender.expect("a sender does not fail");
            }
        });
        ended.await.expect("every scan is acknowledged in the end");
        let shared = Arc::into_inner(self.shared).expect("no sender is left");
        let mut outages = shared.outages.into_inner().unwrap();
        outages.close(taken);
        let normal = lasted.saturating_sub(outages.lasted);
        let rate = taken.saturating_sub(outages.acknowledged) as f64 / normal.as_secs_f64();
        let acknowledged = shared.acknowledged.into_inner();
        let spooled = shared.spooled.into_inner();
        println!(
            "{acknowledged} scans acknowledged in {:.1} s, {rate:.0}/s outside {:.1} s of outages; {spooled} from a spool; {} requests retried, {} sent twice",
            lasted.as_secs_f64(),
            outages.lasted.as_secs_f64(),
            shared.retried.into_inner(),
            shared.repeated.into_inner(),
        );
        let required = if is_long() {
            REQUIRED
        } else {
            REQUIRED_AT_LEAST
        };
        assert!(rate >= required, "only {rate:.0} scans/s were taken");
        let counted = shared.counted.into_inner().unwrap();
        assert_eq!(counted.appended, acknowledged);
        Taken {
            counted,
            acknowledged,
            spooled,
            rate,
        }
    }
}

impl Outages {
    fn close(&mut self, acknowledged: u64) {
        if let Some((began, before)) = self.open.take() {
            self.lasted += began.elapsed();
            self.acknowledged += acknowledged.saturating_sub(before);
        }
    }
}

impl Shared {
    /// Waits for a turn of the steady pace; none is left when the load is over.
    async fn turn(&self, started: Instant) -> bool {
        let interval_ns = 1_000_000_000 * BATCH / OFFERED;
        let now_ns = started.elapsed().as_nanos() as u64;
        let oldest_ns = now_ns.saturating_sub(CATCH_UP.as_nanos() as u64);
        let take = |due: u64| Some(due.max(oldest_ns) + interval_ns);
        let (order, relaxed) = (Ordering::Relaxed, Ordering::Relaxed);
        let due_ns = self.due_ns.fetch_update(order, relaxed, take);
        let due = Duration::from_nanos(due_ns.unwrap_or(now_ns).max(oldest_ns));
        tokio::time::sleep_until((started + due).into()).await;
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// One connection to each node, used one at a time.
struct Sender {
    shared: Arc<Shared>,
    clients: Vec<Client>,
    /// The node that is asked.
    node: usize,
    random: ChaCha8Rng,
    started: Instant,
    /// A scan that was acknowledged before.
    earlier: Option<Scan>,
}

impl Sender {
    fn new(shared: Arc<Shared>, node: usize, random: ChaCha8Rng, started: Instant) -> Self {
        let client = |node: &Endpoint| Client::new(node.clone(), shared.secret.clone());
        let clients = shared.nodes.iter().map(client).collect();
        Self {
            shared,
            clients,
            node,
            random,
            started,
            earlier: None,
        }
    }

    async fn run(mut self) {
        while self.shared.turn(self.started).await {
            let drawn = self.draw();
            let body = body_of(drawn.iter());
            self.deliver(drawn).await;
            if self.random.random_ratio(1, REPEATED_ONE_IN) {
                // Whatever the answer: these scans were counted already.
                self.node += 1;
                let _ = self.post(body).await;
                self.shared.repeated.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn draw(&mut self) -> Vec<(String, Scan)> {
        let mut drawn = Vec::with_capacity(BATCH as usize);
        for _ in 0..BATCH {
            let corrects = self.random.random_ratio(1, CORRECTING_ONE_IN);
            let corrected = self.earlier.as_ref().filter(|_| corrects);
            drawn.push(self.shared.setting.draw(&mut self.random, corrected));
        }
        drawn
    }

    /// Sends until every scan is acknowledged, always under the same ids.
    async fn deliver(&mut self, mut open: Vec<(String, Scan)>) {
        loop {
            if let Some(statuses) = self.post(body_of(open.iter())).await {
                assert_eq!(statuses.len(), open.len(), "a result for each scan");
                let mut statuses = statuses.into_iter();
                let mut taken = Vec::with_capacity(open.len());
                open.retain(|(_, scan)| {
                    let is_taken = statuses.next().unwrap_or(false);
                    if is_taken {
                        taken.push(scan.clone());
                    }
                    !is_taken
                });
                self.acknowledge(taken);
            }
            if open.is_empty() {
                return;
            }
            self.shared.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(RETRY).await;
            self.node += 1;
        }
    }

    fn acknowledge(&mut self, taken: Vec<Scan>) {
        let mut counted = self.shared.counted.lock().unwrap();
        for scan in &taken {
            counted.add_acknowledged(PARTITIONS, scan);
        }
        drop(counted);
        let count = taken.len() as u64;
        self.shared.acknowledged.fetch_add(count, Ordering::Relaxed);
        self.earlier = taken.into_iter().next().or(self.earlier.take());
    }

    /// Whether each item was taken; nothing where the request as a whole was refused for now or broke.
    async fn post(&mut self, body: Bytes) -> Option<Vec<bool>> {
        let node = self.node % self.clients.len();
        let sent = self.clients[node].post("/v1/scans", "application/json", body);
        let answer = sent.await.ok()?;
        if matches!(answer.status, 429 | 503) {
            return None;
        }
        let text = answer.text();
        let results: Results = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {}, {text}", answer.status));
        let is_taken = |item: &ItemResult| {
            let problem = item.problem.map_or("", RawValue::get);
            match item.status {
                202 => self.shared.spooled.fetch_add(1, Ordering::Relaxed),
                200..300 => 0,
                403 if problem.contains("\"recorded\":true") => 0,
                503 => return false,
                status => panic!("a scan was answered {status}: {problem}"),
            };
            true
        };
        Some(results.results.iter().map(is_taken).collect())
    }
}

/// An array, as `POST /v1/scans` takes it.
fn body_of<'a>(items: impl Iterator<Item = &'a (String, Scan)>) -> Bytes {
    let mut body = String::from("[");
    for (index, (text, _)) in items.enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(body, "{separator}{text}");
    }
    body.push(']');
    body.into()
}
