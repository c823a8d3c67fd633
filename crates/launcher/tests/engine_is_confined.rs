//! Claim: whoever reaches the engine's port reaches the statistics, and no other file, program, process or port.
//!
//! Each statement is also run over what is inside of the data folder, where it has to work: so it is the sandbox that
//! refuses it outside, not a mistake in it. `TONGXING_PROGRAM` with a program from before the sandbox makes these tests fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine_support::Engine;
use engine_support::curl::Curl;
use tempfile::TempDir;
use warehouse::engine::Sandbox;

const SECRET: &str = "the-secret";
const OPEN: &str = "nothing-secret";
const FILE: &str = "file.tsv";

/// No statement tries again and again what the sandbox refuses.
const ONCE: &str = "http_max_tries=1&s3_retry_attempts=1&connections_with_failover_max_tries=1\
    &postgresql_connection_pool_retries=1&connect_timeout_with_failover_ms=500";

/// An engine, and a folder of keys beside its data as in a deployment.
struct Site {
    engine: Engine,
    curl: Curl,
    data: PathBuf,
    keys: PathBuf,
    _folder: TempDir,
}

impl Site {
    fn new() -> Self {
        assert_eq!(
            Sandbox::offered(),
            Sandbox::Full,
            "this kernel cannot confine the engine: it has to be Linux 6.12 or newer with `landlock` among its LSMs"
        );
        let folder = tempfile::tempdir().unwrap();
        let (data, keys) = (folder.path().join("clickhouse"), folder.path().join("keys"));
        // What is to be read in the data folder is in a folder of its own, apart from the engine's files.
        for (place, text) in [(data.join("open"), OPEN), (keys.clone(), SECRET)] {
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(FILE), format!("{text}\n")).unwrap();
        }
        let engine = Engine::start(&data);
        let curl = Curl::new(&engine);
        assert_eq!(curl.post("", "CREATE DATABASE shop").text(), "");
        curl.select("CREATE TABLE sales (n UInt32) ENGINE = MergeTree ORDER BY n");
        curl.select("INSERT INTO sales SELECT number FROM numbers(10)");
        Self {
            engine,
            curl,
            data,
            keys,
            _folder: folder,
        }
    }

    fn open(&self) -> PathBuf {
        self.data.join("open")
    }

    /// Runs statements, whatever becomes of them, and answers what the last one answered.
    fn attempt(&self, statements: &str) -> String {
        let mut answer = String::new();
        for statement in statements.split(';') {
            let answered = self.curl.post(ONCE, statement.trim());
            answered.text().clone_into(&mut answer);
        }
        println!("{statements}\n-> {}", answer.trim_end());
        answer
    }
}

/// Statements about a `FOLDER`, the file at `PATH` in it, a `LINK` to that file from the data folder, a `NAME` for what is made.
fn fill(statements: &str, folder: &Path, name: &str) -> String {
    let file = folder.join(FILE);
    statements
        .replace("FOLDER", folder.to_str().unwrap())
        .replace("PATH", file.to_str().unwrap())
        .replace("LINK", &format!("link_{name}"))
        .replace("NAME", name)
}

#[test]
fn a_client_cannot_read_a_file_outside_the_data_folder() {
    let site = Site::new();
    for (name, folder) in [("open", &site.open()), ("keys", &site.keys)] {
        symlink(folder.join(FILE), site.data.join(format!("link_{name}"))).unwrap();
    }
    let mut reached = Vec::new();
    for statements in [
        "SELECT * FROM file('PATH', 'RawBLOB')",
        "SELECT * FROM file('FOLDER/*', 'LineAsString')",
        "SELECT * FROM file('/proc/self/rootPATH', 'LineAsString')",
        "SELECT * FROM file('LINK', 'LineAsString')",
        "SELECT file('PATH')",
        "SELECT content FROM filesystem('FOLDER')",
        "CREATE DATABASE folder_NAME ENGINE = Filesystem('FOLDER'); SELECT * FROM folder_NAME.`file.tsv`",
        "CREATE TABLE shop.file_NAME (s String) ENGINE = File(LineAsString, 'PATH'); SELECT * FROM shop.file_NAME",
        "CREATE TABLE shop.from_NAME (s String) ENGINE = Memory; INSERT INTO shop.from_NAME FROM INFILE 'PATH';
         SELECT * FROM shop.from_NAME",
        "CREATE DICTIONARY shop.dictionary_NAME (s String) PRIMARY KEY s SOURCE(FILE(path 'LINK' format 'LineAsString'))
         LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0); SELECT * FROM shop.dictionary_NAME",
    ] {
        let answer = site.attempt(&fill(statements, &site.open(), "open"));
        assert!(answer.contains(OPEN), "{statements}: {answer}");
        let answer = site.attempt(&fill(statements, &site.keys, "keys"));
        if answer.contains(SECRET) {
            reached.push(statements);
        }
    }
    // ClickHouse itself keeps this one to a folder.
    let absolute = "CREATE DICTIONARY shop.absolute (s String) PRIMARY KEY s SOURCE(FILE(path 'PATH' format 'LineAsString'))
         LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0); SELECT * FROM shop.absolute";
    if site
        .attempt(&fill(absolute, &site.keys, "keys"))
        .contains(SECRET)
    {
        reached.push(absolute);
    }
    assert_eq!(reached, [""; 0]);
}

#[test]
fn a_client_cannot_read_what_another_process_was_started_with() {
    let site = Site::new();
    // Not printed, whatever they answer: an environment may hold what no log should.
    let read = |path: &str| {
        let statement = format!("SELECT * FROM file('{path}', 'LineAsString')");
        site.curl.post(ONCE, &statement).text().to_owned()
    };
    let ours = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(ours).is_some());
    // The engine's own, below /proc/self/task, holds what the engine uses and nothing else.
    let own = read("/proc/self/task/*/environ");
    assert!(own.contains("TZ=Asia/Shanghai"));
    assert!(!own.contains(ours));
    let mut reached = Vec::new();
    for process in ["self".to_owned(), std::process::id().to_string()] {
        for file in ["environ", "cmdline", "maps"] {
            let path = format!("/proc/{process}/{file}");
            if !read(&path).contains("Permission denied") {
                reached.push(path);
            }
        }
    }
    assert_eq!(reached, [""; 0]);
}

#[test]
fn a_client_cannot_write_outside_the_data_folder() {
    let site = Site::new();
    let entries = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let mut reached = Vec::new();
    let mut attempt_outside = |statements: &'static str| {
        site.attempt(&fill(statements, &site.keys, "keys"));
        let kept = fs::read_to_string(site.keys.join(FILE)).unwrap();
        if entries(&site.keys) != [FILE] || kept != format!("{SECRET}\n") {
            reached.push(statements);
            fs::remove_dir_all(&site.keys).unwrap();
            fs::create_dir(&site.keys).unwrap();
            fs::write(site.keys.join(FILE), format!("{SECRET}\n")).unwrap();
        }
    };
    for (name, statements) in [
        (
            "function",
            "INSERT INTO FUNCTION file('FOLDER/function', 'LineAsString', 's String') SELECT 'x'",
        ),
        (
            "partition_x",
            "INSERT INTO FUNCTION file('FOLDER/partition_{_partition_id}', 'LineAsString', 's String') PARTITION BY s SELECT 'x'",
        ),
        (
            "table",
            "CREATE TABLE shop.file_NAME (s String) ENGINE = File(LineAsString, 'FOLDER/table'); INSERT INTO shop.file_NAME SELECT 'x'",
        ),
        (
            "disk",
            "CREATE TABLE shop.disk_NAME (n UInt32) ENGINE = MergeTree ORDER BY n SETTINGS disk = disk(type = 'local', path = 'FOLDER/disk/');
             INSERT INTO shop.disk_NAME SELECT 1",
        ),
        (
            "sqlite",
            "CREATE DATABASE sqlite_NAME ENGINE = SQLite('FOLDER/sqlite')",
        ),
        (
            "rocksdb",
            "CREATE TABLE shop.rocksdb_NAME (k UInt32, v String) ENGINE = EmbeddedRocksDB(0, 'FOLDER/rocksdb') PRIMARY KEY k;
             INSERT INTO shop.rocksdb_NAME SELECT 1, 'x'",
        ),
    ] {
        site.attempt(&fill(statements, &site.open(), "open"));
        assert!(site.open().join(name).exists(), "{statements}");
        attempt_outside(statements);
    }
    let overwrite = "INSERT INTO FUNCTION file('PATH', 'LineAsString', 's String') SETTINGS engine_file_truncate_on_insert = 1 SELECT 'x'";
    site.attempt(&fill(overwrite, &site.open(), "open"));
    assert_eq!(fs::read_to_string(site.open().join(FILE)).unwrap(), "x\n");
    // The engine's server or ClickHouse refuses the last three by themselves.
    for statements in [
        overwrite,
        "SELECT 1 INTO OUTFILE 'FOLDER/outfile' FORMAT TSV",
        "BACKUP TABLE shop.sales TO File('FOLDER/backup')",
        "BACKUP TABLE shop.sales TO Disk('default', '../keys/backup')",
    ] {
        attempt_outside(statements);
    }
    assert_eq!(reached, [""; 0]);
}

#[test]
fn a_client_cannot_run_a_program() {
    let site = Site::new();
    let scripts = site.data.join("user_scripts");
    fs::create_dir_all(&scripts).unwrap();
    let script = scripts.join("give.sh");
    let ran = site.data.join("ran");
    let command = format!(
        "touch {}; cat {}",
        ran.display(),
        site.keys.join(FILE).display()
    );
    fs::write(&script, format!("#!/bin/sh\n{command}\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut reached = Vec::new();
    for (name, statements) in [
        (
            "function",
            "SELECT * FROM executable('give.sh', 'LineAsString', 's String')",
        ),
        (
            "table",
            "CREATE TABLE shop.NAME (s String) ENGINE = Executable('give.sh', 'LineAsString'); SELECT * FROM shop.NAME",
        ),
        (
            "script",
            "CREATE DICTIONARY shop.NAME (s String) PRIMARY KEY s SOURCE(EXECUTABLE(command 'SCRIPT' format 'LineAsString'))
             LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0); SELECT * FROM shop.NAME",
        ),
        (
            "shell",
            "CREATE DICTIONARY shop.NAME (s String) PRIMARY KEY s SOURCE(EXECUTABLE(command 'cat PATH' format 'LineAsString'))
             LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0); SELECT * FROM shop.NAME",
        ),
    ] {
        let statements = statements.replace("SCRIPT", script.to_str().unwrap());
        let answer = site.attempt(&fill(&statements, &site.keys, name));
        if answer.contains(SECRET) || ran.exists() {
            reached.push(statements);
            let _ = fs::remove_file(&ran);
        }
    }
    assert_eq!(reached, [""; 0]);
}

/// Takes connections, answers each as a web server would, and counts them.
fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nx\n");
        }
    });
    (port, count)
}

#[test]
fn a_client_cannot_make_the_engine_connect_to_another_port() {
    let site = Site::new();
    let (port, count) = listener();
    let mut reached = Vec::new();
    for statements in [
        "SELECT * FROM url('http://ADDRESS/x', 'LineAsString', 's String')",
        "INSERT INTO FUNCTION url('http://ADDRESS/x', 'LineAsString', 's String') SELECT 'x'",
        "CREATE TABLE shop.url (s String) ENGINE = URL('http://ADDRESS/x', 'LineAsString'); SELECT * FROM shop.url",
        "SELECT * FROM s3('http://ADDRESS/bucket/x', NOSIGN, 'LineAsString', 's String')",
        "SELECT * FROM remote('ADDRESS', system.one)",
        "SELECT * FROM mysql('ADDRESS', 'd', 't', 'u', 'p')",
        "SELECT * FROM postgresql('ADDRESS', 'd', 't', 'u', 'p')",
        "SELECT * FROM redis('ADDRESS', 'k', 'k String, v String')",
        "CREATE DICTIONARY shop.far (n UInt32) PRIMARY KEY n SOURCE(CLICKHOUSE(host '127.0.0.1' port PORT db 'd' table 't'))
         LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0); SELECT * FROM shop.far",
    ] {
        let address = format!("127.0.0.1:{port}");
        site.attempt(
            &statements
                .replace("ADDRESS", &address)
                .replace("PORT", &port.to_string()),
        );
        if count.swap(0, Ordering::SeqCst) > 0 {
            reached.push(statements);
        }
    }
    assert_eq!(reached, [""; 0]);
    // It would have counted them.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn an_engine_that_may_connect_to_one_port_connects_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let ((allowed, reached), (other, not_reached)) = (listener(), listener());
    let options = ["--allow-connect", &allowed.to_string()];
    let engine = Engine::start_with(&folder.path().join("clickhouse"), &options);
    let curl = Curl::new(&engine);
    for port in [allowed, other] {
        let ask = "SELECT * FROM url('http://127.0.0.1:PORT/x', 'LineAsString', 's String')";
        curl.post(ONCE, &ask.replace("PORT", &port.to_string()));
    }
    assert!(reached.load(Ordering::SeqCst) > 0);
    assert_eq!(not_reached.load(Ordering::SeqCst), 0);
}

#[test]
fn ordinary_work_goes_on() {
    let mut site = Site::new();
    let curl = &site.curl;
    curl.select("CREATE TABLE raw (day Date, n UInt64, text String) ENGINE = MergeTree PARTITION BY day ORDER BY n");
    curl.select("CREATE TABLE sums (day Date, n UInt64) ENGINE = SummingMergeTree ORDER BY day");
    curl.select("CREATE MATERIALIZED VIEW to_sums TO sums AS SELECT day, n FROM raw");
    for _ in 0..5 {
        curl.select(
            "INSERT INTO raw SELECT toDate('2022-01-10') + number % 2, number, repeat('通行', 10) FROM numbers(100000)",
        );
    }
    // Merges, and files that move between folders.
    for statement in [
        "OPTIMIZE TABLE raw FINAL",
        "OPTIMIZE TABLE sums FINAL",
        "ALTER TABLE raw DETACH PARTITION '2022-01-10'",
        "ALTER TABLE raw ATTACH PARTITION '2022-01-10'",
        "ALTER TABLE raw DROP PARTITION '2022-01-11'",
        "CREATE TABLE staging AS raw",
        "ALTER TABLE staging REPLACE PARTITION '2022-01-10' FROM raw",
        "EXCHANGE TABLES staging AND raw",
        "ALTER TABLE raw DELETE WHERE n = 0 SETTINGS mutations_sync = 1",
        "RENAME TABLE raw TO scans",
        "DROP TABLE staging SYNC",
    ] {
        curl.select(statement);
    }
    // More than memory takes: temporary files.
    assert_eq!(
        curl.select(
            "SELECT count(), sum(c) FROM (SELECT number % 1000000 AS k, count() AS c FROM numbers(2000000) GROUP BY k
             SETTINGS max_bytes_before_external_group_by = 10000000, max_bytes_ratio_before_external_group_by = 0)"
        ),
        "1000000\t2000000"
    );
    assert_eq!(
        curl.select("SELECT timezone(), hostName() != ''"),
        "Asia/Shanghai\t1"
    );
    for is_restarted in [false, true] {
        if is_restarted {
            site.engine.kill();
            site.engine.restart();
        }
        let counts = site.curl.select("SELECT count(), sum(n) FROM scans");
        let expected: u64 = (0..100_000).step_by(2).sum::<u64>() * 5;
        assert_eq!(counts, format!("{}\t{expected}", 5 * 49_999));
        let sums = site.curl.select("SELECT sum(n) FROM sums");
        assert_eq!(sums, ((0..100_000).sum::<u64>() * 5).to_string());
        assert_eq!(site.curl.select("SELECT count() FROM sales"), "10");
    }
    site.curl.select("OPTIMIZE TABLE scans FINAL");
}
