//! The `province` tool: as many synthetic persons as a province has, or facts about some of them, as CSV for `tongxing import`.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use scan_model::document::check_digit;
use scheduling::Breather;

/// Counties that documents are of.
const COUNTIES: [u32; 4] = [440_103, 440_104, 440_105, 440_106];
const YEARS: u64 = 100;
const MONTHS: u64 = 12;
const DAYS: u64 = 28;
const SEQUENCES: u64 = 999;
/// Persons who have documents of their own.
const MOST: u64 = YEARS * MONTHS * DAYS * SEQUENCES * COUNTIES.len() as u64;
/// Lines written between two breaths.
const BREATH: u32 = 200;
/// One in so many has a fact.
const HOLDER_EVERY: u64 = 50;

/// Writes lines of CSV, the same ones each time: person n has the same document whatever range is asked for.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Persons, or facts about one in 50 of them.
    kind: Kind,
    /// How many persons: Guangdong's of the 2020 census without it.
    #[arg(long, default_value_t = 126_012_510, value_parser = clap::value_parser!(u64).range(1..=MOST))]
    persons: u64,
    /// The first person's number.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..MOST))]
    first: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Persons.
    Persons,
    /// Facts.
    Facts,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let end = (arguments.first + arguments.persons).min(MOST);
    match write(arguments.kind, arguments.first..end) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("province: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(kind: Kind, numbers: Range<u64>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    // Who measures beside it is not to wait for it.
    let mut breather = Breather::every(BREATH);
    match kind {
        Kind::Persons => {
            out.write_all(b"kind,number,name,phone,residence\n")?;
            for n in numbers {
                let phone = 13_000_000_000 + n % 1_000_000_000;
                writeln!(out, "resident_id,{},张伟,{phone},440106", document(n))?;
                breather.item();
            }
        }
        Kind::Facts => {
            out.write_all(b"kind,number,category,source,reference\n")?;
            for n in numbers.filter(|n| n % HOLDER_EVERY == 0) {
                let number = document(n);
                writeln!(out, "resident_id,{number},close_contact,cdc,P{n}")?;
                breather.item();
            }
        }
    }
    out.flush()
}

/// The resident ID of a person.
fn document(n: u64) -> String {
    let (year, rest) = (1920 + n % YEARS, n / YEARS);
    let (month, rest) = (1 + rest % MONTHS, rest / MONTHS);
    let (day, rest) = (1 + rest % DAYS, rest / DAYS);
    let (sequence, rest) = (1 + rest % SEQUENCES, rest / SEQUENCES);
    let county = COUNTIES[rest as usize % COUNTIES.len()];
    let mut number = format!("{county}{year}{month:02}{day:02}{sequence:03}");
    let digit = check_digit(number.as_bytes()) as char;
    // Writing to a string cannot fail.
    let _ = write!(number, "{digit}");
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_person_has_a_document_of_their_own() {
        let numbers = (0..50_000).chain(MOST - 50_000..MOST);
        let documents: HashSet<String> = numbers.map(document).collect();
        assert_eq!(documents.len(), 100_000);
    }
}
