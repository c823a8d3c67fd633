//! ClickHouse's HTTP interface over the engine: `/`, `/ping`, `/replicas_status`.
//!
//! Each request gets a handle of its own, so that settings do not leak; a `session_id` keeps one handle for its requests.
//! Answers are whole before they are sent, so an error always has its own status.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::routing::{any, get};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::exception;
use super::hello;
use super::library::{Answer, EngineError, Handle, Library};
use super::request::EngineRequest;
use super::statement;

/// Statements that run at once; more wait (INV-6).
const MAX_RUNNING: usize = 16;
/// Statements that may wait; more are answered 503.
const MAX_WAITING: usize = 256;
/// Sessions kept; the least recently used one goes first.
const MAX_SESSIONS: usize = 64;
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const TIMEZONE: &str = "Asia/Shanghai";

/// What the engine may use.
#[derive(Debug, Clone, Copy)]
pub struct EngineBounds {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Threads for Kafka tables; without any, such a table reads nothing.
    pub kafka_consumers: u32,
}

/// Arguments of the first handle: a small machine's caches and pools.
fn server_arguments(bounds: EngineBounds) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--mark_cache_size=67108864",
        "--primary_index_cache_size=33554432",
        "--index_mark_cache_size=1048576",
        "--query_condition_cache_size=1048576",
        "--background_pool_size=2",
        "--background_schedule_pool_size=1",
        "--background_common_pool_size=1",
        "--max_thread_pool_size=200",
        "--max_thread_pool_free_size=0",
        "--compiled_expression_cache_size=0",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--max_server_memory_usage={}", bounds.memory_bytes));
    if bounds.kafka_consumers > 0 {
        arguments.push(format!(
            "--background_message_broker_schedule_pool_size={}",
            bounds.kafka_consumers
        ));
    }
    arguments
}

/// Arguments of every handle: an insert is one block, all or nothing, and visible when answered. Nothing is compiled to
/// machine code: without a cache for it, each statistics query would be compiled anew, for up to 150 ms.
const HANDLE_ARGUMENTS: [&str; 10] = [
    "--async_insert=0",
    "--implicit_select=0",
    "--compile_expressions=0",
    "--compile_aggregate_expressions=0",
    "--compile_sort_description=0",
    "--max_threads=2",
    "--max_insert_block_size=10000000",
    "--min_insert_block_size_rows=10000000",
    "--min_insert_block_size_bytes=0",
    "--max_insert_block_size_bytes=0",
];

struct Session {
    handle: Arc<Mutex<Handle>>,
    used: Instant,
}

/// The engine, open on a data folder.
pub struct EngineServer {
    library: Arc<Library>,
    data: PathBuf,
    sessions: Mutex<HashMap<String, Session>>,
    running: Semaphore,
    waiting: AtomicUsize,
    version: String,
    /// Keeps the engine up between requests.
    _base: Mutex<Handle>,
}

impl EngineServer {
    /// Loads the library and opens the data folder.
    pub fn open(
        library: &Path,
        data: &Path,
        bounds: EngineBounds,
    ) -> Result<Arc<Self>, EngineError> {
        let library = Library::load(library)?;
        let mut arguments = server_arguments(bounds);
        arguments.extend(HANDLE_ARGUMENTS.map(str::to_owned));
        let mut base = Handle::connect(&library, data, &arguments)?;
        let version = base
            .query(b"SELECT version()", "TabSeparated", &[])
            .map(|answer| String::from_utf8_lossy(&answer.body).trim().to_owned())
            .unwrap_or_default();
        Ok(Arc::new(Self {
            library,
            data: data.to_owned(),
            sessions: Mutex::default(),
            running: Semaphore::new(MAX_RUNNING),
            waiting: AtomicUsize::new(0),
            version,
            _base: Mutex::new(base),
        }))
    }

    fn handle(&self, session: Option<&str>) -> Result<Arc<Mutex<Handle>>, EngineError> {
        let connect = || {
            let arguments = HANDLE_ARGUMENTS.map(str::to_owned);
            Handle::connect(&self.library, &self.data, &arguments).map(|h| Arc::new(Mutex::new(h)))
        };
        let Some(session) = session else {
            return connect();
        };
        let mut sessions = self.sessions.lock();
        let now = Instant::now();
        sessions.retain(|_, session| now - session.used < SESSION_TIMEOUT);
        if let Some(found) = sessions.get_mut(session) {
            found.used = now;
            return Ok(Arc::clone(&found.handle));
        }
        if sessions.len() >= MAX_SESSIONS {
            let oldest = sessions
                .iter()
                .min_by_key(|(_, s)| s.used)
                .map(|(name, _)| name.clone());
            sessions.remove(&oldest.unwrap_or_default());
        }
        let handle = connect()?;
        sessions.insert(
            session.to_owned(),
            Session {
                handle: Arc::clone(&handle),
                used: now,
            },
        );
        Ok(handle)
    }

    /// Runs a request to its end. Blocks.
    fn run(&self, request: &EngineRequest) -> Result<Answer, String> {
        let text = request.text.trim_ascii();
        if text == hello::QUERY.as_bytes() && request.client_revision > 0 {
            let body = hello::answer(request.client_revision, &self.version, TIMEZONE);
            return Ok(Answer {
                body,
                ..Answer::default()
            });
        }
        let unusable =
            |error: EngineError| format!("Code: 210. DB::Exception: {error}. (NETWORK_ERROR)");
        let handle = self.handle(request.session.as_deref()).map_err(unusable)?;
        let mut handle = handle.lock();
        let outcome = run_on(&mut handle, request);
        if outcome.is_err() && request.session.is_some() {
            // A failed statement leaves partial output behind on its handle; an empty one takes it away.
            let _ = handle.query(b"SELECT 1", "Null", &[]);
        }
        outcome
    }
}

fn run_on(handle: &mut Handle, request: &EngineRequest) -> Result<Answer, String> {
    let statements = [request.database_statement(), request.settings_statement()];
    for statement in statements.into_iter().flatten() {
        handle.query(statement.as_bytes(), "Null", &[])?;
    }
    let is_blank = request.text.trim_ascii().is_empty();
    if is_blank {
        return Err("Code: 62. DB::Exception: Empty query. (SYNTAX_ERROR)".into());
    }
    if let Some(parts) = statement::split_insert(&request.text) {
        if request.readonly {
            return Err(
                "Code: 164. DB::Exception: Cannot insert with GET; use POST. (READONLY)".into(),
            );
        }
        return handle.insert(parts.sql, parts.format, parts.data);
    }
    if let Some(classified) = handle.classify(&request.text) {
        if classified.statements > 1 {
            return Err(
                "Code: 62. DB::Exception: Multi-statements are not allowed. (SYNTAX_ERROR)".into(),
            );
        }
        // The engine's library would write the file itself, whatever `readonly` says.
        if classified.is_control && mentions_outfile(&request.text) {
            return Err(
                "Code: 358. DB::Exception: INTO OUTFILE is not allowed. (INTO_OUTFILE_NOT_ALLOWED)"
                    .into(),
            );
        }
    }
    let format = request.default_format.as_deref().unwrap_or("TabSeparated");
    handle.query(&request.text, format, &request.parameters)
}

fn mentions_outfile(text: &[u8]) -> bool {
    let word = b"OUTFILE";
    text.windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

/// Serves the interface until `shutdown` resolves, then lets running statements end.
pub async fn serve(
    engine: Arc<EngineServer>,
    address: SocketAddr,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), EngineError> {
    let failed = |source| EngineError::Serve {
        address: address.to_string(),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let router = Router::new()
        .route("/", any(statement_route))
        .route("/ping", get(|| async { "Ok.\n" }))
        .route("/replicas_status", get(|| async { "Ok.\n" }))
        .with_state(engine);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
        .map_err(failed)
}

async fn statement_route(
    State(engine): State<Arc<EngineServer>>,
    method: Method,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let body = match axum::body::to_bytes(body, super::decoding::MAX_BODY).await {
        Ok(body) => body,
        Err(error) => {
            return refuse(&format!(
                "Code: 229. DB::Exception: {error}. (QUERY_IS_TOO_LARGE)"
            ));
        }
    };
    if method == Method::GET && query.is_empty() && body.is_empty() {
        return text_response(StatusCode::OK, "Ok.\n".into());
    }
    let request = match EngineRequest::decode(&method, query, &headers, body).await {
        Ok(request) => request,
        Err(error) => {
            return refuse(&format!(
                "Code: 117. DB::Exception: {error}. (INCORRECT_DATA)"
            ));
        }
    };
    if engine.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
        engine.waiting.fetch_sub(1, Ordering::Relaxed);
        return refuse(
            "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)",
        );
    }
    let permit = engine.running.acquire().await;
    engine.waiting.fetch_sub(1, Ordering::Relaxed);
    let Ok(_permit) = permit else {
        return refuse("Code: 210. DB::Exception: The engine is shutting down. (NETWORK_ERROR)");
    };
    let runner = Arc::clone(&engine);
    let finished = tokio::task::spawn_blocking(move || {
        let outcome = runner.run(&request);
        (request, outcome)
    });
    match finished.await {
        Ok((request, Ok(answer))) => answer_response(&request, answer),
        Ok((_, Err(error))) => refuse(&error),
        Err(error) => refuse(&format!(
            "Code: 1002. DB::Exception: {error}. (UNKNOWN_EXCEPTION)"
        )),
    }
}

fn answer_response(request: &EngineRequest, answer: Answer) -> Response<Body> {
    let format = request.default_format.as_deref().unwrap_or("TabSeparated");
    let summary = format!(
        r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","total_rows_to_read":"{}","result_rows":"{}","result_bytes":"{}","elapsed_ns":"{}"}}"#,
        answer.read_rows,
        answer.read_bytes,
        answer.written_rows,
        answer.written_bytes,
        answer.read_rows,
        answer.result_rows,
        answer.result_bytes,
        answer.elapsed_ns,
    );
    let mut response = Response::new(Body::from(answer.body));
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("content-type", content_type(format));
    put("x-clickhouse-server-display-name", "tongxing");
    put("x-clickhouse-query-id", &request.query_id);
    put("x-clickhouse-format", format);
    put("x-clickhouse-timezone", TIMEZONE);
    put("x-clickhouse-summary", &summary);
    response
}

fn content_type(format: &str) -> &'static str {
    match format {
        "TabSeparated" | "TabSeparatedWithNames" | "TSV" => {
            "text/tab-separated-values; charset=UTF-8"
        }
        "CSV" | "CSVWithNames" => "text/csv; charset=UTF-8",
        "JSONEachRow" => "application/x-ndjson; charset=UTF-8",
        json if json.starts_with("JSON") => "application/json; charset=UTF-8",
        "Native" | "RowBinary" | "RowBinaryWithNamesAndTypes" => "application/octet-stream",
        _ => "text/plain; charset=UTF-8",
    }
}

fn refuse(error: &str) -> Response<Body> {
    let code = exception::code_of(error);
    let mut response = text_response(
        exception::status_of(code),
        format!("{}\n", error.trim_end()),
    );
    response
        .headers_mut()
        .insert("x-clickhouse-exception-code", HeaderValue::from(code));
    response
}

fn text_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
