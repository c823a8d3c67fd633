//! Keys: files that only their owner can read.
//!
//! ```text
//! person.key        the secret under which documents become person ids; never changes
//! code-<id>.key     the secrets that seal codes, and from when each seals; all of them open
//! api-keys.toml     callers: name, role, hash of the secret
//! api-secrets/<name>  the secrets themselves, for this machine's own tools
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use ingest::{ApiKey, Authority, Right, Role};
use scan_model::{PersonKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::code_keys::CodeKeyFiles;

/// What `tongxing keys` does.
#[derive(Subcommand)]
pub enum Action {
    /// Create what is missing: the person key, a first code key, a caller of each role.
    Create,
    /// Add a code key. Running nodes open codes under it as soon as its file is in their folder, and seal under it from a time on by
    /// which every node must have it. Codes under older keys open until their file is removed.
    Rotate {
        /// In how many seconds new codes are sealed under the key.
        #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(0..=31_536_000))]
        seals_after_seconds: u32,
    },
    /// Print the person key's fingerprint.
    Fingerprint,
}

/// The keys of a deployment.
pub struct Keys {
    pub person: PersonKey,
    pub codes: CodeKeyFiles,
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
        Action::Rotate {
            seals_after_seconds,
        } => {
            let next = CodeKeyFiles::read(folder)?
                .next_id()
                .context("code key ids are used up (255)")?;
            let seals_from = Timestamp::now().plus_ms(i64::from(*seals_after_seconds) * 1000);
            let name = format!("code-{next}.key");
            let text = CodeKeyFiles::text(&random_bytes()?, seals_from);
            write_secret(&folder.join(&name), &text)?;
            println!("{name} created; codes are sealed under it from {seals_from} on");
            println!("copy it to every node's key folder before then; no restart is needed");
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
    let codes = CodeKeyFiles::read(folder)?;
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
    parse_secret(&read_secret(path)?)
        .with_context(|| format!("{} must hold 64 hexadecimal digits", path.display()))
}

/// The bytes of 64 hexadecimal digits.
pub fn parse_secret(text: &str) -> Option<[u8; 32]> {
    let byte = |index: usize| {
        text.get(index * 2..index * 2 + 2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes?.try_into().ok().filter(|_| text.len() == 64)
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

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
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
}
