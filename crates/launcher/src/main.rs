//! The `tongxing` binary.

mod aggregating;
mod backup;
mod check;
mod cli;
mod cluster;
mod cluster_options;
mod code_keys;
mod config;
mod config_file;
mod dead_letters;
mod demo;
mod engine;
mod import;
mod keys;
mod local;
mod parent;
mod positions;
mod replay;
mod restore;
mod snapshots;
mod stopping;
mod stores;
mod telemetry;
mod tool_log;

use std::process::ExitCode;

use clap::FromArgMatches;
use mimalloc::MiMalloc;

/// A check-in allocates some dozens of small pieces, and they are freed on other threads than took them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What a shell reports of a process that wrote to a reader who had left.
const READER_LEFT: i32 = 128 + 13;

/// Ends quietly, as other tools do, when what reads the output has seen enough (`tongxing dead-letters list | head`).
fn end_when_the_reader_leaves() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(READER_LEFT);
        }
        report(panic);
    }));
}

fn main() -> ExitCode {
    end_when_the_reader_leaves();
    let given: Vec<_> = std::env::args_os().collect();
    let command = match config_file::with_file(cli::command(), &given) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("tongxing: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let matches = command.get_matches_from(given);
    let arguments = match cli::Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    // Before the runtime: its threads would stay outside of the engine's sandbox.
    let sandbox = match cli::confine(&arguments) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            eprintln!("tongxing: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tongxing: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(arguments, sandbox)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tongxing: {error:#}");
            ExitCode::FAILURE
        }
    }
}
