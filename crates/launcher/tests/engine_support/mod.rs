//! What the tests against the embedded engine share: the engine as a child process, a log, an aggregator that can be cut off.
// Each test file uses its own share of this.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod counted;
pub mod curl;
pub mod digests;
pub mod scans;
pub mod tools;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aggregator::{Aggregator, AggregatorConfig, AggregatorError, DEAD_LETTERS, GROUP, SCANS};
use event_log::local::LocalOptions;
use event_log::{Cleanup, LocalLog, LogError, SharedLog, TopicConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use warehouse::{Store, StoreConfig, schema};

/// No test waits longer for something that must happen.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The database of most tests.
pub const DATABASE: &str = "tongxing";

/// The engine as `tongxing clickhouse`, a process of its own.
pub struct Engine {
    pub address: SocketAddr,
    data: PathBuf,
    options: Vec<String>,
    /// With the end of its standard input the child would end too.
    child: Option<(Child, ChildStdin)>,
}

impl Engine {
    /// Starts it over a data folder and waits until it answers.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same, with further options.
    pub fn start_with(data: &Path, options: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let mut engine = Self {
            address,
            data: data.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            child: None,
        };
        engine.restart();
        engine
    }

    /// Starts it where it was, and waits until it answers.
    pub fn restart(&mut self) {
        let started = Instant::now();
        self.spawn();
        while !self.is_ready() {
            assert!(started.elapsed() < PATIENCE, "the engine does not start");
            let (child, _) = self.child.as_mut().expect("just spawned");
            if let Some(status) = child.try_wait().expect("the child is asked") {
                // Someone else may have the port for a moment.
                assert!(started.elapsed() < PATIENCE, "the engine ends: {status}");
                self.spawn();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn spawn(&mut self) {
        std::fs::create_dir_all(&self.data).expect("the data folder");
        let mut child = Command::new(program())
            .arg("clickhouse")
            .arg("--data")
            .arg(&self.data)
            .args(["--listen", &self.address.to_string()])
            .arg("--until-stdin-closes")
            .args(&self.options)
            .current_dir(&self.data)
            .env("TZ", "Asia/Shanghai")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the engine's process starts");
        let stdin = child.stdin.take().expect("its standard input");
        self.child = Some((child, stdin));
    }

    /// Whether it answers.
    pub fn is_ready(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.ends_with("Ok.\n"))
        };
        ping().unwrap_or(false)
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some((mut child, _stdin)) = self.child.take() {
            child.kill().expect("the child is killed");
            child.wait().expect("the child is reaped");
        }
    }

    /// SIGSTOP: the process stays as it is until it may go on. What reaches its sockets waits there.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let (child, _) = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Whether the process is still the one that was started.
    pub fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|(child, _)| child.try_wait().expect("the child is asked").is_none())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client for a database. A runtime's own: its connections end with the runtime.
    pub fn store(&self, database: &str) -> Store {
        Store::new(&StoreConfig {
            url: self.url(),
            database: database.to_owned(),
            user: None,
            password: None,
        })
    }

    /// A client for a database that has the schema.
    pub async fn migrated_store(&self) -> Store {
        let store = self.store(DATABASE);
        schema::migrate(&store).await.expect("the schema is made");
        store
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some((child, _)) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            println!("the engine had ended by itself: {status}");
        }
        self.kill();
    }
}

/// The `tongxing` binary: this build's, or another that `TONGXING_PROGRAM` names.
pub fn program() -> PathBuf {
    std::env::var_os("TONGXING_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_tongxing").into(), PathBuf::from)
}

/// A log with the topics that the aggregator needs.
pub fn open_log(folder: &Path, partitions: u32) -> SharedLog {
    let topics = vec![
        TopicConfig::new(SCANS, partitions, Cleanup::KEEP),
        TopicConfig::new(aggregator::fact_history::TOPIC, partitions, Cleanup::KEEP),
        TopicConfig::new(DEAD_LETTERS, 1, Cleanup::KEEP),
        TopicConfig::new(registry::TOPIC, 1, Cleanup::KEEP),
    ];
    let started = Instant::now();
    loop {
        match LocalLog::open(folder, topics.clone(), &LocalOptions::default()) {
            Ok((log, _)) => return Arc::new(log),
            // A process that another test starts has this one's files, their locks among them, until its program begins.
            Err(LogError::Locked(_)) if started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("the log does not open: {error}"),
        }
    }
}

/// How many records of the log the aggregator has not settled; a pending range counts.
pub async fn unsettled(log: &SharedLog) -> u64 {
    let mut unsettled = 0;
    for partition in 0..log.partitions(SCANS).unwrap() {
        let bounds = log.bounds(SCANS, partition).await.unwrap();
        let committed = log.committed(GROUP, SCANS, partition).await.unwrap();
        unsettled += bounds.end - committed.map_or(bounds.start, |committed| committed.offset);
    }
    unsettled
}

/// Waits until everything in the log is settled.
pub async fn drained(log: &SharedLog, run: &AggregatorRun) {
    let started = Instant::now();
    while unsettled(log).await > 0 {
        assert!(!run.has_ended(), "the aggregator ended before its work");
        assert!(started.elapsed() < PATIENCE, "the log is not drained");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An aggregator on threads of its own, so that it can be cut off at any await as a kill would.
pub struct AggregatorRun {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), AggregatorError>>,
}

impl AggregatorRun {
    pub fn start(log: &SharedLog, engine: &Engine, config: &AggregatorConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, stopped) = watch::channel(false);
        let (log, store, config) = (Arc::clone(log), engine.store(DATABASE), config.clone());
        let task = runtime.spawn(async move {
            let aggregator = Aggregator::join(log, store, config).await?;
            aggregator.run(stopped).await
        });
        Self {
            runtime,
            stop,
            task,
        }
    }

    /// Whether it stopped by itself, which only an error makes it do.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Cuts it off where it stands. What it has told the log's position store to write is written. Not from async code.
    pub fn crash(self) {
        self.task.abort();
        self.runtime.shutdown_timeout(PATIENCE);
    }

    /// Ends it between two turns and answers with what it ended. Not from async code.
    pub fn stop(self) -> Result<(), AggregatorError> {
        self.stop.send_replace(true);
        self.outcome()
    }

    /// Waits until it ends by itself. Not from async code.
    pub fn outcome(self) -> Result<(), AggregatorError> {
        let outcome = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.task).await })
            .expect("the aggregator ends")
            .expect("the aggregator does not panic");
        self.runtime.shutdown_timeout(PATIENCE);
        outcome
    }
}

/// Whether the long form is asked for.
pub fn is_long() -> bool {
    std::env::var_os("TONGXING_LONG").is_some()
}

/// A generator by a seed that is printed, or given by `TONGXING_SEED`. What `RUST_LOG` asks for is printed too.
pub fn seeded() -> ChaCha8Rng {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    let _ = subscriber.with_test_writer().try_init();
    let given = std::env::var("TONGXING_SEED")
        .ok()
        .map(|seed| seed.parse().expect("a number"));
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("TONGXING_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// A runtime for a test that is not itself async.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}
