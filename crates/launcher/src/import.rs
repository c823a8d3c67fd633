//! `tongxing import`: a file of NDJSON to ingest, in batches, with progress and a report of refused lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use loadtest::client::{Client, Endpoint};

use crate::cli::ImportOptions;
use crate::keys;

/// Lines sent at once.
const BATCH: usize = 2000;

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
}

/// Sends the file; fails if any line was refused.
pub async fn run(options: ImportOptions) -> Result<()> {
    let secret = keys::read_secret(&options.secret_file)?;
    let endpoint = Endpoint::parse(&options.ingest_url).context("ingest_url")?;
    let mut client = Client::new(endpoint, secret);
    let file =
        File::open(&options.file).with_context(|| format!("read {}", options.file.display()))?;
    let started = Instant::now();
    let (mut sent, mut refused) = (0_usize, 0_usize);
    let mut lines = BufReader::new(file).lines();
    loop {
        let batch: Vec<String> = lines.by_ref().take(BATCH).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let body = batch.join("\n");
        let answer = client
            .post(options.kind.path(), "application/x-ndjson", body.into())
            .await?;
        if answer.status != 200 {
            bail!("ingest answered {}: {}", answer.status, answer.text());
        }
        for result in answer.text().lines() {
            let result: serde_json::Value = serde_json::from_str(result)?;
            let Some(problem) = result.get("problem") else {
                continue;
            };
            refused += 1;
            let line = sent + result["index"].as_u64().unwrap_or(0) as usize + 1;
            let (field, detail) = (&problem["field"], &problem["detail"]);
            println!("line {line}: {field}: {detail}");
        }
        sent += batch.len();
        let rate = sent as f64 / started.elapsed().as_secs_f64();
        eprint!("\r{sent} lines sent, {refused} refused, {rate:.0}/s ");
    }
    eprintln!();
    println!("{sent} lines sent, {refused} refused");
    if refused > 0 {
        bail!("{refused} lines were refused; the others went through");
    }
    Ok(())
}
