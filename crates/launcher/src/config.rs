//! Configuration of the local deployment: options, then `TONGXING_*` variables, then a TOML file, then defaults.
//!
//! A bad value is refused at start with its name and what is allowed.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::snapshots::{SNAPSHOT_SECONDS, check_snapshot_seconds};
use anyhow::{Context, Result, bail};
use clap::Args;
use scan_model::Ruleset;
use scan_model::codec::ScanFormat;
use serde::Deserialize;
use warehouse::retention::Retention;

/// What can be configured; unset ones take the next source's value.
#[derive(Args, Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct LocalOptions {
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The data folder [default: data].
    #[arg(long, env = "TONGXING_DATA")]
    pub data: Option<PathBuf>,
    /// Where ingest listens [default: 127.0.0.1:8080].
    #[arg(long, env = "TONGXING_INGEST_LISTEN")]
    pub ingest_listen: Option<SocketAddr>,
    /// Where query and the console listen [default: 127.0.0.1:8081].
    #[arg(long, env = "TONGXING_QUERY_LISTEN")]
    pub query_listen: Option<SocketAddr>,
    /// Where the embedded engine listens [default: 127.0.0.1:8123].
    #[arg(long, env = "TONGXING_CLICKHOUSE_LISTEN")]
    pub clickhouse_listen: Option<SocketAddr>,
    /// A ClickHouse server to use instead of the embedded engine.
    #[arg(long, env = "TONGXING_CLICKHOUSE_URL")]
    pub clickhouse_url: Option<String>,
    /// The database [default: tongxing].
    #[arg(long, env = "TONGXING_CLICKHOUSE_DATABASE")]
    pub clickhouse_database: Option<String>,
    /// The ClickHouse user.
    #[arg(long, env = "TONGXING_CLICKHOUSE_USER")]
    pub clickhouse_user: Option<String>,
    /// A file with the ClickHouse password, readable by its owner only.
    #[arg(long, env = "TONGXING_CLICKHOUSE_PASSWORD_FILE")]
    pub clickhouse_password_file: Option<PathBuf>,
    /// Memory bound of the embedded engine in bytes [default: 2147483648].
    #[arg(long, env = "TONGXING_CLICKHOUSE_MEMORY_BYTES")]
    pub clickhouse_memory_bytes: Option<u64>,
    /// The engine's library, libchdb.so [default: where `make engine` puts it].
    #[arg(long, env = "TONGXING_ENGINE_LIBRARY")]
    pub engine_library: Option<PathBuf>,
    /// Partitions of the person-keyed topics; changes only by replay [default: 2].
    #[arg(long, env = "TONGXING_PARTITIONS")]
    pub partitions: Option<u32>,
    /// Persons that the status table has room for, 32 bytes each and a sixth [default: 1000000].
    #[arg(long, env = "TONGXING_PERSONS_CAPACITY")]
    pub persons_capacity: Option<usize>,
    /// Persons that are expected: the status table takes the room of them all when it first grows, 37 bytes each, which makes their import
    /// a fifth quicker. It grows to more [default: 0].
    #[arg(long, env = "TONGXING_PERSONS_EXPECTED")]
    pub persons_expected: Option<usize>,
    /// The ruleset in force: edition-1, edition-3, edition-4 [default: edition-4].
    #[arg(long, env = "TONGXING_RULESET")]
    pub ruleset: Option<String>,
    /// Whether a quick check-in under a red code is refused [default: true].
    #[arg(long, env = "TONGXING_REFUSE_RED_CHECK_INS")]
    pub refuse_red_check_ins: Option<bool>,
    /// How many days ago a scan may have happened, 1 to 45 [default: 31].
    #[arg(long, env = "TONGXING_LATENESS_DAYS")]
    pub lateness_days: Option<u32>,
    /// Knowledge older than this many milliseconds makes green answers stale, 0 to 86400000; 0 keeps serving, however old
    /// [default: 60000].
    #[arg(long, env = "TONGXING_STALE_AFTER_MS")]
    pub stale_after_ms: Option<i64>,
    /// How many seconds a rotating code lives, 1 to 60 [default: 60].
    #[arg(long, env = "TONGXING_ROTATING_SECONDS")]
    pub rotating_seconds: Option<u32>,
    /// How often the status snapshot is written, in seconds, 10 to 86400 [default: 300].
    #[arg(long, env = "TONGXING_SNAPSHOT_SECONDS")]
    pub snapshot_seconds: Option<u32>,
    /// How scans are written to the log: bincode or json; both are read [default: bincode].
    #[arg(long, env = "TONGXING_SCANS_FORMAT")]
    pub scans_format: Option<String>,
    /// How long scans are gathered before they are inserted, in milliseconds, 10 to 10000 [default: 300].
    #[arg(long, env = "TONGXING_LINGER_MS")]
    pub linger_ms: Option<u64>,
    /// Days for which raw scans and changes of facts are kept in the store after their week, 60 or more; 0 keeps them for ever [default: 0].
    #[arg(long, env = "TONGXING_RAW_RETENTION_DAYS")]
    pub raw_retention_days: Option<u32>,
    /// Days for which statistics are kept after their week, as many as raw scans or more; 0 keeps them for ever
    /// [default: 0].
    #[arg(long, env = "TONGXING_STATISTICS_RETENTION_DAYS")]
    pub statistics_retention_days: Option<u32>,
    /// Whether rollups are proven and rebuilt after an unclean stop of the engine; off only to show that it is needed
    /// [default: true].
    #[arg(long, env = "TONGXING_REPAIR")]
    pub repair: Option<bool>,
    /// Listen beyond loopback without TLS.
    #[arg(long, env = "TONGXING_ALLOW_PLAINTEXT", num_args = 0..=1, default_missing_value = "true")]
    pub allow_plaintext: Option<bool>,
}

/// The configuration in force.
#[derive(Clone)]
pub struct LocalConfig {
    pub data: PathBuf,
    pub ingest_listen: SocketAddr,
    pub query_listen: SocketAddr,
    pub clickhouse_listen: SocketAddr,
    pub clickhouse_url: Option<String>,
    pub clickhouse_database: String,
    pub clickhouse_user: Option<String>,
    pub clickhouse_password_file: Option<PathBuf>,
    pub clickhouse_memory_bytes: u64,
    pub engine_library: Option<PathBuf>,
    pub partitions: u32,
    pub persons_capacity: usize,
    pub persons_expected: usize,
    pub ruleset: Ruleset,
    pub refuse_red_check_ins: bool,
    pub lateness_days: u32,
    pub stale_after_ms: i64,
    pub rotating_seconds: u32,
    pub snapshot_seconds: u32,
    pub scans_format: ScanFormat,
    pub linger_ms: u64,
    pub retention: Retention,
    pub repair: bool,
}

macro_rules! merge {
    ($options:ident, $file:ident: $($field:ident),*) => {
        LocalOptions { config: None, $($field: $options.$field.or($file.$field)),* }
    };
}

impl LocalConfig {
    /// Merges the sources and checks every value.
    pub fn resolve(options: LocalOptions) -> Result<Self> {
        let file = match &options.config {
            None => LocalOptions::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("config: read {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("config: {}", path.display()))?
            }
        };
        let merged = merge!(options, file: data, ingest_listen, query_listen, clickhouse_listen, clickhouse_url,
            clickhouse_database, clickhouse_user, clickhouse_password_file, clickhouse_memory_bytes,
            engine_library, partitions, persons_capacity, persons_expected, ruleset, refuse_red_check_ins, lateness_days,
            stale_after_ms, rotating_seconds, snapshot_seconds, scans_format, linger_ms, raw_retention_days, statistics_retention_days, repair,
            allow_plaintext);
        Self::check(merged)
    }

    fn check(options: LocalOptions) -> Result<Self> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ruleset = options.ruleset.as_deref().unwrap_or("edition-4");
        let config = Self {
            data: options.data.unwrap_or_else(|| PathBuf::from("data")),
            ingest_listen: options.ingest_listen.unwrap_or(loopback(8080)),
            query_listen: options.query_listen.unwrap_or(loopback(8081)),
            clickhouse_listen: options.clickhouse_listen.unwrap_or(loopback(8123)),
            clickhouse_url: options.clickhouse_url,
            clickhouse_database: options
                .clickhouse_database
                .unwrap_or_else(|| "tongxing".into()),
            clickhouse_user: options.clickhouse_user,
            clickhouse_password_file: options.clickhouse_password_file,
            clickhouse_memory_bytes: options.clickhouse_memory_bytes.unwrap_or(2 << 30),
            engine_library: options.engine_library,
            partitions: options.partitions.unwrap_or(2),
            persons_capacity: options.persons_capacity.unwrap_or(1_000_000),
            persons_expected: options.persons_expected.unwrap_or(0),
            ruleset: Ruleset::by_name(ruleset).context("ruleset")?,
            refuse_red_check_ins: options.refuse_red_check_ins.unwrap_or(true),
            lateness_days: options.lateness_days.unwrap_or(31),
            stale_after_ms: options.stale_after_ms.unwrap_or(60_000),
            rotating_seconds: options.rotating_seconds.unwrap_or(60),
            snapshot_seconds: options.snapshot_seconds.unwrap_or(SNAPSHOT_SECONDS),
            scans_format: options
                .scans_format
                .map_or(Ok(ScanFormat::default()), |name| name.parse())
                .context("scans_format")?,
            linger_ms: options.linger_ms.unwrap_or(300),
            retention: Retention::new(
                options.raw_retention_days.unwrap_or(0),
                options.statistics_retention_days.unwrap_or(0),
            )?,
            repair: options.repair.unwrap_or(true),
        };
        let plaintext = options.allow_plaintext.unwrap_or(false);
        check_listen("ingest_listen", config.ingest_listen, plaintext)?;
        check_listen("query_listen", config.query_listen, plaintext)?;
        check_listen("clickhouse_listen", config.clickhouse_listen, plaintext)?;
        check_range("partitions", u64::from(config.partitions), 1, 256)?;
        check_range(
            "persons_capacity",
            config.persons_capacity as u64,
            1,
            2_000_000_000,
        )?;
        check_range(
            "persons_expected",
            config.persons_expected as u64,
            0,
            config.persons_capacity as u64,
        )?;
        check_range("lateness_days", u64::from(config.lateness_days), 1, 45)?;
        check_range("linger_ms", config.linger_ms, 10, 10_000)?;
        check_range(
            "clickhouse_memory_bytes",
            config.clickhouse_memory_bytes,
            512 << 20,
            1 << 42,
        )?;
        if !(0..=86_400_000).contains(&config.stale_after_ms) {
            let value = config.stale_after_ms;
            bail!("stale_after_ms must lie between 0 and 86400000, not {value}");
        }
        let rotating_seconds = u64::from(config.rotating_seconds);
        check_range("rotating_seconds", rotating_seconds, 1, 60)?;
        check_snapshot_seconds(config.snapshot_seconds)?;
        if let Some(url) = &config.clickhouse_url {
            let host = url.strip_prefix("http://").unwrap_or_default();
            if host.is_empty() || host.starts_with(['/', ':']) || host.contains(char::is_whitespace)
            {
                bail!("clickhouse_url must be http://host:port, not {url:?}");
            }
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if config.clickhouse_database.is_empty() || !config.clickhouse_database.chars().all(is_name)
        {
            bail!("clickhouse_database must be letters, digits and _");
        }
        Ok(config)
    }
}

/// Loopback, or an explicit word that plain text may leave this machine.
pub fn check_listen(name: &str, address: SocketAddr, allow_plaintext: bool) -> Result<()> {
    if address.ip().is_loopback() || allow_plaintext {
        return Ok(());
    }
    bail!(
        "{name}: {address} is not a loopback address; pass --allow-plaintext to listen there without TLS"
    )
}

/// A number within its bounds.
pub fn check_range(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    bail!("{name} must lie between {least} and {most}, not {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: LocalOptions) -> String {
        format!("{:#}", LocalConfig::resolve(options).err().unwrap())
    }

    #[test]
    fn an_option_beats_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tongxing.toml");
        std::fs::write(&path, "partitions = 8\nlateness_days = 7\n").unwrap();
        let options = LocalOptions {
            config: Some(path),
            partitions: Some(2),
            ..LocalOptions::default()
        };
        let config = LocalConfig::resolve(options).unwrap();
        assert_eq!((config.partitions, config.lateness_days), (2, 7));
    }

    #[test]
    fn a_bad_value_is_refused_with_its_name_and_what_is_allowed() {
        let many = LocalOptions {
            partitions: Some(0),
            ..LocalOptions::default()
        };
        assert_eq!(
            refusal(many),
            "partitions must lie between 1 and 256, not 0"
        );
        let ruleset = LocalOptions {
            ruleset: Some("2".into()),
            ..LocalOptions::default()
        };
        assert!(refusal(ruleset).contains("edition-1, edition-3, edition-4"));
        let format = LocalOptions {
            scans_format: Some("avro".into()),
            ..LocalOptions::default()
        };
        assert_eq!(refusal(format), "scans_format: must be bincode or json");
        let public = LocalOptions {
            ingest_listen: Some(([0, 0, 0, 0], 80).into()),
            ..LocalOptions::default()
        };
        assert!(refusal(public).contains("--allow-plaintext"));
    }

    #[test]
    fn a_retention_shorter_than_scans_may_be_late_is_refused() {
        let short = LocalOptions {
            raw_retention_days: Some(30),
            ..LocalOptions::default()
        };
        assert_eq!(
            refusal(short),
            "raw_retention_days must be 0 (for ever) or at least 60, not 30"
        );
    }

    #[test]
    fn an_unknown_name_in_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tongxing.toml");
        std::fs::write(&path, "partition = 8\n").unwrap();
        let options = LocalOptions {
            config: Some(path),
            ..LocalOptions::default()
        };
        assert!(refusal(options).contains("partition"));
    }
}
