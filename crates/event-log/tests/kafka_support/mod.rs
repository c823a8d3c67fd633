//! A real broker for tests, started by `scripts/kafka.sh`; the tests of one file share it while any of them runs.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use event_log::kafka::KafkaOptions;
use event_log::kafka::topics::{Durability, TopicAdmin};
use event_log::{KafkaLog, SharedLog, TopicConfig};
use tempfile::TempDir;

/// No test waits longer for something that must happen.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// What one broker can give.
pub const ALONE: Durability = Durability {
    replication: 1,
    in_sync: 1,
};

/// Brokers, ended when the last test lets go of them.
pub struct Kafka {
    pub bootstrap: String,
    folder: TempDir,
}

impl Kafka {
    /// The broker that the tests of this file share.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kafka) = shared.upgrade() {
            return kafka;
        }
        let kafka = Arc::new(Self::start(1));
        *shared = Arc::downgrade(&kafka);
        kafka
    }

    /// Brokers of a test's own.
    pub fn start(brokers: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let brokers = brokers.to_string();
        let printed = script(&["start", path(&folder), &brokers]);
        let bootstrap = printed.trim().strip_prefix("bootstrap=");
        Self {
            bootstrap: bootstrap.expect(&printed).to_owned(),
            folder,
        }
    }

    pub fn kill(&self, broker: u32) {
        script(&["kill", path(&self.folder), &broker.to_string()]);
    }

    pub fn start_again(&self, broker: u32) {
        script(&["start-one", path(&self.folder), &broker.to_string()]);
    }

    pub fn pause(&self, broker: u32) {
        script(&["pause", path(&self.folder), &broker.to_string()]);
    }

    pub fn resume(&self, broker: u32) {
        script(&["resume", path(&self.folder), &broker.to_string()]);
    }

    pub fn options(&self) -> KafkaOptions {
        KafkaOptions {
            session_timeout: Duration::from_secs(6),
            delivery_timeout: Duration::from_secs(5),
            ..KafkaOptions::new(&self.bootstrap)
        }
    }

    /// A log with one topic of its own, created and known to the broker.
    pub async fn log(&self, topic: &TopicConfig) -> SharedLog {
        self.log_with(self.options(), topic).await
    }

    pub async fn log_with(&self, options: KafkaOptions, topic: &TopicConfig) -> SharedLog {
        let admin = TopicAdmin::new(&options).unwrap();
        let topics = [topic.clone()];
        admin.create_missing(&topics, ALONE).await.unwrap();
        let log = KafkaLog::connect(options, topics.to_vec()).unwrap();
        let started = Instant::now();
        loop {
            let findings = admin.compare(&topics, ALONE).await;
            if findings.as_ref().is_ok_and(Vec::is_empty) {
                return Arc::new(log);
            }
            assert!(started.elapsed() < PATIENCE, "{findings:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        script(&["stop-now", path(&self.folder)]);
    }
}

fn path(folder: &TempDir) -> &str {
    folder.path().to_str().unwrap()
}

fn script(arguments: &[&str]) -> String {
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka.sh");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("bash")
        .arg(script)
        .args(arguments)
        .output()
        .expect("bash runs");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(
        status.success(),
        "scripts/kafka.sh {arguments:?} failed; it says what to install:\n{stderr}"
    );
    String::from_utf8(stdout).unwrap()
}
