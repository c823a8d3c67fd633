//! How the cluster is reached, and what is asked of it.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// How a connection is protected.
#[derive(Clone)]
pub enum Security {
    /// Not at all: for loopback, and for networks whose every member is trusted.
    Plaintext,
    /// TLS; the brokers' certificates are checked against an authority's file, or the system's without one.
    Tls {
        /// The authority's certificate, PEM.
        ca_file: Option<PathBuf>,
    },
    /// TLS, and a user by SCRAM-SHA-512 (RFC 5802 with SHA-512).
    TlsScram {
        /// The authority's certificate, PEM.
        ca_file: Option<PathBuf>,
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

/// Options of the Kafka backend.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, several by commas.
    pub bootstrap: String,
    /// How connections are protected.
    pub security: Security,
    /// What brokers call this client in their logs and quotas.
    pub client: String,
    /// Bytes under way before an append answers [`crate::LogError::Full`] (INV-6).
    pub queue_bytes: usize,
    /// Largest single append, in bytes.
    pub append_bytes: usize,
    /// An append without a delivery report after this long is answered as unavailable; it may still have been taken.
    pub delivery_timeout: Duration,
    /// A member that is not heard of for this long loses its partitions.
    pub session_timeout: Duration,
}

impl KafkaOptions {
    /// Options for a cluster without protection, with the default bounds.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            security: Security::Plaintext,
            client: "tongxing".into(),
            queue_bytes: 64 << 20,
            append_bytes: 15 << 20,
            delivery_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(10),
        }
    }

    /// What every client has in common. Its statistics must be fetched by polling it, or they pile up in it.
    pub(crate) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client)
            // What says why a connection ended is information to librdkafka.
            .set_log_level(RDKafkaLogLevel::Info)
            .set("statistics.interval.ms", "5000")
            .set("reconnect.backoff.max.ms", "1000")
            // What a broker told of topics and leaders is asked again this often.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("metadata.max.age.ms", "30000")
            .set("socket.keepalive.enable", "true")
            // A broker that vanished without a word is noticed by this.
            .set("socket.timeout.ms", "10000");
        let authority = |config: &mut ClientConfig, ca_file: &Option<PathBuf>| {
            if let Some(file) = ca_file {
                config.set("ssl.ca.location", file.to_string_lossy());
            }
        };
        match &self.security {
            Security::Plaintext => {}
            Security::Tls { ca_file } => {
                config.set("security.protocol", "ssl");
                authority(&mut config, ca_file);
            }
            Security::TlsScram {
                ca_file,
                user,
                password,
            } => {
                config
                    .set("security.protocol", "sasl_ssl")
                    .set("sasl.mechanisms", "SCRAM-SHA-512")
                    .set("sasl.username", user)
                    .set("sasl.password", password);
                authority(&mut config, ca_file);
            }
        }
        config
    }

    /// A producer whose success means: on every in-sync replica, once, in order (INV-7).
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        let queue_kilobytes = (self.queue_bytes / 1024 * 2).max(1024);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            // A batch costs client and broker more than its records do: docs/decisions/0013.
            .set("linger.ms", "5")
            .set("queue.buffering.max.kbytes", queue_kilobytes.to_string())
            .set("queue.buffering.max.messages", "1000000")
            .set("message.max.bytes", (16 << 20).to_string())
            .set(
                "message.timeout.ms",
                self.delivery_timeout.as_millis().to_string(),
            );
        config
    }

    /// A client that reads partitions on its own account, by explicit offsets.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("group.id", "tongxing-readers")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset out of range is an error, never "latest".
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // A reader that joins others on a client waits for their fetch to end. A longer wait would save idle clients some
            // requests.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.message.max.bytes", (4 << 20).to_string())
            .set("queued.max.messages.kbytes", (16 << 10).to_string());
        config
    }

    /// A member of a group.
    pub(crate) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.reader();
        let session_ms = self.session_timeout.as_millis();
        config
            .set("group.id", group)
            .set("enable.partition.eof", "false")
            // The client keeps some 300 bytes beside each message that it has fetched ahead, for every partition.
            .set("queued.min.messages", "50000")
            .set("fetch.message.max.bytes", (2 << 20).to_string())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set(
                "heartbeat.interval.ms",
                (session_ms / 3).min(1000).to_string(),
            );
        config
    }
}
