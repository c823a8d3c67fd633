//! The cluster deployment: ingest and aggregator as processes of their own, any number of each, over Kafka and ClickHouse.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aggregator::AggregatorConfig;
use anyhow::{Context, Result, bail};
use event_log::kafka::KafkaOptions;
use event_log::kafka::topics::{Finding, TopicAdmin};
use event_log::local::LocalOptions as LocalLogOptions;
use event_log::{Cleanup, KafkaLog, LocalLog, LogError, SharedLog, SpoolOptions, TopicConfig};
use http_service::{IntoResponse, Problem, RenderMetrics, Router, metrics_response};
use ingest::{Front, Ingest, IngestConfig};
use registry::RegistryNode;
use scan_model::codec::{ScanFormat, WireRecord};
use scan_model::{Ruleset, Scan, Timestamp};
use tokio::sync::watch;
use warehouse::retention::Retention;

use crate::aggregating::aggregate;
use crate::cluster_options::{AggregatorOptions, IngestOptions, LogOptions, TopicsOptions};
use crate::config::{check_listen, check_range};
use crate::snapshots::{check_snapshot_seconds, snapshot_max_age, write_snapshots};
use crate::stores::store_of;
use crate::{code_keys, keys, stopping};

/// How long a service waits between two tries to reach Kafka at its start.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a node that starts waits to hear from Kafka before it starts without.
const FIRST_LOOK: Duration = Duration::from_secs(4);
/// How long a node waits for Kafka where it has just heard from it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before topics that were not fit are compared again: a broker that has only just started may lack some.
const UNFIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a node that stops waits for its spool to be passed on; the rest is passed on after its next start.
const SPOOL_DRAIN: Duration = Duration::from_secs(5);
/// How often an aggregator says up to when its partitions are counted.
const COMPLETENESS_INTERVAL: Duration = Duration::from_millis(500);

/// Runs `tongxing ingest` until a signal.
pub async fn ingest(options: IngestOptions, metrics: RenderMetrics) -> Result<()> {
    check_listen("listen", options.listen, options.allow_plaintext)?;
    check_range("lateness_days", u64::from(options.lateness_days), 1, 45)?;
    check_range(
        "persons_capacity",
        options.persons_capacity as u64,
        1,
        2_000_000_000,
    )?;
    check_range(
        "persons_expected",
        options.persons_expected as u64,
        0,
        options.persons_capacity as u64,
    )?;
    let stale_after = u64::try_from(options.stale_after_ms).unwrap_or(u64::MAX);
    check_range("stale_after_ms", stale_after, 0, 86_400_000)?;
    check_range(
        "rotating_seconds",
        u64::from(options.rotating_seconds),
        1,
        60,
    )?;
    check_snapshot_seconds(options.snapshot_seconds)?;
    check_range(
        "scan_version",
        u64::from(options.scan_version),
        u64::from(Scan::WRITTEN),
        u64::from(Scan::VERSION),
    )?;
    if options.scan_version != Scan::WRITTEN && options.scans_format == ScanFormat::Json {
        bail!("scan_version: JSON has versions of its own");
    }
    let ruleset = Ruleset::by_name(&options.ruleset).context("ruleset")?;
    let keys = keys::read(&options.keys)?;
    let listener = http_service::bind(options.listen).await.context("listen")?;
    std::fs::create_dir_all(&options.data)
        .with_context(|| format!("data: create {}", options.data.display()))?;
    check_range("spool_bytes", options.spool_bytes, 1 << 20, 1 << 50)?;
    check_range("spool_after_ms", options.spool_after_ms, 50, 10_000)?;
    let cluster = KafkaCluster::new(&options.log, "tongxing-ingest")?;
    let log: SharedLog = Arc::new(cluster.connect()?);
    // A node that knows anything starts without Kafka; its scans wait in the spool until the topics have been compared.
    let first_look = tokio::time::timeout(FIRST_LOOK, cluster.compare()).await;
    let durability = match first_look {
        Ok(Err(error)) if !is_away(&error) => return Err(error),
        Ok(Ok(durability)) => Some(durability),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("Kafka is away; starting with what this node knows");
            None
        }
    };
    let is_fit = durability.is_some();
    let copy = open_registry_copy(&options.data.join("registry")).await?;
    let patience = if is_fit { PATIENCE } else { Duration::ZERO };
    let registry = RegistryNode::start_from_copy(Arc::clone(&log), copy, patience).await?;
    let config = IngestConfig {
        person_key: keys.person,
        code_keys: keys.codes.in_force(Timestamp::now())?,
        api_keys: keys.api,
        ruleset,
        capacity: options.persons_capacity,
        expected: options.persons_expected,
        refuse_red_check_ins: options.refuse_red_check_ins,
        scan_version: options.scan_version,
        lateness_days: options.lateness_days,
        stale_after_ms: options.stale_after_ms,
        rotating_seconds: options.rotating_seconds,
        scans_format: options.scans_format,
        appends: 50_000,
        remembered_scans: 200_000,
        snapshot: Some(options.data.join("status.snapshot")),
        snapshot_max_age: snapshot_max_age(),
        durability: durability.unwrap_or_else(|| "not known yet: Kafka is away".into()),
        spool: Some(SpoolOptions {
            folder: options.data.join("spool"),
            topics: vec![
                ingest::topics::SCANS.to_owned(),
                status_cache::feed::DECLARATIONS.to_owned(),
            ],
            bytes: options.spool_bytes,
            patience: Duration::from_millis(options.spool_after_ms),
        }),
        may_start_without_log: !is_fit,
    };
    let ingest = Ingest::start(log, Arc::new(registry), config).await?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(write_snapshots(
        Arc::clone(&ingest),
        options.snapshot_seconds,
        stopped.clone(),
    ));
    tokio::spawn(code_keys::follow(
        options.keys.clone(),
        Arc::clone(&ingest),
        stopped.clone(),
    ));
    println!("ingest  http://{}", options.listen);
    let router = ingest::routes::router(Arc::clone(&ingest), metrics);
    let draining = Arc::clone(&ingest);
    let shutdown = async move {
        stopping::requested().await;
        draining.drain();
    };
    if is_fit {
        ingest.open_spool();
    } else {
        tokio::spawn(open_spool_when_fit(cluster, Arc::clone(&ingest)));
    }
    let front = Arc::new(Front(Arc::clone(&ingest)));
    http_service::serve_front_line(router, front, listener, shutdown).await?;
    stop.send_replace(true);
    if let Some(spool) = &ingest.spool
        && !spool.wait_empty(SPOOL_DRAIN).await
    {
        let waiting = spool.state().records;
        tracing::warn!(
            waiting,
            "spooled scans wait on this disk for the next start"
        );
    }
    tokio::task::spawn_blocking(move || ingest.write_snapshot()).await??;
    Ok(())
}

/// Compares the topics as soon as Kafka answers, and lets scans flow where they are fit to be used.
async fn open_spool_when_fit(cluster: KafkaCluster, ingest: Arc<Ingest>) {
    loop {
        match cluster.compare().await {
            Ok(durability) => {
                tracing::warn!(durability, "Kafka is back");
                ingest.set_durability(durability);
                return ingest.open_spool();
            }
            Err(error) if is_away(&error) => tokio::time::sleep(RETRY_INTERVAL).await,
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "scans stay in the spool");
                ingest.set_durability(format!("spool only: {error:#}"));
                tokio::time::sleep(UNFIT_INTERVAL).await;
            }
        }
    }
}

/// The log that holds this node's copy of the registry's topic.
async fn open_registry_copy(folder: &Path) -> Result<SharedLog> {
    let folder = folder.to_owned();
    let topic = TopicConfig::new(registry::TOPIC, 1, Cleanup::KEEP);
    let opened = tokio::task::spawn_blocking(move || {
        LocalLog::open(&folder, vec![topic], &LocalLogOptions::default())
    });
    let (log, _) = opened.await??;
    Ok(Arc::new(log))
}

/// Runs `tongxing aggregator` until a signal.
pub async fn aggregator(options: AggregatorOptions, metrics: RenderMetrics) -> Result<()> {
    check_listen("listen", options.listen, options.allow_plaintext)?;
    check_range("linger_ms", options.linger_ms, 10, 10_000)?;
    let fingerprint = keys::read(&options.keys)?.person.fingerprint();
    let listener = http_service::bind(options.listen).await.context("listen")?;
    let store = store_of(options.store)?;
    let kept = &options.retention;
    let retention = Retention::new(kept.raw_retention_days, kept.statistics_retention_days)?;
    let log = open_log(&options.log, "tongxing-aggregator").await?;
    let config = AggregatorConfig {
        // Marks of several aggregators stand side by side.
        writer: format!("aggregator-{}", uuid::Uuid::now_v7().simple()),
        linger: Duration::from_millis(options.linger_ms),
        publish_completeness: Some(COMPLETENESS_INTERVAL),
        ..AggregatorConfig::default()
    };
    let (stop, stopped) = watch::channel(false);
    let has_ended = Arc::new(AtomicBool::new(false));
    let aggregating = tokio::spawn({
        let has_ended = Arc::clone(&has_ended);
        async move {
            aggregate(log, store, config, (fingerprint, retention), stopped).await;
            has_ended.store(true, Ordering::Relaxed);
        }
    });
    println!("aggregator  http://{} (health and metrics)", options.listen);
    let shutdown = async move {
        stopping::requested().await;
        stop.send_replace(true);
    };
    http_service::serve(health(metrics, has_ended), listener, shutdown).await?;
    aggregating.await?;
    Ok(())
}

/// Liveness, readiness and metrics of the aggregator: it is ready until it ends for a reason that only a person can mend.
fn health(metrics: RenderMetrics, has_ended: Arc<AtomicBool>) -> Router {
    use http_service::routing::get;
    let ready = async move || {
        if has_ended.load(Ordering::Relaxed) {
            let problem = "the aggregator has stopped aggregating; its log says why";
            return Problem::unavailable(problem).into_response();
        }
        "ok\n".into_response()
    };
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || metrics_response(metrics.clone())))
}

/// Runs `tongxing topics`: creates what is missing, then compares. Exits with an error where something is not as declared.
pub async fn topics(options: TopicsOptions) -> Result<()> {
    let declared = options.log.topics()?;
    let admin = TopicAdmin::new(&options.log.kafka("tongxing-topics")?)?;
    let durability = options.log.durability();
    let deadline = tokio::time::Instant::now() + options.wait();
    if !options.compare {
        let created = loop {
            match admin.create_missing(&declared, durability).await {
                Err(error) if error.is_retryable() && tokio::time::Instant::now() < deadline => {
                    eprintln!("waiting for Kafka: {error}");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                outcome => break outcome?,
            }
        };
        for topic in created {
            println!("created {topic}");
        }
    }
    let findings = compare_settled(&admin, &declared, &options.log, deadline).await?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{} topics are as declared", declared.len());
        return Ok(());
    }
    bail!("{} settings differ from what is declared", findings.len())
}

/// Compares, giving topics that were only just created a moment to be known to every broker.
async fn compare_settled(
    admin: &TopicAdmin,
    declared: &[TopicConfig],
    options: &LogOptions,
    deadline: tokio::time::Instant,
) -> Result<Vec<Finding>> {
    loop {
        let findings = admin.compare(declared, options.durability()).await;
        let is_settling = match &findings {
            // A broker that does not know a topic yet lists it as missing, or without any setting.
            Ok(findings) => findings
                .iter()
                .any(|finding| finding.setting == "topic" || finding.found == "unset"),
            Err(error) => error.is_retryable(),
        };
        if !is_settling || tokio::time::Instant::now() >= deadline {
            return Ok(findings?);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A Kafka cluster and what its topics are to be.
struct KafkaCluster {
    options: LogOptions,
    declared: Vec<TopicConfig>,
    kafka: KafkaOptions,
    admin: TopicAdmin,
}

impl KafkaCluster {
    /// Connects to nothing yet; `client` is what brokers call this process.
    fn new(options: &LogOptions, client: &str) -> Result<Self> {
        let kafka = options.kafka(client)?;
        Ok(Self {
            options: options.clone(),
            declared: options.topics()?,
            admin: TopicAdmin::new(&kafka)?,
            kafka,
        })
    }

    fn connect(&self) -> Result<KafkaLog> {
        Ok(KafkaLog::connect(
            self.kafka.clone(),
            self.declared.clone(),
        )?)
    }

    /// Whether the topics are fit to be used; answers what `/readyz` says of durability.
    async fn compare(&self) -> Result<String> {
        let findings = self
            .admin
            .compare(&self.declared, self.options.durability())
            .await?;
        check_fit(&findings)?;
        for finding in &findings {
            tracing::warn!("{finding}");
        }
        Ok(describe(&self.options, &findings))
    }
}

/// Whether an error says that Kafka did not answer.
fn is_away(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<LogError>(),
        Some(LogError::Unavailable(_))
    )
}

/// A log on Kafka whose topics are fit to be used; waits for Kafka.
pub async fn open_log(options: &LogOptions, client: &str) -> Result<SharedLog> {
    let cluster = KafkaCluster::new(options, client)?;
    loop {
        match cluster.compare().await {
            Err(error) if is_away(&error) => {
                tracing::warn!(%error, "waiting for Kafka");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            outcome => {
                outcome?;
                return Ok(Arc::new(cluster.connect()?));
            }
        }
    }
}

/// Refuses topics whose records might be read wrongly.
pub fn check_fit(findings: &[Finding]) -> Result<()> {
    match findings.iter().find(|finding| finding.is_fatal) {
        Some(fatal) => {
            bail!("{fatal}; `tongxing topics` creates what is missing and shows the rest")
        }
        None => Ok(()),
    }
}

fn describe(options: &LogOptions, findings: &[Finding]) -> String {
    use event_log::kafka::topics::Durability;
    let Durability {
        replication,
        in_sync,
    } = options.durability();
    let mut text = format!("kafka, replication {replication}, min in sync {in_sync}");
    let is_full =
        replication >= Durability::FULL.replication && in_sync >= Durability::FULL.in_sync;
    if !is_full {
        text.push_str("; weaker than INV-7 asks for");
    }
    for finding in findings {
        text.push_str("; ");
        text.push_str(&finding.to_string());
    }
    text
}
