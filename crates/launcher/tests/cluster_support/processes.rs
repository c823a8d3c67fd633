//! One `tongxing` process: started, killed, frozen and started again where it was.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use loadtest::client::{Client, Endpoint};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::engine_support::program;
use super::{Cluster, GLANCE, PATIENCE};

/// Lines of a process's log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// A process that has its address and its log for good.
pub struct Service {
    pub name: String,
    /// The build that runs.
    pub program: PathBuf,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// What starts the program instead of this process.
    wrapper: Vec<String>,
    /// Where a node keeps what must outlive it.
    data: Option<PathBuf>,
    listen: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    pub fn new(name: &str, arguments: &[&str], log: PathBuf) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        command.extend(["--listen".to_owned(), listen.clone()]);
        Self {
            name: name.to_owned(),
            program: program(),
            command,
            environment: Vec::new(),
            wrapper: Vec::new(),
            data: None,
            listen,
            log,
            child: None,
        }
    }

    /// The process gets a further variable from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The same, with a data folder.
    pub fn with_data(name: &str, arguments: &[&str], log: PathBuf, data: PathBuf) -> Self {
        let folder = data.display().to_string();
        let arguments = [arguments, &["--data", &folder]].concat();
        let mut service = Self::new(name, &arguments, log);
        service.data = Some(data);
        service
    }

    /// Its data folder becomes a file system of its own, so large, in memory; it lives as long as the process.
    pub fn give_a_disk(&mut self, bytes: u64) {
        let Some(data) = &self.data else { return };
        std::fs::create_dir_all(data).unwrap();
        let mount = format!("mount -t tmpfs -o size={bytes} none \"$0\" && exec \"$@\"");
        let wrapper = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            &mount,
        ];
        self.wrapper = wrapper.map(str::to_owned).to_vec();
        self.wrapper.push(data.display().to_string());
    }

    /// That file system, seen from here.
    pub fn disk(&self) -> PathBuf {
        let data = self.data.as_ref().expect("a data folder").display();
        PathBuf::from(format!("/proc/{}/root{data}", self.pid()))
    }

    /// A file beside its log.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.log.with_extension(extension)
    }

    pub fn spawn(&mut self, cluster: &Cluster) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let program = self.program.display().to_string();
        let words = self.wrapper.iter().chain([&program]).chain(&self.command);
        let words: Vec<&str> = words.map(String::as_str).collect();
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        let child = cluster
            .command_of(Path::new(words[0]), &words[1..])
            .envs(self.environment.iter().cloned())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self, cluster: &Cluster) {
        self.spawn(cluster);
        self.wait_ready().await;
    }

    pub async fn wait_ready(&mut self) {
        let started = Instant::now();
        while self.readiness().await != 200 {
            let log = self.log();
            assert!(
                started.elapsed() < PATIENCE,
                "{} is not ready:\n{log}",
                self.name
            );
            assert!(self.is_running(), "{} ended:\n{log}", self.name);
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// What `/readyz` answers; 0 for no answer.
    pub async fn readiness(&self) -> u16 {
        let mut client = Client::new(self.endpoint(), String::new());
        let asked = tokio::time::timeout(Duration::from_secs(2), client.get("/readyz")).await;
        asked
            .ok()
            .and_then(Result::ok)
            .map_or(0, |answer| answer.status)
    }

    /// What `/readyz` reports.
    pub async fn ready_report(&self) -> Value {
        let mut client = Client::new(self.endpoint(), String::new());
        let answer = client.get("/readyz").await;
        answer.map_or(Value::Null, |answer| {
            serde_json::from_slice(&answer.body).unwrap_or_default()
        })
    }

    /// A metric's value, summed over its labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let mut client = Client::new(self.endpoint(), String::new());
        let text = client.get("/metrics").await.ok()?.text();
        let values: Vec<f64> = text
            .lines()
            .filter(|line| {
                line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.url()).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; waits until it has drained and ended in order.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{} does not stop:\n{}", self.name, self.log());
            }
            tokio::time::sleep(GLANCE).await;
        };
        assert!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            self.log()
        );
    }

    /// SIGSTOP: it stays as it is until it may go on.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// The end of what it has written.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- {} wrote last:\n{}", self.name, self.log());
        }
    }
}

/// A port below those that the system gives to outgoing connections: a stopped service finds its own free again.
pub fn free_port() -> u16 {
    let draw = |_| TcpListener::bind(("127.0.0.1", rand::random_range(10_000..20_000))).ok();
    let bound = (0..1000).find_map(draw).expect("a free port");
    bound.local_addr().unwrap().port()
}
