//! `tongxing dead-letters`: records that could not be stored, listed, explained and sent again.

use aggregator::dead_letters::{
    self, Explanation, Letter, Letters, RedriveError, explaining, redrive,
};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use event_log::{Offset, SharedLog};
use scan_model::scan_json;
use serde_json::json;

use crate::tool_log::ToolLogOptions;

/// What is to be done.
#[derive(Subcommand)]
pub enum Action {
    /// List the letters: number, when, from where, why, and whether they were sent again.
    List {
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Say what is the matter with one, and what to do.
    Explain {
        /// The letter's number.
        number: Offset,
    },
    /// Append letters' values again to where they came from; each is counted once, however often it is sent.
    Redrive {
        /// The letter's number.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        number: Option<Offset>,
        /// Every letter that was not sent again yet.
        #[arg(long)]
        all: bool,
        /// Of all, only those whose reason contains this.
        #[arg(long, requires = "all")]
        reason: Option<String>,
        /// Also those that were sent again already.
        #[arg(long)]
        again: bool,
    },
}

/// Does it.
pub async fn run(options: &ToolLogOptions, action: Action) -> Result<()> {
    let log = options.open("tongxing-dead-letters").await?;
    let letters = dead_letters::read(&log).await?;
    for offset in &letters.unreadable {
        eprintln!("offset {offset} of dead-letters is no letter that this build knows");
    }
    match action {
        Action::List { json: true } => list_json(&letters),
        Action::List { json: false } => list(&letters),
        Action::Explain { number } => explain(find(&letters, number)?),
        Action::Redrive {
            number: Some(number),
            again,
            ..
        } => send(&log, &[find(&letters, number)?], again).await?,
        Action::Redrive { reason, again, .. } => {
            let is_meant = |letter: &&Letter| {
                let reason = reason.as_deref().unwrap_or_default();
                letter.reason.contains(reason) && (again || letter.is_open())
            };
            let meant: Vec<&Letter> = letters.letters.iter().filter(is_meant).collect();
            send(&log, &meant, again).await?;
        }
    }
    Ok(())
}

fn find(letters: &Letters, number: Offset) -> Result<&Letter> {
    let mut letters = letters.letters.iter();
    letters
        .find(|letter| letter.is_numbered(number))
        .with_context(|| {
            format!(
                "there is no letter {number}; `tongxing dead-letters list` shows those there are"
            )
        })
}

const fn state_of(letter: &Letter) -> &'static str {
    if letter.is_open() { "open" } else { "redriven" }
}

fn list(letters: &Letters) {
    println!(
        "{:>8}  {:<29}  {:<8}  {:<26}  reason",
        "number", "written", "state", "from"
    );
    for letter in &letters.letters {
        let place = letter.place.to_string();
        let (number, state) = (letter.number, state_of(letter));
        let written = letter.written_at.to_rfc3339();
        let reason = letter.reason.lines().next().unwrap_or_default();
        println!("{number:>8}  {written:<29}  {state:<8}  {place:<26}  {reason}");
    }
    let open = letters
        .letters
        .iter()
        .filter(|letter| letter.is_open())
        .count();
    println!("{} letters, {open} open", letters.letters.len());
}

fn list_json(letters: &Letters) {
    let listed: Vec<_> = letters
        .letters
        .iter()
        .map(|letter| {
            let redriven: Vec<_> = letter
                .redriven
                .iter()
                .map(|redriven| json!({"at": redriven.at.to_rfc3339(), "as_offset": redriven.as_offset}))
                .collect();
            json!({
                "number": letter.number,
                "copies": letter.copies,
                "written_at": letter.written_at.to_rfc3339(),
                "topic": letter.place.topic,
                "partition": letter.place.partition,
                "offset": letter.place.offset,
                "reason": letter.reason,
                "state": state_of(letter),
                "redriven": redriven,
            })
        })
        .collect();
    println!("{}", json!(listed));
}

fn explain(letter: &Letter) {
    let Explanation {
        inspection,
        person,
        trouble,
        advice,
    } = explaining::explain(letter);
    println!(
        "letter {} of {}",
        letter.number,
        letter.written_at.to_rfc3339()
    );
    println!("from     {}", letter.place);
    for redriven in &letter.redriven {
        let at = redriven.at.to_rfc3339();
        println!("redriven as offset {} at {at}", redriven.as_offset);
    }
    if letter.is_open() {
        println!("state    open");
    }
    println!("reason   {}", letter.reason);
    if let (Some(inspection), Some(value)) = (inspection, &letter.value) {
        match inspection.version {
            Some(scan_json::FIRST_BYTE) => println!("value    {} bytes of JSON", value.len()),
            Some(version) => println!("value    {} bytes, version {version}", value.len()),
            None => println!("value    empty"),
        }
        if let Some(person) = person {
            println!("person   {person} (a pseudonym)");
        }
        for (name, value) in inspection
            .fields
            .iter()
            .filter(|(name, _)| *name != "person")
        {
            println!("  {name:<12} {value}");
        }
        if let Some(failure) = inspection.failure {
            println!(
                "  {:<12} byte {}: {}",
                failure.field, failure.byte, failure.reason
            );
        }
    }
    println!("{trouble}");
    println!("{advice}");
}

/// Sends letters again; fails, after all of them, if any was refused.
async fn send(log: &SharedLog, letters: &[&Letter], again: bool) -> Result<()> {
    let (mut sent, mut refused) = (0, 0);
    for letter in letters {
        match redrive(log, letter, again).await {
            Ok(redriven) => {
                sent += 1;
                let offset = redriven.as_offset;
                println!(
                    "letter {} ({}): sent again as offset {offset}",
                    letter.number, letter.place
                );
            }
            // Whatever comes next would fail, too; what was sent is noted.
            Err(error @ RedriveError::Log(_)) => {
                return Err(error)
                    .with_context(|| format!("letter {} after {sent} others", letter.number));
            }
            Err(error) => {
                refused += 1;
                println!(
                    "letter {} ({}): not sent: {error}",
                    letter.number, letter.place
                );
            }
        }
    }
    println!("{sent} sent again, {refused} not");
    if refused > 0 {
        bail!(
            "{refused} letters were not sent again; `tongxing dead-letters explain` says more of each"
        );
    }
    Ok(())
}
