//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use warehouse::engine::Sandbox;

use crate::cluster_options::{AggregatorOptions, IngestOptions, TopicsOptions};
use crate::config::{LocalConfig, LocalOptions};
use crate::import::ImportKind;
use crate::tool_log::ToolLogOptions;
use crate::{
    backup, check, cluster, dead_letters, demo, engine, import, keys, local, positions, replay,
    restore, stores, telemetry,
};

/// Tongxing (通行): the scan pipeline of a health-code system.
///
/// Every option can also be given as a TONGXING_… variable or in the TOML file named by --config; an option beats
/// a variable, a variable beats the file.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole pipeline on this machine: ingest, aggregator, query, the embedded engine.
    Up(LocalOptions),
    /// The same, with a simulated day of synthetic people, venues and traffic over HTTP.
    Demo(DemoOptions),
    /// Run one ingest node of a cluster, over Kafka.
    Ingest(IngestOptions),
    /// Run one aggregator of a cluster: Kafka to a ClickHouse server.
    Aggregator(AggregatorOptions),
    /// Create Kafka's topics and compare them with what is declared; exits with 1 if any differs.
    Topics(TopicsOptions),
    /// Serve the embedded ClickHouse engine over ClickHouse's HTTP interface.
    Clickhouse(EngineOptions),
    /// Serve the statistics API and the console over a ClickHouse server.
    Query(QueryOptions),
    /// Create, rotate and show keys.
    Keys(KeysOptions),
    /// Send a file of persons, facts, venues, grids or compounds (NDJSON) to ingest, with progress and a report.
    Import(ImportOptions),
    /// Build every table anew from the log, beside the live database, prove it, and swap.
    Replay(ReplayArguments),
    /// Copy the keys and the log of a local deployment into a new folder, running or stopped.
    Backup(BackupOptions),
    /// Make a data folder from a backup, after verifying every file of it.
    Restore(RestoreOptions),
    /// Compare every rollup with the raw scans, slice by slice; exits with 1 if any differs.
    Check(StoreOptions),
    /// List, explain and re-drive records that could not be stored.
    DeadLetters(DeadLettersOptions),
    /// Show the aggregator's positions, and restore those that were lost.
    Positions(PositionsOptions),
    /// Print a new scan id (a UUID of version 7).
    ScanId,
}

/// Options of `demo`.
#[derive(Args)]
pub struct DemoOptions {
    #[command(flatten)]
    pub local: LocalOptions,
    /// Synthetic people.
    #[arg(long, env = "TONGXING_DEMO_PEOPLE", default_value_t = 20_000)]
    pub people: u32,
    /// Live check-ins a second.
    #[arg(long, env = "TONGXING_DEMO_CHECK_INS", default_value_t = 300)]
    pub check_ins: u32,
    /// Live lookups a second.
    #[arg(long, env = "TONGXING_DEMO_LOOKUPS", default_value_t = 1000)]
    pub lookups: u32,
    /// Seed of everything that is drawn.
    #[arg(long, env = "TONGXING_DEMO_SEED", default_value_t = 20_220_110)]
    pub seed: u64,
    /// Stop by itself after this many seconds.
    #[arg(long, env = "TONGXING_DEMO_SECONDS")]
    pub seconds: Option<u64>,
}

/// Options of `clickhouse`.
#[derive(Args)]
pub struct EngineOptions {
    /// The engine's library, libchdb.so.
    #[arg(long, env = "TONGXING_ENGINE_LIBRARY")]
    pub library: Option<PathBuf>,
    /// The data folder.
    #[arg(
        long,
        env = "TONGXING_CLICKHOUSE_DATA",
        default_value = "data/clickhouse"
    )]
    pub data: PathBuf,
    /// Where to listen.
    #[arg(
        long,
        env = "TONGXING_CLICKHOUSE_LISTEN",
        default_value = "127.0.0.1:8123"
    )]
    pub listen: SocketAddr,
    /// Memory bound in bytes.
    #[arg(long, env = "TONGXING_CLICKHOUSE_MEMORY_BYTES", default_value_t = 2 << 30)]
    pub memory_bytes: u64,
    /// Let SQL make TCP connections to this port, on any host, and run the engine's own Kafka consumers. For measuring the
    /// engine's Kafka tables beside the aggregator; the engine of a deployment connects nowhere.
    #[arg(long, hide = true)]
    pub allow_connect: Option<u16>,
    /// Let other processes of the machine go first, as far as `nice` of so many steps does, 0 to 19.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub stand_back: u8,
    /// End when standard input closes, as a supervised child does.
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Listen beyond loopback without TLS.
    #[arg(long, env = "TONGXING_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
}

/// Where a ClickHouse server is.
#[derive(Args, Clone)]
pub struct StoreOptions {
    /// ClickHouse's HTTP address.
    #[arg(
        long,
        env = "TONGXING_CLICKHOUSE_URL",
        default_value = "http://127.0.0.1:8123"
    )]
    pub clickhouse_url: String,
    /// The database.
    #[arg(long, env = "TONGXING_CLICKHOUSE_DATABASE", default_value = "tongxing")]
    pub clickhouse_database: String,
    /// The user.
    #[arg(long, env = "TONGXING_CLICKHOUSE_USER")]
    pub clickhouse_user: Option<String>,
    /// A file that holds the password, readable by its owner only.
    #[arg(long, env = "TONGXING_CLICKHOUSE_PASSWORD_FILE")]
    pub clickhouse_password_file: Option<PathBuf>,
    /// The cluster in the servers' `remote_servers` over which tables are replicated and distributed; one server
    /// without it. The same everywhere, and decided before the database is made.
    #[arg(long, env = "TONGXING_CLICKHOUSE_CLUSTER")]
    pub clickhouse_cluster: Option<String>,
}

/// How long rows are kept in the store.
#[derive(Args, Clone)]
pub struct RetentionOptions {
    /// Days for which raw scans and changes of facts are kept in the store after their week, 60 or more; 0 keeps them for ever.
    #[arg(long, env = "TONGXING_RAW_RETENTION_DAYS", default_value_t = 0)]
    pub raw_retention_days: u32,
    /// Days for which statistics are kept after their week, as many as raw scans or more; 0 keeps them for ever.
    #[arg(long, env = "TONGXING_STATISTICS_RETENTION_DAYS", default_value_t = 0)]
    pub statistics_retention_days: u32,
}

/// Options of `query`.
#[derive(Args)]
pub struct QueryOptions {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Where to listen.
    #[arg(long, env = "TONGXING_QUERY_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// Where ingest is, as http://host:port: it decides who may read a person's history, which is refused without it.
    #[arg(long, env = "TONGXING_INGEST_URL")]
    pub ingest_url: Option<String>,
    /// Listen, and ask ingest, beyond loopback without TLS.
    #[arg(long, env = "TONGXING_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Options of `keys`.
#[derive(Args)]
pub struct KeysOptions {
    /// The folder of keys.
    #[arg(long, env = "TONGXING_KEYS", default_value = "data/keys")]
    pub folder: PathBuf,
    #[command(subcommand)]
    pub action: keys::Action,
}

/// Options of `replay`.
#[derive(Args)]
pub struct ReplayArguments {
    #[command(subcommand)]
    pub deployment: replay::Deployment,
}

/// Options of `backup`.
#[derive(Args)]
pub struct BackupOptions {
    /// The folder to make. Whoever can read it can tell who is who: it holds the keys.
    pub backup: PathBuf,
    /// The data folder of the deployment.
    #[arg(long, env = "TONGXING_DATA", default_value = "data")]
    pub data: PathBuf,
}

/// Options of `restore`.
#[derive(Args)]
pub struct RestoreOptions {
    /// The backup's folder.
    pub backup: PathBuf,
    /// The data folder to make; it must not exist, or be empty.
    #[arg(long, env = "TONGXING_DATA", default_value = "data")]
    pub data: PathBuf,
}

/// Options of `import`.
#[derive(Args)]
pub struct ImportOptions {
    /// What the file holds.
    pub kind: ImportKind,
    /// The file: one JSON object a line, or, where its name ends with .csv, a header and one person or fact a line.
    pub file: PathBuf,
    /// Batches of persons under way together; everything else goes in the order of its lines.
    #[arg(long, env = "TONGXING_IMPORT_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub connections: u8,
    /// Ingest's address.
    #[arg(
        long,
        env = "TONGXING_INGEST_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub ingest_url: String,
    /// Send beyond loopback without TLS: whoever is on the way can read documents and names.
    #[arg(long, env = "TONGXING_IMPORT_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
    /// A file that holds the API key's secret, readable by its owner only.
    #[arg(long, env = "TONGXING_API_SECRET_FILE")]
    pub secret_file: PathBuf,
}

/// Options of `dead-letters`.
#[derive(Args)]
pub struct DeadLettersOptions {
    #[command(flatten)]
    pub log: ToolLogOptions,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub action: dead_letters::Action,
}

/// Options of `positions`.
#[derive(Args)]
pub struct PositionsOptions {
    #[command(flatten)]
    pub log: ToolLogOptions,
    #[command(flatten)]
    pub store: StoreOptions,
    /// A TOML file with any of these options, their dashes as underscores.
    #[arg(long, env = "TONGXING_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub action: positions::Action,
}

/// The command line: what the tools' options are may stand before or behind their action.
pub fn command() -> clap::Command {
    let anywhere = |command: clap::Command| command.mut_args(|argument| argument.global(true));
    Arguments::command()
        .mut_subcommand("dead-letters", anywhere)
        .mut_subcommand("positions", anywhere)
}

/// Confines the process of a command that is to be confined, and lets one stand back that is to. Called while the process has one thread.
pub fn confine(arguments: &Arguments) -> Result<Option<Sandbox>> {
    match &arguments.command {
        Command::Clickhouse(options) => engine::confine(options).map(Some),
        // A province of lines leaves the cores to the lookups of a node beside it.
        Command::Import(_) => {
            scheduling::stand_back(import::STANDS_BACK)?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Runs a command to its end, in its sandbox if it has one.
pub async fn run(arguments: Arguments, sandbox: Option<Sandbox>) -> Result<()> {
    let metrics = telemetry::start();
    if let Some(sandbox) = sandbox {
        sandbox.report();
    }
    match arguments.command {
        Command::Up(options) => local::up(LocalConfig::resolve(options)?, metrics).await,
        Command::Demo(options) => demo::run(options, metrics).await,
        Command::Ingest(options) => cluster::ingest(options, metrics).await,
        Command::Aggregator(options) => cluster::aggregator(options, metrics).await,
        Command::Topics(options) => cluster::topics(options).await,
        Command::Clickhouse(options) => engine::serve(options).await,
        Command::Query(options) => stores::query_alone(options, metrics).await,
        Command::Keys(options) => keys::run(&options.folder, &options.action),
        Command::Import(options) => import::run(options).await,
        Command::Replay(options) => replay::run(options.deployment).await,
        Command::Backup(options) => backup::run(options).await,
        Command::Restore(options) => restore::run(options).await,
        Command::Check(options) => check::run(options).await,
        Command::DeadLetters(options) => dead_letters::run(&options.log, options.action).await,
        Command::Positions(options) => positions::run(options).await,
        Command::ScanId => {
            println!("{}", uuid::Uuid::now_v7());
            Ok(())
        }
    }
}
