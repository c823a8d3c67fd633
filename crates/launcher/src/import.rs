//! `tongxing import`: a file of NDJSON or CSV to ingest, in batches on several connections, with progress and a report of refused lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use futures::StreamExt;
use loadtest::client::{Client, Endpoint};
use parking_lot::Mutex;

use crate::cli::ImportOptions;
use crate::keys;

/// How far the tool lets others go first, in steps of `nice`.
pub const STANDS_BACK: u8 = 10;
/// Lines sent at once: as many as one request takes. The log syncs less often for the same lines.
const BATCH_LINES: usize = ingest::bulk::MAX_ITEMS;
/// Bytes sent at once; the line that passes them is the batch's last.
const BATCH_BYTES: usize = 4 << 20;
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
    let endpoint = Endpoint::parse(&options.ingest_url).context("ingest_url")?;
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
    let batches = Batches::open(&options.file, is_csv)?;
    let started = Instant::now();
    let (mut sent, mut refused, mut shown) = (0, 0, started);
    let sending = futures::stream::iter(batches).map(|batch| {
        let client = clients.lock().pop();
        let endpoint = (&endpoint, &secret);
        let clients = &clients;
        async move {
            let batch = batch?;
            let mut client =
                client.unwrap_or_else(|| Client::new(endpoint.0.clone(), endpoint.1.clone()));
            let refusals = send(&mut client, options.kind, is_csv, &batch).await?;
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

fn is_csv(file: &Path) -> bool {
    file.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// Sends a batch; answers what is to be said of each refused line.
async fn send(
    client: &mut Client,
    kind: ImportKind,
    is_csv: bool,
    batch: &LineBatch,
) -> Result<Vec<String>> {
    let content_type = if is_csv {
        "text/csv"
    } else {
        "application/x-ndjson"
    };
    let answer = client
        .post_for_refusals(kind.path(), content_type, batch.body.clone())
        .await?;
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
    let refusals = results.iter().filter_map(|result| {
        let problem = result.get("problem")?;
        let item = result["index"].as_u64().unwrap_or(0) as usize;
        let line = batch.first_line + batch.blank_before(item);
        let (field, detail) = (&problem["field"], &problem["detail"]);
        Some(format!("line {line}: {field}: {detail}"))
    });
    Ok(refusals.collect())
}

/// Some lines of the file.
struct LineBatch {
    body: Bytes,
    /// The number of the first line, counted from 1.
    first_line: usize,
    /// Lines, the blank ones among them.
    lines: usize,
    /// Of each blank line, its place in the batch.
    blank: Vec<usize>,
}

impl LineBatch {
    /// The place in the batch of an item, which blank lines are not.
    fn blank_before(&self, item: usize) -> usize {
        let mut place = item;
        for blank in &self.blank {
            if *blank <= place {
                place += 1;
            }
        }
        place
    }
}

/// Reads a file batch by batch.
struct Batches {
    reader: BufReader<File>,
    /// The header of CSV, repeated before each batch.
    header: Vec<u8>,
    next_line: usize,
}

impl Batches {
    fn open(file: &Path, is_csv: bool) -> Result<Self> {
        let opened = File::open(file).with_context(|| format!("read {}", file.display()))?;
        let mut reader = BufReader::with_capacity(1 << 20, opened);
        let mut header = Vec::new();
        let mut next_line = 1;
        if is_csv {
            reader.read_until(b'\n', &mut header)?;
            next_line = 2;
        }
        Ok(Self {
            reader,
            header,
            next_line,
        })
    }

    fn read(&mut self) -> io::Result<Option<LineBatch>> {
        let mut body = self.header.clone();
        let first_line = self.next_line;
        let (mut lines, mut blank) = (0, Vec::new());
        while lines < BATCH_LINES && body.len() < BATCH_BYTES {
            let begin = body.len();
            if self.reader.read_until(b'\n', &mut body)? == 0 {
                break;
            }
            if body[begin..].trim_ascii().is_empty() {
                blank.push(lines);
            }
            lines += 1;
        }
        self.next_line += lines;
        Ok((lines > 0).then(|| LineBatch {
            body: body.into(),
            first_line,
            lines,
            blank,
        }))
    }
}

impl Iterator for Batches {
    type Item = io::Result<LineBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn batches(text: &str, is_csv: bool) -> Vec<LineBatch> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let batches = Batches::open(file.path(), is_csv).unwrap();
        batches.map(Result::unwrap).collect()
    }

    #[test]
    fn a_refused_item_is_found_in_the_file_by_its_line_number() {
        let read = batches("{}\n\n\n{}\n{}", false);
        assert_eq!(read.len(), 1);
        let place = |item| read[0].first_line + read[0].blank_before(item);
        assert_eq!([place(0), place(1), place(2)], [1, 4, 5]);
    }

    #[test]
    fn each_batch_of_csv_begins_with_the_header() {
        let text = format!("kind,number\n{}", "a,b\n".repeat(BATCH_LINES + 1));
        let read = batches(&text, true);
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].body, "kind,number\na,b\n");
        assert_eq!(
            (read[0].first_line, read[1].first_line),
            (2, BATCH_LINES + 2)
        );
    }
}
