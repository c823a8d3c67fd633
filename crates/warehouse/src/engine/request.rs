//! One HTTP request as the engine understands it: statement, data, format, settings, parameters.

use axum::http::{HeaderMap, Method, header};
use bytes::Bytes;

use super::decoding::{self, DecodingError};

/// Query parameters that are not settings.
const NOT_SETTINGS: [&str; 17] = [
    "query",
    "database",
    "default_format",
    "session_id",
    "session_timeout",
    "session_check",
    "query_id",
    "quota_key",
    "compress",
    "decompress",
    "wait_end_of_query",
    "buffer_size",
    "client_protocol_version",
    "role",
    "user",
    "password",
    "stacktrace",
];

/// A request, decoded.
#[derive(Debug, Default)]
pub(super) struct EngineRequest {
    /// SQL, with an INSERT's data behind it.
    pub text: Vec<u8>,
    pub database: Option<String>,
    pub default_format: Option<String>,
    pub query_id: String,
    pub session: Option<String>,
    pub client_revision: u32,
    pub settings: Vec<(String, String)>,
    pub parameters: Vec<(String, String)>,
    /// A GET changes nothing.
    pub readonly: bool,
}

impl EngineRequest {
    pub(super) async fn decode(
        method: &Method,
        query: Vec<(String, String)>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Self, DecodingError> {
        let text_of = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let mut request = Self {
            readonly: method != Method::POST && method != Method::PUT,
            ..Self::default()
        };
        let mut decompress = false;
        let mut sql = String::new();
        request.database = text_of("x-clickhouse-database").map(str::to_owned);
        request.default_format = text_of("x-clickhouse-format").map(str::to_owned);
        for (name, value) in query {
            match name.as_str() {
                "query" => sql = value,
                "decompress" => decompress = value == "1",
                _ => request.set(name, value),
            }
        }
        let mut body = decoding::content(text_of(header::CONTENT_ENCODING.as_str()), body)?;
        if decompress {
            body = decoding::clickhouse_blocks(body)?;
        }
        let content_type = text_of(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if content_type.starts_with("multipart/form-data") {
            for (name, value) in decoding::multipart(content_type, body).await? {
                let value = String::from_utf8_lossy(&value).into_owned();
                if name == "query" {
                    sql = value
                } else {
                    request.set(name, value)
                }
            }
            body = Bytes::new();
        }
        request.text = sql.into_bytes();
        if !request.text.is_empty() && !body.is_empty() {
            request.text.push(b'\n');
        }
        request.text.extend_from_slice(&body);
        if request.query_id.is_empty() {
            request.query_id = uuid::Uuid::new_v4().to_string();
        }
        Ok(request)
    }

    fn set(&mut self, name: String, value: String) {
        match name.as_str() {
            "database" => self.database = Some(value),
            "default_format" => self.default_format = Some(value),
            "query_id" => self.query_id = value,
            "session_id" => self.session = Some(value),
            "client_protocol_version" => self.client_revision = value.parse().unwrap_or(0),
            other if NOT_SETTINGS.contains(&other) => {}
            other => match other.strip_prefix("param_") {
                Some(parameter) => self.parameters.push((parameter.to_owned(), value)),
                None => self.settings.push((name, value)),
            },
        }
    }

    /// The statement that puts the settings in force on a handle; `None` where there is none.
    pub(super) fn settings_statement(&self) -> Option<String> {
        let mut assignments: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("`{}`='{}'", escape(name, '`'), escape(value, '\'')))
            .collect();
        if self.readonly {
            assignments.push("readonly=2".into());
        }
        (!assignments.is_empty()).then(|| format!("SET {}", assignments.join(", ")))
    }

    /// The statement that selects the database; `None` for the default one.
    pub(super) fn database_statement(&self) -> Option<String> {
        let database = self.database.as_deref().filter(|name| !name.is_empty())?;
        Some(format!("USE `{}`", escape(database, '`')))
    }
}

fn escape(text: &str, quote: char) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' || c == quote {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
