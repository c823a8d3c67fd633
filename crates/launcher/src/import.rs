//! `tongxing import`: a file of NDJSON or CSV to ingest, in batches on several connections, with progress and a report of refused lines.

mod batches;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use futures::StreamExt;
use loadtest::client::{Client, ClientError, Endpoint};
use parking_lot::Mutex;

use self::batches::{Batches, LineBatch};
use crate::cli::ImportOptions;
use crate::keys;

/// How far the tool lets others go first, in steps of `nice`.
pub const STANDS_BACK: u8 = 10;
/// How long a batch is sent again while ingest is away or takes nothing, before the import ends.
const PATIENCE: Duration = Duration::from_secs(300);
/// Rests between, doubled from the first to the longest.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What a file holds.
#[derive(Clone, Copy, ValueEnum)]
pub enum ImportKind {
    /// Persons, as POST /v1/persons takes them.
    Persons,
    /// Facts, as POST /v1/facts takes them.
    Facts,
    /// Venues.
    Venues,
    /// Grids.
    Grids,
    /// Compounds.
    Compounds,
}

impl ImportKind {
    const fn path(self) -> &'static str {
        match self {
            Self::Persons => "/v1/persons:import",
            Self::Facts => "/v1/facts:import",
            Self::Venues => "/v1/venues:import",
            Self::Grids => "/v1/grids:import",
            Self::Compounds => "/v1/compounds:import",
        }
    }

    const fn takes_csv(self) -> bool {
        matches!(self, Self::Persons | Self::Facts)
    }

    /// Whether batches may be under way together. Of two lines about one fact or one site, the later one counts.
    const fn takes_any_order(self) -> bool {
        matches!(self, Self::Persons)
    }
}

/// Sends the file; fails if any line was refused.
pub async fn run(options: ImportOptions) -> Result<()> {
    let secret = keys::read_secret(&options.secret_file)?;
    let endpoint = endpoint(&options)?;
    let is_csv = is_csv(&options.file);
    if is_csv && !options.kind.takes_csv() {
        bail!("file: only persons and facts are taken as CSV; send NDJSON");
    }
    let connections = if options.kind.takes_any_order() {
        usize::from(options.connections)
    } else {
        1
    };
    let clients: Vec<_> = (0..connections)
        .map(|_| Client::new(endpoint.clone(), secret.clone()))
        .collect();
    let clients = Mutex::new(clients);
    let has_answered = AtomicBool::new(false);
    let batches = Batches::open(&options.file, is_csv)?;
    let started = Instant::now();
    let (mut sent, mut refused, mut shown) = (0, 0, started);
    let sending = futures::stream::iter(batches).map(|batch| {
        let client = clients.lock().pop();
        let endpoint = (&endpoint, &secret);
        let (clients, has_answered) = (&clients, &has_answered);
        async move {
            let batch = batch?;
            let mut client =
                client.unwrap_or_else(|| Client::new(endpoint.0.clone(), endpoint.1.clone()));
            let refusals = send(&mut client, options.kind, is_csv, &batch, has_answered).await?;
            clients.lock().push(client);
            anyhow::Ok((batch.lines, refusals))
        }
    });
    let mut answers = sending.buffered(connections);
    while let Some(answer) = answers.next().await {
        let (lines, refusals) = answer?;
        for refusal in &refusals {
            println!("{refusal}");
        }
        sent += lines;
        refused += refusals.len();
        if shown.elapsed() > PROGRESS_INTERVAL {
            shown = Instant::now();
            let rate = sent as f64 / started.elapsed().as_secs_f64();
            eprint!("\r{sent} lines sent, {refused} refused, {rate:.0}/s ");
        }
    }
    let rate = sent as f64 / started.elapsed().as_secs_f64();
    eprintln!("\r{sent} lines sent, {refused} refused, {rate:.0}/s ");
    println!("{sent} lines sent, {refused} refused");
    if refused > 0 {
        bail!("{refused} lines were refused; the others went through");
    }
    Ok(())
}

/// Where ingest is. Documents, names and the secret go there in clear, so beyond loopback only where that is said to be meant.
fn endpoint(options: &ImportOptions) -> Result<Endpoint> {
    let url = &options.ingest_url;
    if options.allow_plaintext {
        return Endpoint::parse_beyond_loopback(url).context("ingest_url");
    }
    Endpoint::parse(url).context(
        "ingest_url: beyond loopback, --allow-plaintext says that the network between may read along",
    )
}

fn is_csv(file: &Path) -> bool {
    file.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// What became of a batch.
enum Sent {
    /// Ingest has taken it, but for lines of which this is to be said.
    Taken(Vec<String>),
    /// Ingest takes it later, whole: what it has taken of it already changes nothing.
    Later(String),
}

/// Sends a batch until ingest takes it; answers what is to be said of each refused line. An ingest that has never answered is not waited
/// for: its address may be wrong.
async fn send(
    client: &mut Client,
    kind: ImportKind,
    is_csv: bool,
    batch: &LineBatch,
    has_answered: &AtomicBool,
) -> Result<Vec<String>> {
    let started = Instant::now();
    let mut rest = FIRST_REST;
    loop {
        let sent = send_once(client, kind, is_csv, batch).await;
        has_answered.fetch_or(sent.is_ok(), Ordering::Relaxed);
        let reason = match sent {
            Ok(Sent::Taken(refusals)) => return Ok(refusals),
            Ok(Sent::Later(reason)) => reason,
            Err(error) if error.is::<ClientError>() && has_answered.load(Ordering::Relaxed) => {
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        let first = batch.first_line;
        if started.elapsed() > PATIENCE {
            bail!("from line {first}: {reason}; all lines before it went through");
        }
        eprintln!("\rfrom line {first}: {reason}; sent again in {rest:?}");
        tokio::time::sleep(rest).await;
        rest = (rest * 2).min(LONGEST_REST);
    }
}

async fn send_once(
    client: &mut Client,
    kind: ImportKind,
    is_csv: bool,
    batch: &LineBatch,
) -> Result<Sent> {
    let content_type = if is_csv {
        "text/csv"
    } else {
        "application/x-ndjson"
    };
    let answer = client
        .post_for_refusals(kind.path(), content_type, batch.body.clone())
        .await?;
    if matches!(answer.status, 429 | 503) {
        return Ok(Sent::Later(answer.text()));
    }
    if answer.status != 200 {
        let first = batch.first_line;
        bail!(
            "from line {first}: ingest answered {}: {}",
            answer.status,
            answer.text()
        );
    }
    let results: Vec<serde_json::Value> = if answer.body.starts_with(b"{\"accepted\"") {
        let mut answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
        serde_json::from_value(answer["results"].take())?
    } else {
        let lines = answer.text();
        let results: Result<_, _> = lines.lines().map(serde_json::from_str).collect();
        results?
    };
    let is_later = |result: &&serde_json::Value| result["status"] == 503;
    if let Some(result) = results.iter().find(is_later) {
        return Ok(Sent::Later(result["problem"]["detail"].to_string()));
    }
    let refusals = results.iter().filter_map(|result| {
        let problem = result.get("problem")?;
        let item = result["index"].as_u64().unwrap_or(0) as usize;
        let line = batch.line_of(item);
        let detail = &problem["detail"];
        Some(match problem.get("field") {
            Some(field) => format!("line {line}: {field}: {detail}"),
            None => format!("line {line}: {detail}"),
        })
    });
    Ok(Sent::Taken(refusals.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn batch_of(text: &str) -> LineBatch {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut batches = Batches::open(file.path(), false).unwrap();
        batches.next().unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_batch_that_ingest_takes_later_is_sent_again_whole() {
        let answers = [
            (503, r#"{"detail": "the log is away"}"#),
            (429, r#"{"detail": "slow down"}"#),
            (
                200,
                r#"{"index": 1, "status": 503, "problem": {"detail": "the log is away"}}"#,
            ),
            (
                200,
                r#"{"index": 1, "status": 422, "problem": {"field": "name", "detail": "is required"}}"#,
            ),
        ];
        let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&asked);
        let answer = move |body: String| {
            let mut asked = seen.lock();
            let (status, text) = answers[asked.len()];
            asked.push(body);
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            std::future::ready((status, text))
        };
        let router = axum::Router::new().route("/v1/persons:import", axum::routing::post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut client = Client::new(Endpoint::parse(&endpoint).unwrap(), "secret".into());
        let batch = &batch_of("{}\n{}\n");
        let never = AtomicBool::new(false);
        let refusals = send(&mut client, ImportKind::Persons, false, batch, &never);
        assert_eq!(
            refusals.await.unwrap(),
            [r#"line 2: "name": "is required""#]
        );
        assert_eq!(*asked.lock(), ["{}\n{}\n"; 4]);
    }

    #[tokio::test]
    async fn an_ingest_that_never_answered_is_not_waited_for() {
        let mut client = Client::new(
            Endpoint::parse("http://127.0.0.1:9").unwrap(),
            "secret".into(),
        );
        let batch = &batch_of("{}\n");
        let never = AtomicBool::new(false);
        let refused = send(&mut client, ImportKind::Persons, false, batch, &never);
        assert!(refused.await.is_err());
    }
}
