//! `tongxing`'s tools over a deployment's data folder.

use std::path::Path;
use std::process::Command;

use super::program;

/// Runs a tool over a stopped deployment's data folder; answers whether it succeeded, and all that it said.
pub fn tool(data: &Path, arguments: &[&str]) -> (bool, String) {
    let output = command(data, arguments).output().expect("the tool runs");
    let all = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&all).into_owned();
    println!("{arguments:?}: {said}");
    (output.status.success(), said)
}

/// The same, yet to be run.
pub fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .arg("--data")
        .arg(data)
        .current_dir(data)
        .env("RUST_BACKTRACE", "0");
    command
}

/// What a tool says where it succeeds.
pub fn said(data: &Path, arguments: &[&str]) -> String {
    let (is_successful, said) = tool(data, arguments);
    assert!(is_successful, "{said}");
    said
}

/// What a tool says where it refuses.
pub fn refused(data: &Path, arguments: &[&str]) -> String {
    let (is_successful, said) = tool(data, arguments);
    assert!(!is_successful, "{said}");
    said
}
