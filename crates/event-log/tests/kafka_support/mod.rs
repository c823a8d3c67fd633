//! A real broker for tests, started by `scripts/kafka.sh`; the tests of one file share it while any of them runs.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use event_log::kafka::topics::{Durability, TopicAdmin};
use event_log::kafka::{KafkaOptions, Security};
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
        open_log(options, std::slice::from_ref(topic)).await
    }
}

/// A log whose topics are created and known to the broker.
pub async fn open_log(options: KafkaOptions, topics: &[TopicConfig]) -> SharedLog {
    let admin = TopicAdmin::new(&options).unwrap();
    admin.create_missing(topics, ALONE).await.unwrap();
    let log = KafkaLog::connect(options, topics.to_vec()).unwrap();
    let started = Instant::now();
    loop {
        let findings = admin.compare(topics, ALONE).await;
        if findings.as_ref().is_ok_and(Vec::is_empty) {
            return Arc::new(log);
        }
        assert!(started.elapsed() < PATIENCE, "{findings:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A broker that lets nobody in without TLS, ended when it is dropped.
pub struct SecureKafka {
    /// Demands TLS.
    pub tls_bootstrap: String,
    /// Demands TLS and SCRAM-SHA-512.
    pub scram_bootstrap: String,
    pub ca_file: PathBuf,
    pub user: String,
    pub password_file: PathBuf,
    folder: TempDir,
}

impl SecureKafka {
    /// The broker that the tests of this file share.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<SecureKafka>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kafka) = shared.upgrade() {
            return kafka;
        }
        let kafka = Arc::new(Self::start());
        *shared = Arc::downgrade(&kafka);
        kafka
    }

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let printed = script(&["start", path(&folder), "1", "secure"]);
        let line = |name: &str| {
            let mut lines = printed.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(found, _)| *found == name);
            found.expect(&printed).1.to_owned()
        };
        Self {
            tls_bootstrap: line("tls_bootstrap"),
            scram_bootstrap: line("scram_bootstrap"),
            ca_file: line("ca_file").into(),
            user: line("scram_user"),
            password_file: line("scram_password_file").into(),
            folder,
        }
    }

    /// Options for the listener that demands TLS alone.
    pub fn tls(&self, ca_file: &Path) -> KafkaOptions {
        let ca_file = Some(ca_file.to_owned());
        KafkaOptions {
            security: Security::Tls { ca_file },
            delivery_timeout: Duration::from_secs(5),
            ..KafkaOptions::new(&self.tls_bootstrap)
        }
    }

    /// Options for the listener that demands a user, too.
    pub fn scram(&self, password: &str) -> KafkaOptions {
        KafkaOptions {
            security: Security::TlsScram {
                ca_file: Some(self.ca_file.clone()),
                user: self.user.clone(),
                password: password.to_owned(),
            },
            delivery_timeout: Duration::from_secs(5),
            ..KafkaOptions::new(&self.scram_bootstrap)
        }
    }

    pub fn password(&self) -> String {
        let password = std::fs::read_to_string(&self.password_file).unwrap();
        password.trim().to_owned()
    }

    /// The certificate of an authority that has signed nothing here.
    pub fn foreign_ca(&self) -> PathBuf {
        let file = self.folder.path().join("foreign-ca.pem");
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
            ])
            .args(["-subj", "/CN=Somebody else", "-keyout", "/dev/null", "-out"])
            .arg(&file)
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
        file
    }
}

impl Drop for SecureKafka {
    fn drop(&mut self) {
        script(&["stop", path(&self.folder)]);
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
