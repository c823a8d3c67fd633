//! The engine as a supervised child process.
//!
//! The child serves `tongxing clickhouse`; it ends by itself when its standard input closes, so it never outlives this
//! process, however that ends. A child that dies is started again after a short, growing delay.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How far statistics let lookups and check-ins on the same machine go first, in steps of `nice`.
const STANDS_BACK: &str = "5";
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A child that has lived this long was healthy; the next delay is short again.
const HEALTHY: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How the engine is run.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The program to start; it understands `clickhouse`.
    pub program: PathBuf,
    /// `libchdb.so`.
    pub library: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its memory bound, in bytes.
    pub memory_bytes: u64,
}

/// The engine's process. Dropping it ends the child.
pub struct EngineProcess {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    starts: Arc<AtomicU64>,
    pid: Arc<AtomicU32>,
}

impl EngineProcess {
    /// Starts the child and its supervision.
    pub fn start(settings: EngineSettings) -> Self {
        let (stop, stopped) = watch::channel(false);
        let starts = Arc::new(AtomicU64::new(0));
        let pid = Arc::new(AtomicU32::new(0));
        let task = tokio::spawn(supervise(
            settings,
            stopped,
            Arc::clone(&starts),
            Arc::clone(&pid),
        ));
        Self {
            stop,
            task,
            starts,
            pid,
        }
    }

    /// How often the child has been started.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// The child's process id; 0 while it is down.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Ends the child, giving it time to finish what it is doing.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

async fn supervise(
    settings: EngineSettings,
    mut stopped: watch::Receiver<bool>,
    starts: Arc<AtomicU64>,
    pid: Arc<AtomicU32>,
) {
    let restarts = metrics::counter!("engine_restarts_total");
    let mut delay = FIRST_DELAY;
    loop {
        let started = tokio::time::Instant::now();
        match spawn(&settings) {
            Ok(mut child) => {
                // `wait` would close it, and the child would end.
                let stdin = child.stdin.take();
                starts.fetch_add(1, Ordering::Relaxed);
                pid.store(child.id().unwrap_or(0), Ordering::Relaxed);
                tokio::select! {
                    status = child.wait() => {
                        tracing::error!(?status, "the embedded engine ended; it is started again");
                    }
                    () = stopping(&mut stopped) => {
                        drop(stdin);
                        return end(child).await;
                    }
                }
                pid.store(0, Ordering::Relaxed);
            }
            Err(error) => tracing::error!(%error, "the embedded engine does not start"),
        }
        restarts.increment(1);
        delay = if started.elapsed() > HEALTHY {
            FIRST_DELAY
        } else {
            (delay * 2).min(LONGEST_DELAY)
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stopping(&mut stopped) => return,
        }
    }
}

/// Resolves when the process is to stop, or its owner is gone.
async fn stopping(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await.map(|_| ());
}

fn spawn(settings: &EngineSettings) -> std::io::Result<Child> {
    std::fs::create_dir_all(&settings.data)?;
    Command::new(&settings.program)
        .arg("clickhouse")
        .arg("--library")
        .arg(&settings.library)
        .arg("--data")
        .arg(&settings.data)
        .arg("--listen")
        .arg(settings.listen.to_string())
        .arg("--memory-bytes")
        .arg(settings.memory_bytes.to_string())
        .arg("--stand-back")
        .arg(STANDS_BACK)
        .arg("--until-stdin-closes")
        // The engine reads a config.xml of its working folder by itself; its own data folder has none.
        .current_dir(&settings.data)
        .env("TZ", "Asia/Shanghai")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Waits for a child that has been told to end; kills it if it does not.
async fn end(mut child: Child) {
    if tokio::time::timeout(STOP_TIMEOUT, child.wait())
        .await
        .is_err()
    {
        tracing::warn!("the embedded engine does not stop; it is killed");
        let _ = child.kill().await;
    }
}
