//! The ingest service: what it holds, how it starts, how it drains.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use event_log::{LogError, SharedLog};
use registry::{RegistryError, RegistryNode};
use scan_model::code::CodeKeysError;
use scan_model::{CodeKeys, PersonKey, Ruleset, Timestamp};
use status_cache::feed::{Feed, Positions};
use status_cache::{FeedError, StatusCache, snapshot};

use crate::admission::Appends;
use crate::authority::{ApiKey, Authority, AuthorityError};
use crate::idempotency::Answers;
use crate::instruments::Instruments;

/// How ingest runs.
#[derive(Clone)]
pub struct IngestConfig {
    /// The key under which documents become ids.
    pub person_key: PersonKey,
    /// The keys that seal codes, by id.
    pub code_keys: BTreeMap<u8, [u8; 32]>,
    /// Callers.
    pub api_keys: Vec<ApiKey>,
    /// The ruleset in force.
    pub ruleset: Ruleset,
    /// Persons that the status table has room for.
    pub capacity: usize,
    /// Whether a quick check-in under a red code is refused (C3).
    pub refuse_red_check_ins: bool,
    /// How long ago a scan may have happened, in days.
    pub lateness_days: u32,
    /// Knowledge older than this makes green answers *stale*, in milliseconds.
    pub stale_after_ms: i64,
    /// How long a rotating code lives, in seconds; at most 60 (P4).
    pub rotating_seconds: u32,
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
    /// The registry refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A key is not one.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Code keys are missing.
    #[error(transparent)]
    CodeKeys(#[from] CodeKeysError),
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
    /// Scans answered before.
    pub answers: Answers,
    /// Bound of scans on their way.
    pub appends: Appends,
    /// Metric handles.
    pub instruments: Instruments,
    /// The configuration.
    pub config: IngestConfig,
    /// Partitions of the person-keyed topics.
    pub partitions: u32,
    draining: AtomicBool,
}

impl Ingest {
    /// Restores the snapshot where there is one, reads the log to its end, and is then ready.
    pub async fn start(
        log: SharedLog,
        registry: Arc<RegistryNode>,
        config: IngestConfig,
    ) -> Result<Arc<Self>, IngestError> {
        let (cache, positions) = restore(&config);
        let feed = Feed::start(Arc::clone(&log), Arc::clone(&cache), &positions).await?;
        feed.wait_caught_up(&log).await?;
        wait_known_until(&feed, Timestamp::now()).await;
        let person_key = config.person_key.clone();
        let authority = Authority::new(&config.api_keys, |name| {
            person_key.hash_text("operator", name)
        })?;
        let partitions = log.partitions(crate::topics::SCANS)?;
        Ok(Arc::new(Self {
            log,
            cache,
            feed,
            registry,
            authority,
            code_keys: ArcSwap::from_pointee(CodeKeys::new(&config.code_keys)?),
            ruleset: ArcSwap::from_pointee(config.ruleset.clone()),
            answers: Answers::new(config.remembered_scans),
            appends: Appends::new(config.appends),
            instruments: Instruments::default(),
            config,
            partitions,
            draining: AtomicBool::new(false),
        }))
    }

    /// From now on `/readyz` says no, so that no new traffic is sent here.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Writes a snapshot of the status cache, where one is configured; answers its bytes.
    pub fn write_snapshot(&self) -> Result<Option<u64>, snapshot::SnapshotError> {
        let Some(file) = &self.config.snapshot else {
            return Ok(None);
        };
        let positions = self.feed.positions();
        let fingerprint = self.config.person_key.fingerprint();
        snapshot::write(&self.cache, &positions, fingerprint, file).map(Some)
    }

    /// How old this node's knowledge is, in milliseconds (S6).
    pub fn knowledge_age_ms(&self, now: Timestamp) -> i64 {
        self.feed.knowledge_age_ms(now)
    }
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

/// The cache as the snapshot has it, or an empty one to be filled from the log.
fn restore(config: &IngestConfig) -> (Arc<StatusCache>, Positions) {
    let empty = || Arc::new(StatusCache::new(config.capacity));
    let Some(file) = config.snapshot.as_deref().filter(|file| file.exists()) else {
        return (empty(), Positions::new());
    };
    let cache = empty();
    let fingerprint = config.person_key.fingerprint();
    match snapshot::read(&cache, fingerprint, config.snapshot_max_age, file) {
        Ok(positions) => (cache, positions),
        Err(error) => {
            tracing::warn!(%error, "the status snapshot is refused; the status is rebuilt from the log");
            (empty(), Positions::new())
        }
    }
}
