//! The cluster's programs get into a Kafka that demands TLS and a user by `TONGXING_KAFKA_*`; a combination that cannot work, or
//! something the cluster refuses, ends them at the start with the option's name or the reason, in bounded time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../event-log/tests/kafka_support/mod.rs"]
mod kafka_support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_support::SecureKafka;
use tempfile::TempDir;

/// Nobody who is refused waits longer for the reason.
const BOUNDED: Duration = Duration::from_secs(15);

struct Trial {
    folder: TempDir,
}

impl Trial {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A file in the trial's folder.
    fn file(&self, name: &str, contents: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Runs a command of `tongxing` with `TONGXING_KAFKA_…` variables; answers whether it succeeded, and all that it said.
    fn run(&self, arguments: &[&str], variables: &[(&str, &Path)]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tongxing"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TONGXING_KAFKA_REPLICATION", "1")
            .env("TONGXING_KAFKA_IN_SYNC", "1")
            .env("TONGXING_PARTITIONS", "2");
        for (name, value) in variables {
            command.env(format!("TONGXING_KAFKA_{name}"), value);
        }
        let started = Instant::now();
        let output = command.output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&all).into_owned();
        println!("{arguments:?} after {:?}: {said}", started.elapsed());
        assert!(started.elapsed() < BOUNDED, "{said}");
        (output.status.success(), said)
    }

    fn assert_refused(&self, arguments: &[&str], variables: &[(&str, &Path)], reasons: &[&str]) {
        let (is_successful, said) = self.run(arguments, variables);
        assert!(!is_successful, "{said}");
        for reason in reasons {
            assert!(said.contains(reason), "no {reason:?} in {said}");
        }
    }
}

#[test]
fn topics_are_created_through_tls_and_scram() {
    let kafka = SecureKafka::shared();
    let trial = Trial::new();
    let yes = Path::new("true");
    let (is_successful, said) = trial.run(
        &["topics"],
        &[
            ("BOOTSTRAP", Path::new(&kafka.scram_bootstrap)),
            ("TLS", yes),
            ("CA_FILE", &kafka.ca_file),
            ("USER", Path::new(&kafka.user)),
            ("PASSWORD_FILE", &kafka.password_file),
        ],
    );
    assert!(
        is_successful && said.contains("9 topics are as declared"),
        "{said}"
    );
    let (is_successful, said) = trial.run(
        &["topics", "--compare"],
        &[
            ("BOOTSTRAP", Path::new(&kafka.tls_bootstrap)),
            ("TLS", yes),
            ("CA_FILE", &kafka.ca_file),
        ],
    );
    assert!(
        is_successful && said.contains("9 topics are as declared"),
        "{said}"
    );
}

#[test]
fn what_the_cluster_refuses_ends_the_program_with_the_reason() {
    let kafka = SecureKafka::shared();
    let trial = Trial::new();
    let yes = Path::new("true");
    let wrong = trial.file("wrong", "not the password\n", 0o600);
    let user = [
        ("BOOTSTRAP", Path::new(&kafka.scram_bootstrap)),
        ("TLS", yes),
        ("CA_FILE", kafka.ca_file.as_path()),
        ("USER", Path::new(&kafka.user)),
        ("PASSWORD_FILE", wrong.as_path()),
    ];
    let reasons = ["the cluster refuses", "invalid credentials"];
    trial.assert_refused(&["topics"], &user, &reasons);
    let (created, said) = trial.run(&["keys", "create"], &[]);
    assert!(created, "{said}");
    // A service that cannot get in ends, too: waiting would not help.
    for service in ["ingest", "aggregator"] {
        trial.assert_refused(&[service, "--listen", "127.0.0.1:0"], &user, &reasons);
    }
    let foreign = kafka.foreign_ca();
    trial.assert_refused(
        &["topics"],
        &[
            ("BOOTSTRAP", Path::new(&kafka.tls_bootstrap)),
            ("TLS", yes),
            ("CA_FILE", &foreign),
        ],
        &[
            "no protected connection",
            "certificate could not be verified",
        ],
    );
    trial.assert_refused(
        &["topics", "--wait-seconds", "0"],
        &[("BOOTSTRAP", Path::new(&kafka.tls_bootstrap))],
        &["unavailable", "perhaps it demands TLS"],
    );
}

#[test]
fn a_combination_that_cannot_work_is_refused_by_name() {
    let trial = Trial::new();
    let yes = Path::new("true");
    let user = Path::new("someone");
    let secret = trial.file("secret", "x\n", 0o600);
    let open = trial.file("open", "x\n", 0o644);
    let no_certificate = trial.file("ca.pem", "not a certificate\n", 0o644);
    let absent = Path::new("absent");
    let refused = |variables: &[(&str, &Path)], reasons: &[&str]| {
        trial.assert_refused(&["topics"], variables, reasons);
    };
    refused(
        &[("CA_FILE", &no_certificate)],
        &["kafka_ca_file", "no effect without kafka_tls"],
    );
    refused(
        &[("TLS", yes), ("CA_FILE", absent)],
        &["kafka_ca_file", "absent"],
    );
    refused(
        &[("TLS", yes), ("CA_FILE", &no_certificate)],
        &["ssl.ca.location"],
    );
    refused(
        &[("USER", user), ("PASSWORD_FILE", &secret)],
        &["kafka_user", "set kafka_tls"],
    );
    let apart = "kafka_user and kafka_password_file belong together";
    refused(&[("TLS", yes), ("USER", user)], &[apart]);
    refused(&[("TLS", yes), ("PASSWORD_FILE", &secret)], &[apart]);
    refused(
        &[("TLS", yes), ("USER", user), ("PASSWORD_FILE", &open)],
        &["kafka_password_file", "chmod 600"],
    );
    refused(
        &[("TLS", yes), ("USER", user), ("PASSWORD_FILE", absent)],
        &["kafka_password_file", "absent"],
    );
    refused(&[("TLS", Path::new("perhaps"))], &["--kafka-tls"]);
}
