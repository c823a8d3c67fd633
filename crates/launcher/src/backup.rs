//! `tongxing backup`: the keys and the log of a local deployment, copied while it runs or is stopped.
//!
//! ```text
//! MANIFEST                       what is in the backup, with a hash of each file and of itself; written last
//! keys/…                         as in the data folder
//! log/<topic>/<partition>/…      whole batches, see event_log::local::backup
//! ```
//!
//! The tables, the groups' positions and the status snapshot are left out: each is made again from the log.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use event_log::local::backup;
use ingest::topics;
use scan_model::Timestamp;

use crate::cli::BackupOptions;
use crate::keys;

/// The manifest's name.
pub const MANIFEST: &str = "MANIFEST";
/// The manifest's first line.
pub const FORM: &str = "tongxing-backup 1";

/// Topics in the order in which they are copied: a record's causes are in topics behind its own. Dead letters follow from scans,
/// scans from persons, facts and sites, facts from their history, and whatever is audited from its audit entry.
const ORDER: [&str; 9] = [
    topics::DEAD_LETTERS,
    topics::SCANS,
    status_cache::feed::FACTS,
    topics::FACT_HISTORY,
    status_cache::feed::DECLARATIONS,
    status_cache::feed::CODE_REVOCATIONS,
    status_cache::feed::PERSONS,
    registry::TOPIC,
    topics::AUDIT,
];

/// Runs `tongxing backup`.
pub async fn run(options: BackupOptions) -> Result<()> {
    tokio::task::spawn_blocking(move || back_up(&options)).await?
}

fn back_up(options: &BackupOptions) -> Result<()> {
    let (data, to) = (&options.data, &options.backup);
    let fingerprint = keys::read(&data.join("keys"))
        .context("data: not a deployment")?
        .person
        .fingerprint();
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .with_context(|| format!("backup: create {}", to.display()))?;
    copy_keys(&data.join("keys"), &to.join("keys"))?;
    fs::create_dir(to.join("log"))?;
    let copied = backup::copy(&data.join("log"), &to.join("log"), &ORDER)?;
    let mut manifest = format!("{FORM}\nmade_at {}\nperson_key ", Timestamp::now().0);
    for byte in fingerprint {
        let _ = write!(manifest, "{byte:02x}");
    }
    manifest.push('\n');
    for path in files(to)? {
        let (hash, bytes) = hash_of(&to.join(&path))?;
        let _ = writeln!(manifest, "file {hash} {bytes} {}", path.display());
    }
    let hash = blake3::hash(manifest.as_bytes());
    let _ = writeln!(manifest, "end {hash}");
    write_synced(&to.join(MANIFEST), manifest.as_bytes())?;
    println!(
        "{} segments of the log ({} bytes, {} records or their places) and the keys are in {}",
        copied.segments,
        copied.bytes,
        copied.offsets,
        to.display()
    );
    Ok(())
}

/// Copies keys with their modes. A temporary file of a key that is being written is none.
fn copy_keys(from: &Path, to: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let (path, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy_keys(&path, &target)?;
        } else if path.extension().is_none_or(|extension| extension != "new") {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            write_synced(&target, &bytes)?;
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
    }
    sync_folder(to)
}

/// Every file below a folder but the manifest, by its path within it, in order.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let listed = folder.join(&inner);
        for entry in fs::read_dir(&listed).with_context(|| format!("list {}", listed.display()))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path != Path::new(MANIFEST) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The BLAKE3 hash and the length of a file.
pub fn hash_of(path: &Path) -> Result<(blake3::Hash, u64)> {
    let mut file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let count = file
            .read(&mut buffer)
            .with_context(|| format!("read {}", path.display()))?;
        if count == 0 {
            return Ok((hasher.finalize(), length));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Writes a new file that only its owner can read, synced with its name.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("write {}", path.display());
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(context)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(context)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => bail!("{} is no file", path.display()),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("sync {}", folder.display()))
}
