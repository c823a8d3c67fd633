//! Options of the cluster deployment: each service is a process of its own, over Kafka and ClickHouse servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use event_log::TopicConfig;
use event_log::kafka::topics::Durability;
use event_log::kafka::{KafkaOptions, Security};
use ingest::topics::{self, Retention};
use scan_model::Scan;
use scan_model::codec::{ScanFormat, WireRecord};

use crate::cli::{RetentionOptions, StoreOptions};
use crate::config::check_range;
use crate::keys;
use crate::snapshots::SNAPSHOT_SECONDS;

/// Where Kafka is, and what its topics are to be.
#[derive(Args, Clone)]
pub struct LogOptions {
    /// Kafka's brokers, host:port, several by commas.
    #[arg(
        long,
        env = "TONGXING_KAFKA_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    pub kafka_bootstrap: String,
    /// Speak TLS to Kafka.
    #[arg(long, env = "TONGXING_KAFKA_TLS")]
    pub kafka_tls: bool,
    /// The authority that signed the brokers' certificates (PEM); the system's authorities without it.
    #[arg(long, env = "TONGXING_KAFKA_CA_FILE")]
    pub kafka_ca_file: Option<PathBuf>,
    /// The Kafka user (SCRAM-SHA-512, over TLS only).
    #[arg(long, env = "TONGXING_KAFKA_USER")]
    pub kafka_user: Option<String>,
    /// A file with the Kafka password, readable by its owner only.
    #[arg(long, env = "TONGXING_KAFKA_PASSWORD_FILE")]
    pub kafka_password_file: Option<PathBuf>,
    /// Partitions of the person-keyed topics, 1 to 256; changes only by replay.
    #[arg(long, env = "TONGXING_PARTITIONS", default_value_t = 12)]
    pub partitions: u32,
    /// Brokers that hold each record. Less than 3 is reported as weaker than INV-7.
    #[arg(long, env = "TONGXING_KAFKA_REPLICATION", default_value_t = Durability::FULL.replication)]
    pub kafka_replication: i32,
    /// Brokers that must have a record before it is answered. Less than 2 is reported as weaker than INV-7.
    #[arg(long, env = "TONGXING_KAFKA_IN_SYNC", default_value_t = Durability::FULL.in_sync)]
    pub kafka_in_sync: i32,
    /// An aggregator that Kafka has not heard of for so many milliseconds loses its partitions to its peers, 1000 to 300000.
    /// The brokers bound it too: `group.min.session.timeout.ms` is 6000 unless they are told otherwise.
    #[arg(long, env = "TONGXING_KAFKA_SESSION_MS", default_value_t = 10_000)]
    pub kafka_session_ms: u64,
    /// How long scans, fact history and audit are kept, in days.
    #[arg(long, env = "TONGXING_RETENTION_DAYS", default_value_t = Retention::default().scans_days)]
    pub retention_days: u32,
}

impl LogOptions {
    /// The backend's options; `client` is what brokers call this process.
    pub fn kafka(&self, client: &str) -> Result<KafkaOptions> {
        let ca_file = self.kafka_ca_file.clone();
        if let Some(file) = &ca_file {
            std::fs::File::open(file)
                .with_context(|| format!("kafka_ca_file: read {}", file.display()))?;
        }
        let security = match (&self.kafka_user, &self.kafka_password_file) {
            (None, None) if self.kafka_tls => Security::Tls { ca_file },
            (None, None) if ca_file.is_some() => {
                bail!("kafka_ca_file: has no effect without kafka_tls")
            }
            (None, None) => Security::Plaintext,
            (Some(_), Some(_)) if !self.kafka_tls => {
                bail!("kafka_user: a password goes over TLS only; set kafka_tls")
            }
            (Some(user), Some(file)) => Security::TlsScram {
                ca_file,
                user: user.clone(),
                password: keys::read_secret(file).context("kafka_password_file")?,
            },
            _ => bail!("kafka_user and kafka_password_file belong together"),
        };
        check_range("kafka_session_ms", self.kafka_session_ms, 1_000, 300_000)?;
        Ok(KafkaOptions {
            security,
            session_timeout: Duration::from_millis(self.kafka_session_ms),
            client: client.to_owned(),
            ..KafkaOptions::new(&self.kafka_bootstrap)
        })
    }

    /// The topics, after their options were checked.
    pub fn topics(&self) -> Result<Vec<TopicConfig>> {
        check_range("partitions", u64::from(self.partitions), 1, 256)?;
        check_range("retention_days", u64::from(self.retention_days), 46, 3650)?;
        let replication = u64::try_from(self.kafka_replication).unwrap_or(0);
        check_range("kafka_replication", replication, 1, 16)?;
        let in_sync = u64::try_from(self.kafka_in_sync).unwrap_or(0);
        check_range("kafka_in_sync", in_sync, 1, replication)?;
        let retention = Retention {
            scans_days: self.retention_days,
            ..Retention::default()
        };
        Ok(topics::all(self.partitions, retention))
    }

    /// What each record's durability is to be.
    pub const fn durability(&self) -> Durability {
        Durability {
            replication: self.kafka_replication,
            in_sync: self.kafka_in_sync,
        }
    }
}

/// Options of `ingest`.
#[derive(Args)]
pub struct IngestOptions {
    #[command(flatten)]
    pub log: LogOptions,
    /// Where to listen.
    #[arg(long, env = "TONGXING_INGEST_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The folder of keys, the same on every node; see `tongxing keys`.
    #[arg(long, env = "TONGXING_KEYS", default_value = "data/keys")]
    pub keys: PathBuf,
    /// The folder of this node's snapshot, spool and copy of the registry; it must outlive the process.
    #[arg(long, env = "TONGXING_DATA", default_value = "data")]
    pub data: PathBuf,
    /// Persons that the status table has room for, 32 bytes each and a sixth.
    #[arg(long, env = "TONGXING_PERSONS_CAPACITY", default_value_t = 1_000_000)]
    pub persons_capacity: usize,
    /// Persons that are expected: the status table takes the room of them all when it first grows, 37 bytes each, which makes their import
    /// a fifth quicker. It grows to more.
    #[arg(long, env = "TONGXING_PERSONS_EXPECTED", default_value_t = 0)]
    pub persons_expected: usize,
    /// The ruleset in force: edition-1, edition-3, edition-4.
    #[arg(long, env = "TONGXING_RULESET", default_value = "edition-4")]
    pub ruleset: String,
    /// Whether a quick check-in under a red code is refused.
    #[arg(long, env = "TONGXING_REFUSE_RED_CHECK_INS", default_value_t = true, action = clap::ArgAction::Set)]
    pub refuse_red_check_ins: bool,
    /// The wire version in which scans are written. A newer one than the default only once every aggregator reads it: see
    /// docs/decisions/0010.
    #[arg(long, env = "TONGXING_SCAN_VERSION", default_value_t = Scan::WRITTEN)]
    pub scan_version: u8,
    /// How many days ago a scan may have happened, 1 to 45.
    #[arg(long, env = "TONGXING_LATENESS_DAYS", default_value_t = 31)]
    pub lateness_days: u32,
    /// Knowledge older than this many milliseconds makes green answers stale, 0 to 86400000; 0 keeps serving, however old.
    #[arg(long, env = "TONGXING_STALE_AFTER_MS", default_value_t = 60_000)]
    pub stale_after_ms: i64,
    /// How many seconds a rotating code lives, 1 to 60.
    #[arg(long, env = "TONGXING_ROTATING_SECONDS", default_value_t = 60)]
    pub rotating_seconds: u32,
    /// How often the status snapshot is written, in seconds, 10 to 86400.
    #[arg(long, env = "TONGXING_SNAPSHOT_SECONDS", default_value_t = SNAPSHOT_SECONDS)]
    pub snapshot_seconds: u32,
    /// Bytes of scans that this node's disk takes while Kafka is away, 1048576 (1 MiB) and more; beyond them scans are answered 503.
    #[arg(long, env = "TONGXING_SPOOL_BYTES", default_value_t = 4 << 30)]
    pub spool_bytes: u64,
    /// How many milliseconds Kafka may take to answer before a scan is spooled, 50 to 10000.
    #[arg(long, env = "TONGXING_SPOOL_AFTER_MS", default_value_t = 1000)]
    pub spool_after_ms: u64,
    /// How scans are written to the topic: bincode, or json for topics that others read. Aggregators take both.
    #[arg(long, env = "TONGXING_SCANS_FORMAT", default_value = "bincode")]
    pub scans_format: ScanFormat,
    /// Listen beyond loopback without TLS.
    #[arg(long, env = "TONGXING_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Options of `aggregator`.
#[derive(Args)]
pub struct AggregatorOptions {
    #[command(flatten)]
    pub log: LogOptions,
    #[command(flatten)]
    pub store: StoreOptions,
    #[command(flatten)]
    pub retention: RetentionOptions,
    /// Where health and metrics are served.
    #[arg(
        long,
        env = "TONGXING_AGGREGATOR_LISTEN",
        default_value = "127.0.0.1:8082"
    )]
    pub listen: SocketAddr,
    /// The folder of keys: the person key's fingerprint must be the database's.
    #[arg(long, env = "TONGXING_KEYS", default_value = "data/keys")]
    pub keys: PathBuf,
    /// How long scans are gathered before they are inserted, in milliseconds, 10 to 10000.
    #[arg(long, env = "TONGXING_LINGER_MS", default_value_t = 300)]
    pub linger_ms: u64,
    /// Listen beyond loopback without TLS.
    #[arg(long, env = "TONGXING_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Options of `topics`.
#[derive(Args)]
pub struct TopicsOptions {
    #[command(flatten)]
    pub log: LogOptions,
    /// Compare only; create nothing.
    #[arg(long)]
    pub compare: bool,
    /// Wait this many seconds for Kafka to answer.
    #[arg(long, env = "TONGXING_KAFKA_WAIT_SECONDS", default_value_t = 30)]
    pub wait_seconds: u64,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
}

impl TopicsOptions {
    /// How long to wait for Kafka.
    pub const fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds)
    }
}
