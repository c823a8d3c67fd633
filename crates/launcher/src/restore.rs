//! `tongxing restore`: a data folder from a backup. Every file is verified before anything is made.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::backup::{FORM, MANIFEST, files, hash_of, sync_folder, write_synced};
use crate::cli::RestoreOptions;
use crate::keys;

/// Runs `tongxing restore`.
pub async fn run(options: RestoreOptions) -> Result<()> {
    tokio::task::spawn_blocking(move || restore(&options)).await?
}

fn restore(options: &RestoreOptions) -> Result<()> {
    let (from, data) = (&options.backup, &options.data);
    if fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "data: {} is not empty; a backup is restored into a new folder",
            data.display()
        );
    }
    let paths = verify(from)?;
    // Everything under another name first: a folder under its own name is whole.
    let name = data.file_name().context("data: must name a folder")?;
    let mut unfinished = name.to_owned();
    unfinished.push(".restoring");
    let unfinished = data.with_file_name(unfinished);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("remove {}", unfinished.display()))?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&unfinished)
        .with_context(|| format!("create {}", unfinished.display()))?;
    for path in &paths {
        copy(&from.join(path), &unfinished.join(path))?;
    }
    keys::read(&unfinished.join("keys")).context("keys")?;
    if data.exists() {
        fs::remove_dir(data).with_context(|| format!("remove {}", data.display()))?;
    }
    fs::rename(&unfinished, data).with_context(|| format!("create {}", data.display()))?;
    if let Some(parent) = data
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        sync_folder(parent)?;
    }
    println!(
        "{} files verified and restored to {}. Now build the tables from the log: `tongxing replay local --data {}`, then start `tongxing up`",
        paths.len(),
        data.display(),
        data.display()
    );
    Ok(())
}

/// Verifies a backup; answers the paths of its files.
fn verify(backup: &Path) -> Result<Vec<PathBuf>> {
    let listed = read_manifest(&backup.join(MANIFEST))?;
    for (path, (hash, length)) in &listed {
        let file = backup.join(path);
        let (found_hash, found_length) = hash_of(&file)?;
        if (found_hash.to_hex().as_str(), found_length) != (hash.as_str(), *length) {
            bail!(
                "{} is damaged: {found_length} bytes that are not the {length} of the backup; nothing was restored",
                file.display()
            );
        }
    }
    if let Some(foreign) = files(backup)?
        .iter()
        .find(|path| !listed.contains_key(*path))
    {
        bail!(
            "{} is not of this backup; nothing was restored",
            backup.join(foreign).display()
        );
    }
    Ok(listed.into_keys().collect())
}

/// Path, hash and length of each file that the manifest lists.
fn read_manifest(path: &Path) -> Result<BTreeMap<PathBuf, (String, u64)>> {
    let damaged = || format!("{} is damaged; nothing was restored", path.display());
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "read {}: without it the backup is unfinished",
            path.display()
        )
    })?;
    let (body, hash) = text.rsplit_once("end ").with_context(damaged)?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != hash.trim_end() {
        bail!(damaged());
    }
    let mut lines = body.lines();
    let form = lines.next().unwrap_or_default();
    if form != FORM {
        bail!(
            "{}: made as {form:?}, this build reads {FORM:?}",
            path.display()
        );
    }
    let mut listed = BTreeMap::new();
    for line in lines.filter_map(|line| line.strip_prefix("file ")) {
        let mut words = line.splitn(3, ' ');
        let (Some(hash), Some(length), Some(file)) = (words.next(), words.next(), words.next())
        else {
            bail!(damaged());
        };
        let file = PathBuf::from(file);
        if !file.components().all(|c| matches!(c, Component::Normal(_))) {
            bail!(damaged());
        }
        let length = length.parse().with_context(damaged)?;
        listed.insert(file, (hash.to_owned(), length));
    }
    Ok(listed)
}

/// Copies a file with its mode, making its folders, synced.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file is in a folder")?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    write_synced(to, &bytes)?;
    let mode = fs::metadata(from)?.permissions().mode() & 0o777;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("write {}", to.display()))
}
