//! A TOML file as the last source of options: an option beats a variable, a variable beats the file.
//!
//! The file's values become the defaults of the subcommand's options before the command line is read, so that every option
//! can stand in the file, is checked in one place, and is refused there under its name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Command;

/// The command with the file's values as defaults, where `arguments` or the environment name a file.
pub fn with_file(command: Command, arguments: &[OsString]) -> Result<Command> {
    let Some(subcommand) = arguments.get(1).and_then(|name| name.to_str()) else {
        return Ok(command);
    };
    let takes_file = |command: &Command| command.get_arguments().any(|a| a.get_id() == "config");
    let Some(path) = file(arguments) else {
        return Ok(command);
    };
    // What runs the local deployment merges the file itself.
    let merges_itself = |name: &str| matches!(name, "up" | "demo" | "local");
    let Some(found) = command.find_subcommand(subcommand) else {
        return Ok(command);
    };
    // One level further down, as in `replay cluster`.
    let further = arguments.get(2).and_then(|name| name.to_str());
    let inner = further.and_then(|name| found.find_subcommand(name));
    let read_by = inner.unwrap_or(found);
    if !takes_file(read_by) || merges_itself(read_by.get_name()) {
        return Ok(command);
    }
    let inner = inner.map(|inner| inner.get_name().to_owned());
    let values = read(&path)?;
    let mut outcome = Ok(());
    let with_defaults = |mut subcommand: Command| {
        for (name, value) in values {
            if !subcommand
                .get_arguments()
                .any(|argument| argument.get_id() == name.as_str())
            {
                outcome = Err(anyhow::anyhow!(
                    "config: {}: {name} is not an option here",
                    path.display()
                ));
                continue;
            }
            subcommand = subcommand.mut_arg(name, |argument| argument.default_value(value));
        }
        subcommand
    };
    let command = command.mut_subcommand(subcommand, |subcommand| match inner {
        Some(inner) => subcommand.mut_subcommand(inner, with_defaults),
        None => with_defaults(subcommand),
    });
    outcome.map(|()| command)
}

/// The file that the arguments or the environment name.
fn file(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    let named = std::env::var_os("TONGXING_CONFIG");
    named.filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("config: read {}", path.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("config: {}", path.display()))?;
    let mut values = Vec::with_capacity(table.len());
    for (name, value) in table {
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            _ => bail!(
                "config: {}: {name} must be a text, an integer or a truth value",
                path.display()
            ),
        };
        values.push((name, text));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Parser)]
    struct Outer {
        #[command(subcommand)]
        inner: Inner,
    }

    #[derive(clap::Subcommand)]
    enum Inner {
        Serve {
            #[arg(long)]
            config: Option<PathBuf>,
            #[arg(long, default_value_t = 1)]
            partitions: u32,
            #[arg(long, default_value_t = true, action = ArgAction::Set)]
            refuse: bool,
        },
    }

    fn parse(file: &str, further: &[&str]) -> Result<(u32, bool)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tongxing.toml");
        std::fs::write(&path, file).unwrap();
        let mut arguments: Vec<OsString> = vec!["x".into(), "serve".into(), "--config".into()];
        arguments.push(path.into());
        arguments.extend(further.iter().map(Into::into));
        let matches = with_file(Outer::command(), &arguments)?.try_get_matches_from(arguments)?;
        let Inner::Serve {
            partitions, refuse, ..
        } = Outer::from_arg_matches(&matches)?.inner;
        Ok((partitions, refuse))
    }

    #[test]
    fn the_file_beats_the_default_and_an_option_beats_the_file() {
        let file = "partitions = 8\nrefuse = false\n";
        assert_eq!(parse(file, &[]).unwrap(), (8, false));
        assert_eq!(parse(file, &["--partitions", "3"]).unwrap(), (3, false));
    }

    #[test]
    fn an_unknown_name_and_a_bad_value_are_refused_by_name() {
        let unknown = parse("partition = 8\n", &[]).unwrap_err().to_string();
        assert!(
            unknown.contains("partition is not an option here"),
            "{unknown}"
        );
        let bad = parse("partitions = \"many\"\n", &[])
            .unwrap_err()
            .to_string();
        assert!(bad.contains("--partitions"), "{bad}");
        let nested = parse("[partitions]\na = 1\n", &[]).unwrap_err().to_string();
        assert!(nested.contains("partitions must be"), "{nested}");
    }
}
