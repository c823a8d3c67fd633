//! What librdkafka tells of itself: logs, errors, statistics.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

/// Passes logs to tracing and statistics to metrics.
#[derive(Clone)]
pub(super) struct LogContext {
    queued_messages: metrics::Gauge,
    queued_bytes: metrics::Gauge,
    round_trip_seconds: metrics::Gauge,
    connected_brokers: metrics::Gauge,
    lag: metrics::Gauge,
}

impl LogContext {
    /// A context for a client of a role; the role is the metrics' label.
    pub(super) fn new(role: &'static str) -> Self {
        Self {
            queued_messages: metrics::gauge!("kafka_client_queued_messages", "role" => role),
            queued_bytes: metrics::gauge!("kafka_client_queued_bytes", "role" => role),
            round_trip_seconds: metrics::gauge!("kafka_client_round_trip_seconds", "role" => role),
            connected_brokers: metrics::gauge!("kafka_client_connected_brokers", "role" => role),
            lag: metrics::gauge!("kafka_client_lag_records", "role" => role),
        }
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(facility, message, "kafka client"),
            RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "kafka client"),
            _ => tracing::debug!(facility, message, "kafka client"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.queued_messages.set(statistics.msg_cnt as f64);
        self.queued_bytes.set(statistics.msg_size as f64);
        let up = statistics
            .brokers
            .values()
            .filter(|broker| broker.state == "UP");
        self.connected_brokers.set(up.count() as f64);
        let round_trips = statistics
            .brokers
            .values()
            .filter_map(|broker| broker.rtt.as_ref());
        let slowest = round_trips.map(|window| window.p99).max().unwrap_or(0);
        self.round_trip_seconds.set(slowest as f64 / 1e6);
        let partitions = statistics
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions
            .map(|partition| partition.consumer_lag.max(0))
            .sum();
        self.lag.set(lag as f64);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is reported as an error, and is none.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for LogContext {}
