//! What the scenarios have in common: a cluster, people to scan, a load, and the verdict.

use std::ops::Deref;
use std::time::{Duration, Instant};

use event_log::{Offset, Partition};
use loadtest::client::Client;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Mutex, MutexGuard};

use super::Cluster;
use super::engine_support::{is_long, seeded};
use super::load::{Load, Taken};
use super::people::Setting;
use super::processes::Service;
use super::reconciling::{assert_counted_once, wait_settled, wait_taken_over};

/// Scenarios of one program take turns, so that each has the machine's cores.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A cluster under load.
pub struct Scenario {
    pub load: Load,
    pub ingest: Vec<Service>,
    pub aggregators: Vec<Service>,
    // Behind its services: their logs lie in its folder.
    pub cluster: Cluster,
    pub random: ChaCha8Rng,
    alone: MutexGuard<'static, ()>,
    started: Instant,
}

impl Scenario {
    /// One broker, so many ingest nodes and aggregators, and the load on all nodes.
    pub async fn start(ingest: usize, aggregators: usize) -> Self {
        Self::with_brokers(1, ingest, aggregators).await
    }

    /// The same over one broker or three.
    pub async fn with_brokers(brokers: u32, ingest: usize, aggregators: usize) -> Self {
        Self::prepared(brokers, ingest, aggregators, |_| {}).await
    }

    /// The same with services that are prepared before their first start: nodes, then aggregators.
    pub async fn prepared(
        brokers: u32,
        ingest: usize,
        aggregators: usize,
        prepare: impl FnMut(&mut Service),
    ) -> Self {
        let alone = ALONE.lock().await;
        let started = Instant::now();
        let mut random = seeded();
        let cluster = Cluster::with_brokers(brokers).await;
        let mut nodes: Vec<Service> = (1..=ingest)
            .map(|number| cluster.stopped_ingest(&format!("ingest-{number}")))
            .collect();
        let mut writers: Vec<Service> = (1..=aggregators)
            .map(|number| cluster.stopped_aggregator(&format!("aggregator-{number}")))
            .collect();
        nodes.iter_mut().chain(&mut writers).for_each(prepare);
        for service in nodes.iter_mut().chain(&mut writers) {
            service.spawn(&cluster);
        }
        for service in nodes.iter_mut().chain(&mut writers) {
            service.wait_ready().await;
        }
        let mut feed = Client::new(nodes[0].endpoint(), cluster.secret("synthetic-feed"));
        let setting = Setting::set_up(&cluster, &mut feed, random.random()).await;
        for node in &nodes {
            wait_for_people(node, &setting).await;
        }
        let known = started.elapsed();
        wait_taken_over(&cluster).await;
        println!(
            "people known after {:.1} s, partitions taken over after {:.1} s",
            known.as_secs_f64(),
            started.elapsed().as_secs_f64()
        );
        let endpoints = nodes.iter().map(Service::endpoint).collect();
        let load = Load::start(&cluster, setting, endpoints, random.random());
        Self {
            alone,
            cluster,
            ingest: nodes,
            aggregators: writers,
            load,
            random,
            started,
        }
    }

    /// Ends the load, waits until everything is settled, and compares: acknowledged = stored = counted, once.
    pub async fn conclude(self) -> Taken {
        self.conclude_with(async |_| {}).await
    }

    /// The same, and then a look at the cluster.
    pub async fn conclude_with(self, look: impl AsyncFnOnce(&Cluster)) -> Taken {
        let started = self.started;
        let (cluster, taken) = self.settle(None).await;
        assert_counted_once(&cluster, &taken.counted).await;
        look(&cluster).await;
        println!("{:.1} s in all", started.elapsed().as_secs_f64());
        taken
    }

    /// Ends the load and waits until everything is settled, of one partition only what stands before an offset.
    pub async fn settle(self, stands: Option<(Partition, Offset)>) -> (Settled, Taken) {
        let taken = self.load.finish().await;
        let finished = Instant::now();
        wait_settled(&self.cluster, &self.ingest, &self.aggregators, stands).await;
        println!(
            "settled {:.1} s after the load",
            finished.elapsed().as_secs_f64()
        );
        let settled = Settled {
            _services: self.ingest.into_iter().chain(self.aggregators).collect(),
            cluster: self.cluster,
            _alone: self.alone,
        };
        (settled, taken)
    }
}

/// A cluster that has counted what it was sent; its services still run.
pub struct Settled {
    _services: Vec<Service>,
    cluster: Cluster,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Settled {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Waits until a node knows everyone and every fact, so that no code is unknown to it.
async fn wait_for_people(node: &Service, setting: &Setting) {
    super::wait_until("every node knows the people", async || {
        let ready = node.ready_report().await;
        ready["persons"] == setting.people() && ready["persons_with_facts"] == setting.red()
    })
    .await;
}

/// A time in the short form or the long one.
pub fn short_or_long(short_seconds: u64, long_seconds: u64) -> Duration {
    Duration::from_secs(if is_long() {
        long_seconds
    } else {
        short_seconds
    })
}
