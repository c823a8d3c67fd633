//! The local deployment: everything in one process over the local log, the engine as a child process.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aggregator::AggregatorConfig;
use anyhow::{Context, Result};
use event_log::local::LocalOptions as LogOptions;
use event_log::{LocalLog, SharedLog};
use http_service::{RenderMetrics, Router};
use ingest::topics::{self, Retention};
use ingest::{Front, Ingest, IngestConfig};
use query::{CompleteUpTo, IngestClient, Query};
use registry::RegistryNode;
use scan_model::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use warehouse::engine::{EngineProcess, EngineSettings};
use warehouse::{Store, StoreConfig};

use crate::aggregating::aggregate;
use crate::config::{LocalConfig, LocalOptions};
use crate::keys::{self, Keys};
use crate::snapshots::{snapshot_max_age, write_snapshots};
use crate::stores::password_of;
use crate::{code_keys, engine, stopping};

/// A running local deployment.
pub struct Deployment {
    pub ingest: Arc<Ingest>,
    pub config: LocalConfig,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<Result<()>>>,
    aggregator: JoinHandle<()>,
    engine: Option<EngineProcess>,
}

/// Runs `tongxing up`.
pub async fn up(config: LocalConfig, metrics: RenderMetrics) -> Result<()> {
    let deployment = Deployment::start(config, metrics).await?;
    let LocalConfig {
        ingest_listen,
        query_listen,
        clickhouse_listen,
        data,
        ..
    } = &deployment.config;
    println!("tongxing is up");
    println!(
        "  ingest      http://{ingest_listen}   (secrets in {}/keys/api-secrets)",
        data.display()
    );
    println!("  console     http://{query_listen}");
    println!("  clickhouse  http://{clickhouse_listen}");
    println!("Ctrl-C drains and stops.");
    stopping::requested().await;
    println!("draining…");
    deployment.stop().await
}

impl Deployment {
    /// Starts everything; ingest answers before the store does, because lookups never wait for it.
    pub async fn start(config: LocalConfig, metrics: RenderMetrics) -> Result<Self> {
        std::fs::create_dir_all(&config.data)
            .with_context(|| format!("data: create {}", config.data.display()))?;
        let ingest_listener = http_service::bind(config.ingest_listen)
            .await
            .context("ingest_listen")?;
        let query_listener = http_service::bind(config.query_listen)
            .await
            .context("query_listen")?;
        let keys_folder = config.data.join("keys");
        keys::create_missing(&keys_folder)?;
        let keys = keys::read(&keys_folder)?;
        let engine = start_engine(&config).await?;
        let log = open_log(&config).await?;
        let registry = Arc::new(RegistryNode::start(Arc::clone(&log)).await?);
        let fingerprint = keys.person.fingerprint();
        let ingest =
            Ingest::start(Arc::clone(&log), registry, ingest_config(&config, keys)?).await?;
        let store = Store::new(&store_config(&config)?);
        let (stop, stopped) = watch::channel(false);
        let mut servers = Vec::new();
        let router = ingest::routes::router(Arc::clone(&ingest), Arc::clone(&metrics));
        let front = Arc::new(Front(Arc::clone(&ingest)));
        servers.push(serve_front(router, front, ingest_listener, stopped.clone()));
        let query = Arc::new(Query {
            store: store.clone(),
            complete_up_to: complete_up_to(&log),
            ingest: Some(ingest_client(config.ingest_listen)?),
        });
        servers.push(serve(
            query::router(query, metrics),
            query_listener,
            stopped.clone(),
        ));
        let linger = Duration::from_millis(config.linger_ms);
        let aggregator_config = AggregatorConfig {
            linger,
            repair: config.repair,
            ..AggregatorConfig::default()
        };
        let aggregator = tokio::spawn(aggregate(
            Arc::clone(&log),
            store,
            aggregator_config,
            (fingerprint, config.retention),
            stopped.clone(),
        ));
        tokio::spawn(write_snapshots(
            Arc::clone(&ingest),
            config.snapshot_seconds,
            stopped.clone(),
        ));
        tokio::spawn(code_keys::follow(keys_folder, Arc::clone(&ingest), stopped));
        Ok(Self {
            ingest,
            config,
            stop,
            servers,
            aggregator,
            engine,
        })
    }

    /// Drains and stops: no new requests, then what is under way, then a snapshot, then the engine.
    pub async fn stop(self) -> Result<()> {
        self.ingest.drain();
        self.stop.send_replace(true);
        for server in self.servers {
            server.await??;
        }
        let _ = self.aggregator.await;
        let ingest = Arc::clone(&self.ingest);
        tokio::task::spawn_blocking(move || ingest.write_snapshot()).await??;
        if let Some(engine) = self.engine {
            engine.stop().await;
        }
        Ok(())
    }
}

/// A way to ingest, which listens here, perhaps on every address.
fn ingest_client(listen: SocketAddr) -> Result<IngestClient> {
    let mut reached = listen;
    if reached.ip().is_unspecified() {
        reached.set_ip(match listen {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    IngestClient::new(&format!("http://{reached}")).context("ingest_listen")
}

fn serve_front(
    router: Router,
    front: Arc<Front>,
    listener: TcpListener,
    stopped: watch::Receiver<bool>,
) -> JoinHandle<Result<()>> {
    let serving = http_service::serve_front_line(router, front, listener, until(stopped));
    tokio::spawn(async move { Ok(serving.await?) })
}

fn serve(
    router: Router,
    listener: TcpListener,
    stopped: watch::Receiver<bool>,
) -> JoinHandle<Result<()>> {
    let serving = http_service::serve(router, listener, until(stopped));
    tokio::spawn(async move { Ok(serving.await?) })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await.map(|_| ());
}

/// How long the engine may take until it answers.
const ENGINE_STARTS: Duration = Duration::from_secs(60);
/// How long the engine of a run that was killed may take to end: it notices that its parent is gone, and closes its data.
const FORMER_ENGINE_ENDS: Duration = Duration::from_secs(5);

/// Starts the engine of a deployment that is stopped, on a port of its own, and waits until it answers.
pub async fn engine_of_stopped(data: &Path) -> Result<(EngineProcess, Store)> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    let clickhouse_listen = Some(free.local_addr().context("find a free port")?);
    drop(free);
    let config = LocalConfig::resolve(LocalOptions {
        data: Some(data.to_owned()),
        clickhouse_listen,
        ..LocalOptions::default()
    })?;
    let engine = start_engine(&config).await?;
    let engine = engine.context("the embedded engine is not configured")?;
    let store = Store::new(&store_config(&config)?);
    let deadline = tokio::time::Instant::now() + ENGINE_STARTS;
    while let Err(error) = store.execute("SELECT 1").await {
        if !error.is_retryable() || tokio::time::Instant::now() >= deadline {
            engine.stop().await;
            return Err(error).context("the embedded engine does not answer");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((engine, store))
}

/// Starts the embedded engine, unless a server is configured.
pub async fn start_engine(config: &LocalConfig) -> Result<Option<EngineProcess>> {
    if config.clickhouse_url.is_some() {
        return Ok(None);
    }
    // The child says so too, but only in its log, and is started again and again.
    let deadline = tokio::time::Instant::now() + FORMER_ENGINE_ENDS;
    while let Err(error) = std::net::TcpListener::bind(config.clickhouse_listen) {
        let may_end = error.kind() == std::io::ErrorKind::AddrInUse;
        if !may_end || tokio::time::Instant::now() >= deadline {
            let listen = config.clickhouse_listen;
            return Err(error)
                .with_context(|| format!("clickhouse_listen: cannot listen on {listen}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let data = std::path::absolute(config.data.join("clickhouse"))?;
    let settings = EngineSettings {
        program: std::env::current_exe().context("find this program")?,
        library: engine::library(config.engine_library.as_deref())?,
        data,
        listen: config.clickhouse_listen,
        memory_bytes: config.clickhouse_memory_bytes,
    };
    Ok(Some(EngineProcess::start(settings)))
}

/// Opens the log of the data folder.
pub async fn open_log(config: &LocalConfig) -> Result<SharedLog> {
    let folder = config.data.join("log");
    let topics = topics::all(config.partitions, Retention::default());
    let opened = tokio::task::spawn_blocking(move || {
        LocalLog::open(&folder, topics, &LogOptions::default())
    });
    let (log, report) = opened.await??;
    for cut in &report.cuts {
        eprintln!(
            "cut a torn tail of {} bytes from {} at offset {}; none of it was acknowledged",
            cut.bytes,
            cut.file.display(),
            cut.offset
        );
    }
    Ok(Arc::new(log))
}

fn ingest_config(config: &LocalConfig, keys: Keys) -> Result<IngestConfig> {
    Ok(IngestConfig {
        person_key: keys.person,
        code_keys: keys.codes.in_force(Timestamp::now())?,
        api_keys: keys.api,
        ruleset: config.ruleset.clone(),
        capacity: config.persons_capacity,
        expected: config.persons_expected,
        refuse_red_check_ins: config.refuse_red_check_ins,
        scan_version: <scan_model::Scan as scan_model::codec::WireRecord>::WRITTEN,
        lateness_days: config.lateness_days,
        stale_after_ms: config.stale_after_ms,
        rotating_seconds: config.rotating_seconds,
        scans_format: config.scans_format,
        appends: 50_000,
        remembered_scans: 200_000,
        snapshot: Some(config.data.join("status.snapshot")),
        snapshot_max_age: snapshot_max_age(),
        // One copy on this machine's disk, synced before each answer (INV-7).
        durability: "local log, fsynced".into(),
        // The log is on the same disk.
        spool: None,
        may_start_without_log: false,
    })
}

/// Where the local deployment's store is.
pub fn store_config(config: &LocalConfig) -> Result<StoreConfig> {
    let embedded = || format!("http://{}", config.clickhouse_listen);
    let password = password_of(config.clickhouse_password_file.as_deref())?;
    Ok(StoreConfig {
        url: config.clickhouse_url.clone().unwrap_or_else(embedded),
        database: config.clickhouse_database.clone(),
        user: config.clickhouse_user.clone(),
        password,
    })
}

fn complete_up_to(log: &SharedLog) -> CompleteUpTo {
    let log = Arc::clone(log);
    Arc::new(move || {
        let log = Arc::clone(&log);
        Box::pin(async move { aggregator::completeness::complete_up_to(&log).await.ok() })
    })
}
