//! What librdkafka tells of itself: logs, errors, statistics.
//!
//! A client that is not let in says why in its log alone; what it is asked meanwhile ends as a timeout. So the reason is kept from
//! the log and answered instead ([`LogContext::settle`]). A client tells nothing until it is polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::{Statistics, Window};

use super::refusal;
use crate::error::LogError;

/// How long a reason counts. A client tries again every second, but logs the same failure twice within 30 s only once.
const REASON_HOLDS: Duration = Duration::from_secs(45);

/// Why a client was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The broker does not take the user or the password.
    Access(String),
    /// One side does not take the other's certificate, or only one of them speaks TLS.
    Tls(String),
    /// Anything else, which may pass by itself: nobody listens, or the broker has closed the connection.
    Otherwise(String),
}

impl Refused {
    /// What a line of the client's log says about being let in.
    fn from_log(facility: &str, message: &str) -> Option<Self> {
        if facility != "FAIL" {
            return None;
        }
        // "[thrd:…]: what was said"
        let said = message
            .strip_prefix("[thrd:")
            .and_then(|rest| rest.split_once("]: "))
            .map_or(message, |(_, said)| said)
            .to_owned();
        let says = |text| said.contains(text);
        if says("SASL authentication error") || says("mechanism handshake failed") {
            return Some(Self::Access(said));
        }
        // The client says that a handshake failed, or repeats what OpenSSL said during one and no more.
        let is_handshake = says("SSL handshake failed")
            || (says("SSL routines") && says("in state SSL_HANDSHAKE"));
        // A broker that ends during a handshake refuses nothing.
        let has_ended = says("Disconnected") || says("unexpected eof");
        if is_handshake && !has_ended {
            let is_unexplained =
                says("certificate verify failed") && !says("could not be verified");
            let hint = if is_unexplained {
                "; the broker's certificate could not be verified"
            } else {
                ""
            };
            return Some(Self::Tls(said + hint));
        }
        // What a broker does that demands more than it was given; one that is just ending does so, too.
        let is_closed = says("Disconnected") || says("Broken pipe") || says("reset by peer");
        let hint = if !is_closed {
            ""
        } else if says("in state APIVERSION_QUERY") {
            "; perhaps it demands TLS"
        } else if says("in state UP") {
            "; perhaps it demands a user"
        } else {
            ""
        };
        Some(Self::Otherwise(said + hint))
    }
}

/// Passes logs to tracing and statistics to metrics.
#[derive(Clone)]
pub(super) struct LogContext {
    queued_messages: metrics::Gauge,
    queued_bytes: metrics::Gauge,
    round_trip_seconds: metrics::Gauge,
    connected_brokers: metrics::Gauge,
    lag: metrics::Gauge,
    refused: Arc<Mutex<Option<(Instant, Refused)>>>,
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
            refused: Arc::default(),
        }
    }

    /// Keeps a reason. One that only a person can mend is kept before whatever follows from it.
    fn note(&self, reason: Refused) {
        let mut refused = self.refused.lock();
        let holds = refused.as_ref().is_some_and(|(at, former)| {
            at.elapsed() < REASON_HOLDS && !matches!(former, Refused::Otherwise(_))
        });
        if !(holds && matches!(reason, Refused::Otherwise(_))) {
            *refused = Some((Instant::now(), reason));
        }
    }

    /// Why the client is not let in, as far as it has said so lately.
    pub(super) fn refused(&self) -> Option<Refused> {
        let refused = self.refused.lock();
        let lately = refused
            .as_ref()
            .filter(|(at, _)| at.elapsed() < REASON_HOLDS);
        lately.map(|(_, refused)| refused.clone())
    }

    /// The outcome of a call as the log's; `what` was asked.
    pub(super) fn settle<T>(
        &self,
        what: &str,
        outcome: Result<T, KafkaError>,
    ) -> Result<T, LogError> {
        match outcome {
            Ok(answer) => {
                self.refused.lock().take();
                Ok(answer)
            }
            Err(error) => Err(self.explain(refusal(what, &error))),
        }
    }

    /// An unavailable log that is unavailable because it does not let this client in.
    pub(super) fn explain(&self, error: LogError) -> LogError {
        let LogError::Unavailable(text) = error else {
            return error;
        };
        match self.refused() {
            Some(Refused::Access(reason)) => LogError::Forbidden(reason),
            Some(Refused::Tls(reason)) => LogError::Tls(reason),
            Some(Refused::Otherwise(reason)) => LogError::Unavailable(format!("{text}: {reason}")),
            None => LogError::Unavailable(text),
        }
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(refused) = Refused::from_log(facility, message) {
            self.note(refused);
        }
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
        let up = up.count();
        if up > 0 {
            self.refused.lock().take();
        }
        self.connected_brokers.set(up as f64);
        let round_trips = statistics
            .brokers
            .values()
            .filter_map(|broker| broker.rtt.as_ref());
        // The percentiles leave out what took longer than half a second.
        let slow = |window: &Window| match window.outofrange {
            0 => window.p99,
            _ => window.max,
        };
        let slowest = round_trips.map(slow).max().unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "ssl://127.0.0.1:9093/bootstrap";

    fn told(context: &LogContext, said: &str) -> LogError {
        let line = format!("[thrd:{NAME}]: {NAME}: {said}");
        context.log(RDKafkaLogLevel::Info, "FAIL", &line);
        context.explain(LogError::Unavailable("timed out".into()))
    }

    #[test]
    fn a_reason_that_a_person_must_mend_is_no_longer_unavailable_and_outlives_what_follows_from_it()
    {
        let context = LogContext::new("test");
        let error = told(
            &context,
            "Connect to ipv4#127.0.0.1:9093 failed: Connection refused",
        );
        assert!(
            error.is_retryable() && error.to_string().contains("Connection refused"),
            "{error}"
        );
        let error = told(&context, "SASL authentication error: invalid credentials");
        assert!(matches!(error, LogError::Forbidden(_)), "{error}");
        let error = told(&context, "Disconnected (after 3ms in state AUTH_REQ)");
        assert!(matches!(error, LogError::Forbidden(_)), "{error}");
        let error = told(&context, "SSL handshake failed: certificate verify failed");
        assert!(matches!(error, LogError::Tls(_)), "{error}");
        // A call that succeeded, or a broker that is up, has the last word.
        context.settle("ask", Ok(())).unwrap();
        let error = told(&context, "SSL handshake failed: Disconnected");
        assert!(error.is_retryable(), "{error}");
    }

    #[test]
    fn a_handshake_of_which_openssl_alone_speaks_is_told_from_a_broker_that_ends() {
        const STATE: &str = "(after 59ms in state SSL_HANDSHAKE)";
        let ended = "error:0A000126:SSL routines::unexpected eof while reading";
        let error = told(&LogContext::new("test"), &format!("{ended} {STATE}"));
        assert!(error.is_retryable(), "{error}");
        let foreign = "error:0A000086:SSL routines::certificate verify failed";
        let error = told(&LogContext::new("test"), &format!("{foreign} {STATE}"));
        assert!(matches!(error, LogError::Tls(_)), "{error}");
        assert!(
            error
                .to_string()
                .contains("certificate could not be verified"),
            "{error}"
        );
    }
}
