//! The client: sealed inserts, typed reads, and errors by what the caller can do.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Compression};
use serde::de::DeserializeOwned;

use crate::topology::Topology;

/// How long a statement may take unless the caller says otherwise.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the store is.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `http://host:port`.
    pub url: String,
    /// The database.
    pub database: String,
    /// The user, where the server asks for one.
    pub user: Option<String>,
    /// The password, where the server asks for one.
    pub password: Option<String>,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Retry: the store is away, too slow, or overloaded. Whether the statement took effect is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Give up on this data: the store refuses it for what it is.
    #[error("the store refuses the data: {0}")]
    DataRefused(String),
    /// Claim the partition again, or let it go: someone else has claimed it since. Nothing was inserted.
    #[error("the store refuses an insert under an older claim: {0}")]
    Fenced(String),
    /// Fix the schema or the statement; the same call fails again.
    #[error("the store refuses the statement: {0}")]
    StatementRefused(String),
    /// The answer is not what the statement promises.
    #[error("the store's answer cannot be read: {0}")]
    Answer(String),
}

/// What ClickHouse says of data it cannot take: these codes, and no others, make a batch a suspect.
///
/// | code | name |
/// |---|---|
/// | 6 | `CANNOT_PARSE_TEXT` |
/// | 27 | `CANNOT_PARSE_INPUT_ASSERTION_FAILED` |
/// | 32, 33 | `ATTEMPT_TO_READ_AFTER_EOF`, `CANNOT_READ_ALL_DATA` |
/// | 36 | `BAD_ARGUMENTS` |
/// | 53, 70 | `TYPE_MISMATCH`, `CANNOT_CONVERT_TYPE` |
/// | 69 | `ARGUMENT_OUT_OF_BOUND` |
/// | 117 | `INCORRECT_DATA` |
/// | 131 | `TOO_LARGE_STRING_SIZE` |
/// | 349 | `CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN` |
/// | 395 | `FUNCTION_THROW_IF_VALUE_IS_NON_ZERO` |
/// | 691 | `UNKNOWN_ELEMENT_OF_ENUM` |
const DATA_CODES: [u32; 13] = [6, 27, 32, 33, 36, 53, 69, 70, 117, 131, 349, 395, 691];

/// `SYNTAX_ERROR`, `UNKNOWN_FUNCTION`, `UNKNOWN_IDENTIFIER`, `NO_SUCH_COLUMN_IN_TABLE`, `UNKNOWN_TABLE`,
/// `UNKNOWN_DATABASE`, `ILLEGAL_TYPE_OF_ARGUMENT`, `UNKNOWN_SETTING`, `ILLEGAL_AGGREGATION`, `AUTHENTICATION_FAILED`,
/// `ACCESS_DENIED`.
const STATEMENT_CODES: [u32; 11] = [62, 46, 47, 16, 60, 81, 43, 115, 184, 516, 497];

/// `VIOLATED_CONSTRAINT`: the raw table has one constraint, of who may insert.
const FENCED_CODE: u32 = 469;

impl StoreError {
    /// Whether the same call may succeed later without anyone's help.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether an insert that ended so is settled by claiming again and counting what is there.
    pub const fn leaves_outcome_open(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Fenced(_))
    }

    fn classify(error: &clickhouse::error::Error) -> Self {
        let text = error.to_string();
        match error {
            clickhouse::error::Error::BadResponse(answer) => match code_of(answer) {
                Some(FENCED_CODE) => Self::Fenced(text),
                Some(code) if DATA_CODES.contains(&code) => Self::DataRefused(text),
                Some(code) if STATEMENT_CODES.contains(&code) => Self::StatementRefused(text),
                _ => Self::Unavailable(text),
            },
            clickhouse::error::Error::InvalidParams(_) => Self::StatementRefused(text),
            _ => Self::Unavailable(text),
        }
    }
}

fn code_of(answer: &str) -> Option<u32> {
    let rest = answer.trim_start().strip_prefix("Code: ")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// A connection to ClickHouse, embedded or a server.
#[derive(Clone)]
pub struct Store {
    client: Client,
    database: String,
    topology: Topology,
    timeout: Duration,
}

impl Store {
    /// A store at a URL. Connects at the first statement.
    pub fn new(config: &StoreConfig) -> Self {
        let mut client = Client::default()
            .with_url(&config.url)
            .with_database(&config.database)
            .with_compression(Compression::None)
            .with_setting("output_format_json_quote_64bit_integers", "0");
        if let Some(user) = &config.user {
            client = client.with_user(user);
        }
        if let Some(password) = &config.password {
            client = client.with_password(password);
        }
        Self {
            client,
            database: config.database.clone(),
            topology: Topology::SingleServer,
            timeout: STATEMENT_TIMEOUT,
        }
    }

    /// The same store with another limit on statements other than inserts of batches.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same store as one server of a cluster, or as a server on its own.
    #[must_use]
    pub fn with_topology(mut self, topology: Topology) -> Self {
        for (name, value) in topology.settings() {
            self.client = self.client.with_setting(*name, *value);
        }
        self.topology = topology;
        self
    }

    /// One server, or a cluster.
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The database whose tables hold the rows.
    pub fn shard_database(&self) -> String {
        self.topology.shard_database(&self.database)
    }

    /// The database that statements run in.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same store without a database, for what concerns whole databases.
    pub(crate) fn without_database(&self) -> Self {
        self.in_database("default")
    }

    /// The same store with another database as the current one.
    pub(crate) fn in_database(&self, database: &str) -> Self {
        Self {
            client: self.client.clone().with_database(database),
            database: database.to_owned(),
            topology: self.topology.clone(),
            timeout: self.timeout,
        }
    }

    /// Runs a statement that answers nothing.
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        within(self.timeout, self.client.query_raw(sql).execute()).await
    }

    /// Runs a read and answers its rows; a parameter `{name:Type}` takes its value from `parameters`.
    pub async fn rows<T: DeserializeOwned>(
        &self,
        sql: &str,
        parameters: &[(&str, String)],
    ) -> Result<Vec<T>, StoreError> {
        let bytes = self.read(sql, parameters, "JSONEachRow").await?;
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).map_err(|e| StoreError::Answer(e.to_string())))
            .collect()
    }

    /// Runs a read that answers one row.
    pub async fn row<T: DeserializeOwned>(
        &self,
        sql: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, StoreError> {
        let rows = self.rows(sql, parameters).await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| StoreError::Answer("no row".into()))
    }

    /// Runs a read and answers its bytes in a format.
    pub async fn read(
        &self,
        sql: &str,
        parameters: &[(&str, String)],
        format: &str,
    ) -> Result<Bytes, StoreError> {
        let mut query = self.client.query_raw(sql);
        for (name, value) in parameters {
            query = query.param(name, value);
        }
        let mut cursor = query
            .fetch_bytes(format)
            .map_err(|e| StoreError::classify(&e))?;
        within(self.timeout, cursor.collect()).await
    }

    /// Inserts a sealed batch, whole. After [`StoreError::Unavailable`] the batch may be there, absent, or there in part.
    pub async fn insert(&self, statement: &str, data: Bytes) -> Result<(), StoreError> {
        let mut insert = self
            .client
            .insert_formatted_with(statement)
            .with_timeouts(Some(self.timeout), Some(self.timeout));
        within(self.timeout * 2, async move {
            insert.send(data).await?;
            insert.end().await
        })
        .await
    }
}

async fn within<T>(
    limit: Duration,
    statement: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, statement).await {
        Ok(outcome) => outcome.map_err(|error| StoreError::classify(&error)),
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}
