//! Claim: a bad value is refused at start with its name and what is allowed; secrets that others can read, a folder or an
//! address that is in use, and plain text beyond this machine are refused as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use loadtest::client::{Client, Endpoint};
use support::{GLANCE, Place, free_ports, tongxing, wait_until};

/// Runs a command that must refuse to start, and answers what it says.
fn refusal(command: &mut Command) -> String {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it has started, and was to be refused: {command:?}");
        }
        std::thread::sleep(GLANCE);
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code().is_some_and(|code| code != 0),
        "{command:?}: {text}"
    );
    text
}

fn assert_says(said: &str, parts: &[&str], case: &str) {
    for part in parts {
        assert!(
            said.contains(part),
            "{case} must name {part:?}, and says: {said}"
        );
    }
}

/// Option, a bad value, and what the refusal names.
const BAD_VALUES: [(&str, &str, &[&str]); 26] = [
    ("partitions", "0", &["between 1 and 256", "not 0"]),
    ("partitions", "257", &["between 1 and 256", "not 257"]),
    ("partitions", "four", &["four"]),
    ("persons-capacity", "0", &["between 1 and 2000000000"]),
    (
        "persons-expected",
        "1000001",
        &["persons_expected", "between 0 and 1000000"],
    ),
    ("ruleset", "edition-2", &["edition-1, edition-3, edition-4"]),
    ("scans-format", "avro", &["scans_format", "bincode or json"]),
    ("lateness-days", "0", &["between 1 and 45"]),
    ("lateness-days", "46", &["between 1 and 45"]),
    ("linger-ms", "9", &["between 10 and 10000"]),
    ("stale-after-ms", "86400001", &["between 0 and"]),
    ("stale-after-ms", "-1", &["between 0 and", "not -1"]),
    ("rotating-seconds", "0", &["between 1 and"]),
    ("rotating-seconds", "61", &["between 1 and"]),
    ("snapshot-seconds", "9", &["between 10 and 86400"]),
    ("clickhouse-memory-bytes", "1", &["between 536870912 and"]),
    ("clickhouse-database", "a-b", &["letters, digits and _"]),
    ("clickhouse-database", "", &["letters, digits and _"]),
    ("clickhouse-url", "nonsense", &["http://"]),
    ("clickhouse-password-file", "/nowhere", &["/nowhere"]),
    ("engine-library", "/nowhere", &["/nowhere", "is not a file"]),
    ("refuse-red-check-ins", "maybe", &["true, false"]),
    ("repair", "maybe", &["true, false"]),
    ("ingest-listen", "8080", &["8080", "socket address"]),
    (
        "query-listen",
        "localhost:x",
        &["localhost:x", "socket address"],
    ),
    ("clickhouse-listen", "", &["socket address"]),
];

/// `up` in a folder of its own, on ports that nobody uses.
fn up_without(place: &Place, option: &str) -> Command {
    let mut command = tongxing();
    command.arg("up").arg("--data").arg(place.data());
    for name in ["ingest-listen", "query-listen", "clickhouse-listen"] {
        if name != option {
            let [port] = free_ports();
            command.arg(format!("--{name}=127.0.0.1:{port}"));
        }
    }
    command
}

/// The name as an option, a variable or a field of the file may show it.
fn assert_named(said: &str, option: &str, case: &str) {
    let lower = said.to_lowercase();
    let field = option.replace('-', "_");
    assert!(
        lower.contains(option) || lower.contains(&field),
        "{case} must name {option}, and says: {said}"
    );
}

#[test]
fn a_bad_option_is_refused_with_its_name_and_what_is_allowed() {
    for (option, value, allowed) in BAD_VALUES {
        let place = Place::new();
        let said = refusal(up_without(&place, option).arg(format!("--{option}={value}")));
        let case = format!("--{option}={value}");
        assert_says(&said, allowed, &case);
        assert_named(&said, option, &case);
    }
    let place = Place::new();
    assert_says(
        &refusal(up_without(&place, "").arg("--partition=4")),
        &["--partition"],
        "a wrong name",
    );
}

#[test]
fn a_bad_variable_is_refused_with_its_name_and_what_is_allowed() {
    for (option, value, allowed) in BAD_VALUES {
        // An empty variable is as good as none.
        if value.is_empty() {
            continue;
        }
        let place = Place::new();
        let variable = format!("TONGXING_{}", option.replace('-', "_").to_uppercase());
        let said = refusal(up_without(&place, option).env(&variable, value));
        let case = format!("{variable}={value}");
        assert_says(&said, allowed, &case);
        assert_named(&said, option, &case);
    }
}

#[test]
fn a_bad_file_is_refused_with_the_names_of_file_and_field_and_what_is_allowed() {
    let place = Place::new();
    let folder = place.data().parent().unwrap().to_owned();
    let file = folder.join("tongxing.toml");
    let cases: [(&str, &[&str]); 6] = [
        ("partitions = 0", &["partitions must lie between 1 and 256"]),
        (
            "partitions = \"four\"",
            &["tongxing.toml", "partitions", "u32"],
        ),
        (
            "partition = 4",
            &["tongxing.toml", "partition", "partitions"],
        ),
        (
            "ruleset = \"2\"",
            &["ruleset", "edition-1, edition-3, edition-4"],
        ),
        (
            "ingest_listen = \"x\"",
            &["tongxing.toml", "ingest_listen", "socket address"],
        ),
        ("partitions = ", &["tongxing.toml", "partitions"]),
    ];
    for (text, parts) in cases {
        fs::write(&file, text).unwrap();
        let option = if text.starts_with("ingest") {
            "ingest-listen"
        } else {
            ""
        };
        let said = refusal(up_without(&place, option).arg("--config").arg(&file));
        assert_says(&said, parts, text);
    }
    let missing = folder.join("nowhere.toml");
    let said = refusal(up_without(&place, "").arg("--config").arg(&missing));
    assert_says(&said, &["config", "nowhere.toml"], "a missing file");
}

#[test]
fn an_address_beyond_loopback_is_refused_without_an_explicit_word() {
    for option in ["ingest-listen", "query-listen", "clickhouse-listen"] {
        for address in ["0.0.0.0", "[::]"] {
            let (place, [port]) = (Place::new(), free_ports());
            let listen = format!("--{option}={address}:{port}");
            let said = refusal(up_without(&place, option).arg(&listen));
            assert_says(
                &said,
                &["is not a loopback address", "--allow-plaintext"],
                &listen,
            );
            assert_named(&said, option, &listen);
            let said = refusal(
                up_without(&place, option)
                    .arg(&listen)
                    .arg("--allow-plaintext=false"),
            );
            assert_says(&said, &["is not a loopback address"], &listen);
        }
    }
}

#[test]
fn nothing_is_sent_beyond_loopback_in_clear_without_an_explicit_word() {
    let url = "--ingest-url=http://192.0.2.1:8080";
    let [port] = free_ports::<1>();
    let mut query = tongxing();
    query.args(["query", url, "--listen", &format!("127.0.0.1:{port}")]);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let mut import = tongxing();
    import.args(["import", "persons", "nowhere.csv", url]);
    import.arg("--secret-file").arg(&secret);
    for command in [&mut query, &mut import] {
        let said = refusal(command);
        assert_says(&said, &["ingest_url", "loopback", "--allow-plaintext"], url);
    }
}

#[tokio::test]
async fn an_address_beyond_loopback_is_served_after_the_word_that_the_refusal_names() {
    let (place, [port]) = (Place::new(), free_ports());
    let mut command = up_without(&place, "ingest-listen");
    command
        .arg(format!("--ingest-listen=0.0.0.0:{port}"))
        .arg("--allow-plaintext");
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let ready = async || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        let mut client = Client::new(endpoint.clone(), String::new());
        client
            .get("/readyz")
            .await
            .is_ok_and(|answer| answer.status == 200)
    };
    wait_until("it is ready", ready).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn keys_that_others_can_read_are_refused_with_the_file_and_what_to_do() {
    let place = Place::new();
    let keys = place.data().join("keys");
    let mut create = tongxing();
    create
        .arg("keys")
        .arg("--folder")
        .arg(&keys)
        .arg("create")
        .stdout(Stdio::null());
    assert!(create.status().unwrap().success());
    for name in ["person.key", "code-1.key", "api-keys.toml"] {
        let file = keys.join(name);
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let said = refusal(&mut up_without(&place, ""));
            assert_says(&said, &[name, &format!("{mode:o}"), "chmod 600"], name);
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for created in fs::read_dir(keys.join("api-secrets")).unwrap().flatten() {
        let mode = created.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", created.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_or_an_address_that_is_in_use_is_refused_and_its_user_goes_on() {
    let place = Place::new();
    let service = place.start().await;
    let is_up = async || place.engine_answers().await;
    wait_until("the engine answers", is_up).await;
    let engine = service.engine_pid();
    let data = place.data().display().to_string();
    let said = refusal(&mut up_without(&place, ""));
    assert_says(&said, &[&data, "in use"], "a second process on the folder");
    for (option, endpoint) in [
        ("ingest-listen", place.ingest()),
        ("query-listen", place.query()),
    ] {
        let other = Place::new();
        let listen = format!("--{option}={}", endpoint.authority);
        let said = refusal(up_without(&other, option).arg(&listen));
        assert_says(&said, &["cannot listen on", &endpoint.authority], &listen);
    }
    assert_eq!(
        service.engine_pid(),
        engine,
        "the first one's engine was left alone"
    );
    assert!(place.engine_answers().await);
    let answer = place.reader().get("/readyz").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(service.terminate().await.success());
}
