//! The real `tongxing` binary as a process of its own: on free ports, in a folder of its own, killed by its pid.
// Each test file uses its own share of this.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use loadtest::client::{Client, Endpoint};
use loadtest::verify;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use scan_model::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

/// No test waits longer for something that must happen.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// How often a condition is looked at.
pub const GLANCE: Duration = Duration::from_millis(20);
/// The binary under test.
pub const TONGXING: &str = env!("CARGO_BIN_EXE_tongxing");

/// Everything drawn comes from `TONGXING_SEED`, or from a new seed that is printed.
pub fn seeded(test: &str) -> (u64, ChaCha8Rng) {
    let seed = std::env::var("TONGXING_SEED").map_or_else(
        |_| rand::random(),
        |text| text.parse().expect("TONGXING_SEED must be a number"),
    );
    println!("{test}: TONGXING_SEED={seed}");
    (seed, ChaCha8Rng::seed_from_u64(seed))
}

/// Whether the long form was asked for.
pub fn is_long() -> bool {
    std::env::var("TONGXING_LONG").is_ok_and(|long| long == "1")
}

/// A command without the caller's own configuration of the product.
pub fn tongxing() -> Command {
    let mut command = Command::new(TONGXING);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let stays = ["TONGXING_CACHE", "TONGXING_ENGINE_LIBRARY"].contains(&name.as_str());
        if name.starts_with("TONGXING_") && !stays {
            command.env_remove(name);
        }
    }
    command.env("TONGXING_LOG", "warn").stdin(Stdio::null());
    command
}

/// So many ports that nobody listens on, below those that the system gives to outgoing connections: a stopped service
/// finds its own free again.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let bound: [TcpListener; COUNT] = std::array::from_fn(|_| {
        let draw = |_| TcpListener::bind(("127.0.0.1", rand::random_range(10_000..32_000))).ok();
        (0..1000).find_map(draw).expect("a free port")
    });
    bound.map(|listener| listener.local_addr().expect("its address").port())
}

/// A data folder and three addresses; what they hold outlives each process.
pub struct Place {
    folder: TempDir,
    ports: [u16; 3],
    options: &'static [&'static str],
}

impl Place {
    /// An empty folder and free ports.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same, for processes with further options.
    pub fn with(options: &'static [&'static str]) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            ports: free_ports(),
            options,
        }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where ingest answers.
    pub fn ingest(&self) -> Endpoint {
        self.endpoint(0)
    }

    /// Where query answers.
    pub fn query(&self) -> Endpoint {
        self.endpoint(1)
    }

    /// Where the engine answers.
    pub fn engine(&self) -> Endpoint {
        self.endpoint(2)
    }

    /// The engine's host and port.
    pub fn engine_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[2])
    }

    fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::parse(&format!("http://127.0.0.1:{}", self.ports[index])).expect("loopback")
    }

    /// The secret of one of the deployment's own callers.
    pub fn secret(&self, caller: &str) -> String {
        let file = self.data().join("keys/api-secrets").join(caller);
        let text = fs::read_to_string(&file).expect("the caller's secret");
        text.trim().to_owned()
    }

    /// A client of ingest under a caller's secret.
    pub fn caller(&self, caller: &str) -> Client {
        Client::new(self.ingest(), self.secret(caller))
    }

    /// A client of query.
    pub fn reader(&self) -> Client {
        Client::new(self.query(), String::new())
    }

    /// What all processes of this place have written to standard output and error.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    /// `tongxing up` on this place's folder and ports.
    pub fn up(&self) -> Command {
        let [ingest, query, engine] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = tongxing();
        command.arg("up").arg("--data").arg(self.data());
        command.args(["--ingest-listen", &ingest, "--query-listen", &query]);
        command.args([
            "--clickhouse-listen",
            &engine,
            "--persons-capacity",
            "100000",
        ]);
        command.args(self.options);
        command
    }

    /// Starts the service and waits until it answers lookups.
    pub async fn start(&self) -> Service {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(self.log_file())
        };
        let mut command = self.up();
        command
            .stdout(open().expect("the log"))
            .stderr(open().expect("the log"));
        let mut service = Service {
            child: command.spawn().expect("the binary starts"),
        };
        let ready = async || {
            if let Some(status) = service.child.try_wait().expect("a child") {
                panic!("the service ended with {status}:\n{}", self.log());
            }
            let mut client = Client::new(self.ingest(), String::new());
            client
                .get("/readyz")
                .await
                .is_ok_and(|answer| answer.status == 200)
        };
        wait_until("the service is ready", ready).await;
        service
    }

    /// Waits until everything acknowledged so far is counted.
    pub async fn wait_counted(&self) {
        let waited = verify::wait_complete(&self.query(), Timestamp::now(), PATIENCE).await;
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        // With nothing left to count, that may be known before the engine is back.
        wait_until("the engine answers", async || self.engine_answers().await).await;
    }

    /// What the query API answers, however long its store is away.
    pub async fn answer(&self, client: &mut Client, path: &str) -> Value {
        let started = Instant::now();
        loop {
            let answer = client.get(path).await.expect("query answers");
            if answer.status == 200 {
                return serde_json::from_slice(&answer.body).expect("JSON");
            }
            let text = answer.text();
            assert_eq!(answer.status, 503, "GET {path}: {text}");
            assert!(
                started.elapsed() < PATIENCE,
                "GET {path}: {text}\n{}",
                self.log()
            );
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether the engine answers statements.
    pub async fn engine_answers(&self) -> bool {
        let mut client = Client::new(self.engine(), String::new());
        let answer = client.get("/?query=SELECT%201").await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// What the engine answers to a statement.
    pub async fn sql(&self, statement: &str) -> String {
        let mut client = Client::new(self.engine(), String::new());
        let body = statement.to_owned().into();
        let answer = client.post("/?database=tongxing", "text/plain", body).await;
        let answer = answer.expect("the engine answers");
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        answer.text().trim().to_owned()
    }

    /// Asserts that every rollup equals its raw scans, as `tongxing check` says it.
    pub fn assert_rollups_whole(&self) {
        let url = format!("http://{}", self.engine_address());
        let output = tongxing()
            .args(["check", "--clickhouse-url", &url])
            .output();
        let output = output.expect("the check runs");
        assert!(output.status.success(), "{output:?}");
    }
}

/// A running service. Dropping it kills it; its engine ends with it.
pub struct Service {
    child: Child,
}

impl Service {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The engine's process id, while there is an engine.
    pub fn engine_pid(&self) -> Option<u32> {
        let processes = fs::read_dir("/proc").expect("/proc");
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|pid| self.is_engine(*pid))
    }

    fn is_engine(&self, pid: u32) -> bool {
        let folder = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let is_child = parent.is_some_and(|parent| parent.trim() == self.pid().to_string());
        let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
        is_child
            && arguments
                .split(|byte| *byte == 0)
                .any(|word| word == b"clickhouse")
    }

    /// Kills the engine at once; answers which process that was.
    pub async fn kill_engine(&self) -> u32 {
        let mut killed = None;
        // One that has just been started may end by itself, while the data are still its predecessor's.
        let is_killed = async || {
            killed = self.engine_pid().filter(|pid| kill(*pid).is_ok());
            killed.is_some()
        };
        wait_until("there is an engine", is_killed).await;
        killed.expect("it was killed")
    }

    /// Kills the service at once; answers which process its engine was, which ends by itself soon after.
    pub fn kill(mut self) -> Option<u32> {
        let engine = self.engine_pid();
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        engine
    }

    /// Asks the service to end, and answers how it ended.
    pub async fn terminate(mut self) -> ExitStatus {
        send(self.pid(), Signal::TERM);
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end at SIGTERM");
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process at once, where it is still there.
fn kill(pid: u32) -> io::Result<()> {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    Ok(kill_process(pid, Signal::KILL)?)
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

/// Whether a process runs; one that only waits to be reaped does not.
pub fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Waits for a condition, with the bound that every wait here has.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}
