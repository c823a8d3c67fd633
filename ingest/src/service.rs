//! The ingest service: what it holds, how it starts, how it drains.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use event_log::{LogError, Partition, Record, SharedLog, Spool, SpoolOptions, Taken};
use registry::{RegistryError, RegistryNode};
use scan_model::codec::ScanFormat;
use scan_model::{CodeKeys, PersonKey, Ruleset, Timestamp};
use status_cache::feed::{Coverage, Feed};
use status_cache::{FeedError, StatusCache, snapshot};

use crate::admission::{Appends, Imports};
use crate::authority::{ApiKey, Authority, AuthorityError};
use crate::idempotency::Answers;
use crate::instruments::Instruments;
use crate::room::Room;

/// How ingest runs.
#[derive(Clone)]
pub struct IngestConfig {
    /// The key under which documents become ids.
    pub person_key: PersonKey,
    /// The keys that seal and open codes at the start.
    pub code_keys: CodeKeys,
    /// Callers.
    pub api_keys: Vec<ApiKey>,
    /// The ruleset in force.
    pub ruleset: Ruleset,
    /// Persons that the status table has room for.
    pub capacity: usize,
    /// Persons whose room the table takes once it grows; it grows to more.
    pub expected: usize,
    /// Whether a quick check-in under a red code is refused (C3).
    pub refuse_red_check_ins: bool,
    /// The wire version in which scans are written. A newer one than the default only once every reader knows it (INV-10).
    pub scan_version: u8,
    /// How long ago a scan may have happened, in days.
    pub lateness_days: u32,
    /// Knowledge older than this makes green answers *stale*, in milliseconds; 0 keeps serving, however old.
    pub stale_after_ms: i64,
    /// How long a rotating code lives, in seconds; at most 60 (P4).
    pub rotating_seconds: u32,
    /// How scans are written; readers take every format.
    pub scans_format: ScanFormat,
    /// Scans on their way into the log at once.
    pub appends: usize,
    /// Scans remembered for retries.
    pub remembered_scans: u64,
    /// Where the status snapshot lies; none keeps no snapshot.
    pub snapshot: Option<PathBuf>,
    /// A snapshot older than this is rebuilt: half of the compacted topics' delete retention.
    pub snapshot_max_age: Duration,
    /// What `/readyz` says of where an acknowledged record is (INV-7).
    pub durability: String,
    /// Where scans go while the log is away; none answers 503 then.
    pub spool: Option<SpoolOptions>,
    /// Whether a node with a snapshot starts without having heard from the log.
    pub may_start_without_log: bool,
}

/// Why ingest does not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The status feed refused.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The system refuses memory for so many persons: lower persons.capacity.
    #[error("no memory for persons.capacity persons: {0}")]
    Memory(std::io::Error),
    /// The registry refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A key is not one.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// A node of the front line.
pub struct Ingest {
    /// The log.
    pub log: SharedLog,
    /// Everyone's status.
    pub cache: Arc<StatusCache>,
    /// What keeps the cache at the log's end.
    pub feed: Feed,
    /// Venues and grids.
    pub registry: Arc<RegistryNode>,
    /// Callers and their rights.
    pub authority: Authority,
    /// Code keys; swapped whole at a rotation.
    pub code_keys: ArcSwap<CodeKeys>,
    /// The ruleset in force; swapped whole at a change.
    pub ruleset: ArcSwap<Ruleset>,
    /// Where scans go while the log is away.
    pub spool: Option<Spool>,
    /// Scans answered before.
    pub answers: Answers,
    /// Bound of scans on their way.
    pub appends: Appends,
    /// Turns of imports.
    pub imports: Imports,
    /// Places in the status table.
    pub room: Arc<Room>,
    /// Metric handles.
    pub instruments: Instruments,
    /// The configuration.
    pub config: IngestConfig,
    /// Partitions of the person-keyed topics.
    pub partitions: u32,
    durability: ArcSwap<String>,
    draining: AtomicBool,
}

impl Ingest {
    /// Restores the snapshot where there is one, reads the log to its end, and is then ready.
    pub async fn start(
        log: SharedLog,
        registry: Arc<RegistryNode>,
        config: IngestConfig,
    ) -> Result<Arc<Self>, IngestError> {
        let spool = start_spool(&log, config.spool.clone()).await?;
        let (cache, coverage) = match restore(&config)? {
            (cache, coverage) if is_of_another_log(&cache, &log, &config).await => {
                drop((cache, coverage));
                (empty(&config)?, Coverage::default())
            }
            restored => restored,
        };
        let feed = Feed::start(Arc::clone(&log), Arc::clone(&cache), &coverage)?;
        let knows_something = coverage != Coverage::default();
        if !(config.may_start_without_log && knows_something) {
            catch_up(&feed, &log).await?;
        }
        let person_key = config.person_key.clone();
        let authority = Authority::new(&config.api_keys, |name| {
            person_key.hash_text("operator", name)
        })?;
        let partitions = log.partitions(crate::topics::SCANS)?;
        let node = Arc::new(Self {
            log,
            cache,
            feed,
            registry,
            authority,
            durability: ArcSwap::from_pointee(config.durability.clone()),
            code_keys: ArcSwap::from_pointee(config.code_keys.clone()),
            ruleset: ArcSwap::from_pointee(config.ruleset.clone()),
            spool,
            answers: Answers::new(config.remembered_scans),
            appends: Appends::new(config.appends),
            imports: Imports::default(),
            room: Arc::new(Room::new(config.capacity)),
            instruments: Instruments::default(),
            config,
            partitions,
            draining: AtomicBool::new(false),
        });
        tokio::spawn(measure(Arc::downgrade(&node)));
        Ok(node)
    }

    /// Makes records of one partition durable: in the log, or, where there is a spool and the log is away, on this machine's disk.
    pub async fn take(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Taken, LogError> {
        match &self.spool {
            Some(spool) => spool.append(topic, partition, records).await,
            None => self
                .log
                .append(topic, partition, records)
                .await
                .map(Taken::Appended),
        }
    }

    /// The log is fit for records: lets scans flow to it, those that wait in the spool among them.
    pub fn open_spool(&self) {
        if let Some(spool) = &self.spool {
            spool.open_gate();
        }
    }

    /// What `/readyz` says of where an acknowledged record is.
    pub fn durability(&self) -> Arc<String> {
        self.durability.load_full()
    }

    /// Changes what `/readyz` says of where an acknowledged record is.
    pub fn set_durability(&self, durability: String) {
        self.durability.store(Arc::new(durability));
    }

    /// Puts other code keys in force, between one lookup and the next.
    pub fn set_code_keys(&self, keys: CodeKeys) {
        self.code_keys.store(Arc::new(keys));
    }

    /// From now on `/readyz` says no, so that no new traffic is sent here.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Writes a snapshot of the status cache, where one is configured; answers its bytes. One that turned out to be of another log is
    /// removed instead.
    pub fn write_snapshot(&self) -> Result<Option<u64>, snapshot::SnapshotError> {
        let Some(file) = &self.config.snapshot else {
            return Ok(None);
        };
        if self.feed.is_of_another_log() {
            // The next start is to rebuild from the log, not to begin with this again.
            return match std::fs::remove_file(file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    let file = file.clone();
                    Err(snapshot::SnapshotError::Io { file, source })
                }
                _ => Ok(None),
            };
        }
        let known_until = self.feed.known_until();
        let fingerprint = self.config.person_key.fingerprint();
        let pace = if self.is_draining() {
            snapshot::Pace::Fast
        } else {
            snapshot::Pace::Considerate
        };
        snapshot::write(&self.cache, known_until, fingerprint, file, pace).map(Some)
    }

    /// How old this node's knowledge is, in milliseconds (S6).
    pub fn knowledge_age_ms(&self, now: Timestamp) -> i64 {
        self.feed.knowledge_age_ms(now)
    }
}

/// Keeps the metrics of how old this node's knowledge is and how many people it holds, while the node is there.
async fn measure(node: Weak<Ingest>) {
    let age = metrics::gauge!("ingest_knowledge_age_seconds");
    let persons = metrics::gauge!("status_persons");
    let capacity = metrics::gauge!("status_persons_capacity");
    while let Some(node) = node.upgrade() {
        persons.set(node.cache.table().len() as f64);
        capacity.set(node.config.capacity as f64);
        age.set(node.knowledge_age_ms(Timestamp::now()) as f64 / 1000.0);
        drop(node);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Opens the spool, off the runtime's threads: segments that no summary describes are read and verified.
async fn start_spool(
    log: &SharedLog,
    options: Option<SpoolOptions>,
) -> Result<Option<Spool>, LogError> {
    let Some(options) = options else {
        return Ok(None);
    };
    let log = Arc::clone(log);
    let runtime = tokio::runtime::Handle::current();
    let started = tokio::task::spawn_blocking(move || {
        let _runtime = runtime.enter();
        Spool::start(log, options)
    });
    let (spool, report) = started
        .await
        .unwrap_or_else(|error| Err(LogError::Closed(error.to_string())))?;
    for cut in &report.cuts {
        let (file, bytes) = (cut.file.display(), cut.bytes);
        tracing::warn!(%file, bytes, "a torn tail of the spool was cut; none of it was acknowledged");
    }
    Ok(Some(spool))
}

/// Waits until everything that the log holds now has been applied, however long the log is away.
async fn catch_up(feed: &Feed, log: &SharedLog) -> Result<(), FeedError> {
    loop {
        match feed.wait_caught_up(log).await {
            Err(FeedError::Log(error)) if error.is_retryable() => {
                tracing::warn!(%error, "the log is away; waiting for everyone's status");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            outcome => break outcome?,
        }
    }
    wait_known_until(feed, Timestamp::now()).await;
    Ok(())
}

/// Waits until every partition has stated that it knows all up to an instant. A node that answered before would call its
/// fresh knowledge as old as the last record, or as the epoch where there is none.
async fn wait_known_until(feed: &Feed, instant: Timestamp) {
    while feed.failure().is_none() {
        let now = Timestamp::now();
        if feed.knowledge_age_ms(now) <= now.0 - instant.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the restored snapshot covers what the log does not hold. Where the log is away, the feed tells once it is back.
async fn is_of_another_log(cache: &StatusCache, log: &SharedLog, config: &IngestConfig) -> bool {
    let Some(file) = &config.snapshot else {
        return false;
    };
    if config.may_start_without_log {
        return false;
    }
    match snapshot::check_against_log(cache, log, file).await {
        Ok(Err(refused)) => {
            say_refused(&refused);
            true
        }
        Ok(Ok(())) => false,
        Err(error) => {
            tracing::warn!(%error, "the log does not say whether the status snapshot is of it");
            false
        }
    }
}

fn say_refused(error: &snapshot::SnapshotError) {
    tracing::warn!(%error, "the status snapshot is refused; the status is rebuilt from the log");
}

fn empty(config: &IngestConfig) -> Result<Arc<StatusCache>, IngestError> {
    StatusCache::new(config.capacity)
        .map(|cache| Arc::new(cache.expecting(config.expected)))
        .map_err(IngestError::Memory)
}

/// The cache as the snapshot has it, or an empty one to be filled from the log.
fn restore(config: &IngestConfig) -> Result<(Arc<StatusCache>, Coverage), IngestError> {
    let Some(file) = config.snapshot.as_deref().filter(|file| file.exists()) else {
        return Ok((empty(config)?, Coverage::default()));
    };
    let cache = empty(config)?;
    let fingerprint = config.person_key.fingerprint();
    match snapshot::read(&cache, fingerprint, config.snapshot_max_age, file) {
        Ok(coverage) => Ok((cache, coverage)),
        Err(error) => {
            say_refused(&error);
            drop(cache);
            Ok((empty(config)?, Coverage::default()))
        }
    }
}
