//! Clients that are asked questions and follow nothing.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::context::LogContext;
use crate::error::LogError;

/// A client for questions.
///
/// Nobody polls it but [`Asking::settle`], so it keeps no statistics: they would pile up in it.
pub(super) struct Asking {
    pub(super) client: BaseConsumer<LogContext>,
}

impl Asking {
    pub(super) fn new(mut config: ClientConfig, role: &'static str) -> Result<Self, LogError> {
        let client = config
            .set("statistics.interval.ms", "0")
            .create_with_context(LogContext::new(role))
            .map_err(|error| LogError::Options(error.to_string()))?;
        Ok(Self { client })
    }

    /// What a question's outcome means, after the client has told its context what happened meanwhile.
    pub(super) fn settle<T>(
        &self,
        what: &str,
        outcome: Result<T, KafkaError>,
    ) -> Result<T, LogError> {
        self.listen();
        self.client.context().settle(what, outcome)
    }

    /// Lets the client tell its context what happened.
    pub(super) fn listen(&self) {
        while self.client.poll(Duration::ZERO).is_some() {}
    }
}
