//! Code keys in files: read at the start, followed while the node runs, so that a rotation needs no restart (P4).
//!
//! A file `code-<id>.key` holds 64 hexadecimal digits and, on a second line, `seals from` and the time from which new codes are sealed
//! under the key. A node opens codes under every key that it has, so a key that seals from a time by which all nodes have it never
//! seals a code that another node calls forged. Of several keys whose time has come the highest id seals.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ingest::Ingest;
use scan_model::{CodeKeys, Timestamp};
use tokio::sync::watch;

use crate::keys::{hex, parse_secret, read_secret};

/// How often the folder is looked at.
const GLANCE: Duration = Duration::from_secs(2);
const SEALS_FROM: &str = "seals from ";

/// The code keys of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeKeyFiles {
    keys: BTreeMap<u8, ([u8; 32], Timestamp)>,
}

impl CodeKeyFiles {
    /// Reads every code key of a folder.
    ///
    /// # Errors
    /// Where a file is not a key, or others can read it.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut keys = BTreeMap::new();
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name
                .strip_prefix("code-")
                .and_then(|rest| rest.strip_suffix(".key"));
            if let Some(id) = id {
                let id = id
                    .parse()
                    .with_context(|| format!("{name}: the id must be 0 to 255"))?;
                keys.insert(id, read_key(&entry.path())?);
            }
        }
        Ok(Self { keys })
    }

    /// The text of a key's file.
    pub fn text(secret: &[u8; 32], seals_from: Timestamp) -> String {
        format!("{}\n{SEALS_FROM}{seals_from}", hex(secret))
    }

    /// The id of a further key; none where they are used up.
    pub fn next_id(&self) -> Option<u8> {
        let newest = self.keys.keys().next_back().copied().unwrap_or(0);
        newest.checked_add(1)
    }

    /// The keys as they are in force at an instant.
    ///
    /// # Errors
    /// Where there is no key.
    pub fn in_force(&self, now: Timestamp) -> Result<CodeKeys> {
        let secrets = self.keys.iter().map(|(id, (secret, _))| (*id, *secret));
        let keys = CodeKeys::new(&secrets.collect()).context("keys")?;
        let has_begun = |(_, (_, from)): &(&u8, &([u8; 32], Timestamp))| *from <= now;
        let first = self.keys.keys().next();
        let sealing = self.keys.iter().rev().find(has_begun).map(|(id, _)| id);
        Ok(match sealing.or(first) {
            Some(id) => keys.sealing_under(*id),
            None => keys,
        })
    }
}

fn read_key(path: &Path) -> Result<([u8; 32], Timestamp)> {
    let text = read_secret(path)?;
    let (digits, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let secret = parse_secret(digits.trim())
        .with_context(|| format!("{} must hold 64 hexadecimal digits", path.display()))?;
    let seals_from = match rest.trim() {
        "" => Timestamp(0),
        rest => {
            let time = rest.strip_prefix(SEALS_FROM).map(str::trim);
            match time.map(Timestamp::parse_rfc3339) {
                Some(Ok(time)) => time,
                _ => bail!(
                    "{}: the second line must be `{SEALS_FROM}` and an RFC 3339 time",
                    path.display()
                ),
            }
        }
    };
    Ok((secret, seals_from))
}

/// Keeps a node's code keys those of its folder. What cannot be read changes nothing.
pub async fn follow(folder: PathBuf, ingest: Arc<Ingest>, mut stopped: watch::Receiver<bool>) {
    let failures = metrics::counter!("ingest_code_key_failures_total");
    let in_force = metrics::gauge!("ingest_code_keys");
    let mut known: Option<CodeKeyFiles> = None;
    loop {
        match read_in_force(&folder) {
            Ok((files, keys)) => {
                in_force.set(keys.ids().len() as f64);
                let sealing = ingest.code_keys.load().sealing_id();
                if known.as_ref() != Some(&files) || sealing != keys.sealing_id() {
                    let (opening, sealing) = (keys.ids(), keys.sealing_id());
                    tracing::info!(?opening, sealing, "code keys in force");
                    ingest.set_code_keys(keys);
                    known = Some(files);
                }
            }
            Err(error) => {
                failures.increment(1);
                tracing::error!(
                    error = format!("{error:#}"),
                    "the code keys stay as they are"
                );
            }
        }
        let has_stopped = stopped.wait_for(|stop| *stop);
        if tokio::time::timeout(GLANCE, has_stopped).await.is_ok() {
            return;
        }
    }
}

fn read_in_force(folder: &Path) -> Result<(CodeKeyFiles, CodeKeys)> {
    let files = CodeKeyFiles::read(folder)?;
    let keys = files.in_force(Timestamp::now())?;
    Ok((files, keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Action, create_missing, run};

    fn rotate(folder: &Path, seals_after_seconds: u32) {
        let action = Action::Rotate {
            seals_after_seconds,
        };
        run(folder, &action).unwrap();
    }

    #[test]
    fn p4_a_rotation_adds_a_key_that_opens_at_once_and_seals_later() {
        let folder = tempfile::tempdir().unwrap();
        create_missing(folder.path()).unwrap();
        rotate(folder.path(), 600);
        let files = CodeKeyFiles::read(folder.path()).unwrap();
        let now = Timestamp::now();
        let keys = files.in_force(now).unwrap();
        assert_eq!((keys.ids(), keys.sealing_id()), (vec![1, 2], 1));
        let later = files.in_force(now.plus_ms(601_000)).unwrap();
        assert_eq!((later.ids(), later.sealing_id()), (vec![1, 2], 2));
    }

    #[test]
    fn p4_the_only_key_seals_even_before_its_time() {
        let folder = tempfile::tempdir().unwrap();
        create_missing(folder.path()).unwrap();
        rotate(folder.path(), 600);
        fs::remove_file(folder.path().join("code-1.key")).unwrap();
        let files = CodeKeyFiles::read(folder.path()).unwrap();
        assert_eq!(files.in_force(Timestamp::now()).unwrap().sealing_id(), 2);
    }

    #[test]
    fn a_damaged_key_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        create_missing(folder.path()).unwrap();
        rotate(folder.path(), 0);
        let path = folder.path().join("code-2.key");
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in [whole.replace(SEALS_FROM, "seals "), whole[2..].to_owned()] {
            fs::write(&path, damaged).unwrap();
            let error = CodeKeyFiles::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("code-2.key"), "{error}");
        }
    }
}
