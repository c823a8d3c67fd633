//! Keys: files that only their owner can read.
//!
//! ```text
//! person.key        the secret under which documents become person ids; never changes
//! code-<id>.key     the secrets that seal codes; the highest id seals, all of them open
//! api-keys.toml     callers: name, role, hash of the secret
//! api-secrets/<name>  the secrets themselves, for this machine's own tools
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use ingest::{ApiKey, Authority, Right, Role};
use scan_model::PersonKey;
use serde::{Deserialize, Serialize};

/// What `tongxing keys` does.
#[derive(Subcommand)]
pub enum Action {
    /// Create what is missing: the person key, a first code key, a caller of each role.
    Create,
    /// Add a code key; new codes are sealed under it, codes under older keys still open.
    Rotate,
    /// Print the person key's fingerprint.
    Fingerprint,
}

/// The keys of a deployment.
pub struct Keys {
    pub person: PersonKey,
    pub codes: BTreeMap<u8, [u8; 32]>,
    pub api: Vec<ApiKey>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiKeysFile {
    #[serde(default)]
    keys: Vec<ApiKey>,
}

/// The callers that a new deployment gets.
const CALLERS: [(&str, Role, &[Right], bool); 10] = [
    ("tester", Role::Tester, &[], false),
    ("citizen-app", Role::CitizenApp, &[], false),
    (
        "grid-worker",
        Role::GridWorker,
        &[Right::LookUpDocument],
        false,
    ),
    ("compound-checker", Role::CompoundChecker, &[], false),
    ("medical-staff", Role::MedicalStaff, &[], false),
    ("identity-service", Role::IdentityService, &[], false),
    ("health-feed", Role::HealthFeed, &[], false),
    (
        "operator",
        Role::Operator,
        &[Right::LookUpDocument, Right::LookUpCode],
        false,
    ),
    ("synthetic-load", Role::Tester, SYNTHETIC_RIGHTS, true),
    (
        "synthetic-feed",
        Role::IdentityService,
        &[Right::SupplyFacts, Right::ImportSites],
        true,
    ),
];

const SYNTHETIC_RIGHTS: &[Right] = &[
    Right::QuickCheckIn,
    Right::CollectInGrid,
    Right::PassCompound,
    Right::IssueReleaseNotice,
    Right::LookUpDocument,
];

/// Runs `tongxing keys`.
pub fn run(folder: &Path, action: &Action) -> Result<()> {
    match action {
        Action::Create => {
            create_missing(folder)?;
            println!("keys are in {}", folder.display());
        }
        Action::Rotate => {
            let keys = read(folder)?;
            let newest = keys.codes.keys().next_back().copied().unwrap_or(0);
            let next = newest
                .checked_add(1)
                .context("code key ids are used up (255)")?;
            write_secret(
                &folder.join(format!("code-{next}.key")),
                &hex(&random_bytes()?),
            )?;
            println!("code key {next} created; restart ingest to seal codes under it");
        }
        Action::Fingerprint => println!("{}", hex(&read(folder)?.person.fingerprint())),
    }
    Ok(())
}

/// Creates what is missing; what is there stays.
pub fn create_missing(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("api-secrets"))
        .with_context(|| format!("create {}", folder.display()))?;
    let person = folder.join("person.key");
    if !person.exists() {
        write_secret(&person, &hex(&random_bytes()?))?;
    }
    let code = folder.join("code-1.key");
    if !code.exists() {
        write_secret(&code, &hex(&random_bytes()?))?;
    }
    let file = folder.join("api-keys.toml");
    let mut known: ApiKeysFile = if file.exists() {
        toml::from_str(&read_secret(&file)?)?
    } else {
        ApiKeysFile::default()
    };
    let before = known.keys.len();
    for (name, role, rights, synthetic) in CALLERS {
        if known.keys.iter().any(|key| key.name == name) {
            continue;
        }
        let secret = hex(&random_bytes()?);
        write_secret(&folder.join("api-secrets").join(name), &secret)?;
        known.keys.push(ApiKey {
            name: name.to_owned(),
            role,
            secret_hash: Authority::secret_hash(&secret),
            further_rights: rights.to_vec(),
            sites: Vec::new(),
            requests_per_second: None,
            synthetic,
        });
    }
    if known.keys.len() > before {
        write_secret(&file, &toml::to_string(&known)?)?;
    }
    Ok(())
}

/// Reads every key of a folder.
pub fn read(folder: &Path) -> Result<Keys> {
    let person = PersonKey::new(&secret_bytes(&folder.join("person.key"))?);
    let mut codes = BTreeMap::new();
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
            codes.insert(id, secret_bytes(&entry.path())?);
        }
    }
    let file: ApiKeysFile =
        toml::from_str(&read_secret(&folder.join("api-keys.toml"))?).context("api-keys.toml")?;
    Ok(Keys {
        person,
        codes,
        api: file.keys,
    })
}

/// Reads a secret, and refuses a file that others can read.
pub fn read_secret(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{} has mode {mode:o}; a secret must be readable by its owner only: chmod 600",
            path.display()
        );
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn secret_bytes(path: &Path) -> Result<[u8; 32]> {
    let text = read_secret(path)?;
    let byte = |index: usize| {
        text.get(index * 2..index * 2 + 2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) if text.len() == 64 => Ok(bytes),
        _ => bail!("{} must hold 64 hexadecimal digits", path.display()),
    }
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("write {}", temporary.display()))?;
    writeln!(file, "{text}").and_then(|()| file.sync_all())?;
    fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))
}

fn random_bytes() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_created_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        create_missing(folder.path()).unwrap();
        let first = read(folder.path()).unwrap();
        create_missing(folder.path()).unwrap();
        let second = read(folder.path()).unwrap();
        assert_eq!(first.person.fingerprint(), second.person.fingerprint());
        assert_eq!(
            (first.codes, first.api.len()),
            (second.codes, CALLERS.len())
        );
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        create_missing(folder.path()).unwrap();
        let person = folder.path().join("person.key");
        fs::set_permissions(&person, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains("644") && error.contains("chmod 600"),
            "{error}"
        );
    }

    #[test]
    fn rotation_adds_a_key_and_keeps_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        create_missing(folder.path()).unwrap();
        run(folder.path(), &Action::Rotate).unwrap();
        assert_eq!(
            read(folder.path())
                .unwrap()
                .codes
                .keys()
                .copied()
                .collect::<Vec<_>>(),
            [1, 2]
        );
    }
}
