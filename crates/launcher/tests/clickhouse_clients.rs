//! Claim: `tongxing clickhouse` serves ClickHouse's HTTP interface as its clients expect it: the Rust crate, curl, and
//! Python's clickhouse-connect; and it keeps what it has answered for, killed or not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod engine_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clickhouse::{Client, Compression, Row};
use engine_support::curl::Curl;
use engine_support::{Engine, program};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

fn engine() -> (TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(&folder.path().join("data"));
    let created = Curl::new(&engine).post("", "CREATE DATABASE shop ENGINE = Atomic");
    assert_eq!((created.status, created.text()), (200, ""));
    (folder, engine)
}

// The Rust crate.

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Sale {
    id: u64,
    name: String,
    price: Option<f64>,
    tags: Vec<u8>,
}

fn sale(id: u64) -> Sale {
    Sale {
        id,
        name: format!("第{id}号\n\n'\\\t"),
        price: (!id.is_multiple_of(3)).then_some(id as f64 / 4.0),
        tags: vec![id as u8; id as usize % 5],
    }
}

async fn the_rust_crate_works(client: Client) {
    client
        .query("CREATE TABLE sales (id UInt64, name String, price Nullable(Float64), tags Array(UInt8)) ENGINE = MergeTree ORDER BY id")
        .execute()
        .await
        .unwrap();
    let mut insert = client.insert::<Sale>("sales").await.unwrap();
    for id in 0..10_000 {
        insert.write(&sale(id)).await.unwrap();
    }
    insert.end().await.unwrap();
    let select = "SELECT ?fields FROM sales WHERE id >= {from:UInt64} ORDER BY id";
    let fetched: Vec<Sale> = client
        .query(select)
        .param("from", 9_000)
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(fetched, (9_000..10_000).map(sale).collect::<Vec<_>>());
    let name = sale(7).name;
    let found = client.query("SELECT id FROM sales WHERE name = {name:String}");
    assert_eq!(
        found.param("name", &name).fetch_one::<u64>().await.unwrap(),
        7
    );
    let bound = client
        .query("SELECT id FROM sales WHERE name = ?")
        .bind(&name);
    assert_eq!(bound.fetch_one::<u64>().await.unwrap(), 7);
    // Much data, in many blocks.
    let mut cursor = client
        .query("SELECT number FROM numbers(300000)")
        .fetch::<u64>()
        .unwrap();
    let mut next = 0;
    while let Some(number) = cursor.next().await.unwrap() {
        assert_eq!(number, next);
        next += 1;
    }
    assert_eq!(next, 300_000);
    let nothing: Vec<u64> = client
        .query("SELECT id FROM sales WHERE id > 1000000")
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(nothing, [0; 0]);
    // An error late in the answer is an error, not a short answer.
    let late = "SELECT throwIf(number = 200000, 'too far') FROM numbers(300000)";
    for (sql, code, text) in [
        ("SELECT id FROM nowhere", "Code: 60.", "UNKNOWN_TABLE"),
        ("SELEC 1", "Code: 62.", "SYNTAX_ERROR"),
        (late, "Code: 395.", "too far"),
    ] {
        let error = client
            .query(sql)
            .fetch_all::<u8>()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(code) && error.contains(text),
            "{sql}: {error}"
        );
    }
    // And what comes after it is right again.
    assert_eq!(
        client
            .query("SELECT count() FROM sales")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        10_000
    );
}

#[tokio::test]
async fn the_rust_crate_works_with_its_default_compression() {
    let (_folder, engine) = engine();
    the_rust_crate_works(
        Client::default()
            .with_url(engine.url())
            .with_database("shop"),
    )
    .await;
}

#[tokio::test]
async fn the_rust_crate_works_without_compression() {
    let (_folder, engine) = engine();
    let client = Client::default()
        .with_url(engine.url())
        .with_database("shop");
    the_rust_crate_works(client.with_compression(Compression::None)).await;
}

// curl.

#[test]
fn curl_queries_by_get_and_by_post() {
    let (_folder, engine) = engine();
    let curl = Curl::new(&engine);
    for path in ["/", "/ping", "/replicas_status"] {
        let answer = curl.run(path, &[]);
        assert_eq!((answer.status, answer.text()), (200, "Ok.\n"), "{path}");
    }
    let answer = curl.get(&["query=SELECT 'a\tb', number FROM numbers(2)"]);
    assert_eq!(
        (answer.status, answer.text()),
        (200, "a\\tb\t0\na\\tb\t1\n")
    );
    assert!(answer.headers["content-type"].starts_with("text/tab-separated-values"));
    assert!(answer.headers.contains_key("x-clickhouse-query-id"));
    assert!(answer.headers["x-clickhouse-summary"].contains("\"read_rows\":\"2\""));
    assert_eq!(curl.post("", "SELECT 1 + 1").text(), "2\n");
    assert_eq!(curl.post("query=SELECT%201", "+ 2").text(), "3\n");
    assert_eq!(
        curl.post("default_format=CSV", "SELECT 'x', 1").text(),
        "\"x\",1\n"
    );
    assert_eq!(
        curl.post("", "SELECT 1 AS one FORMAT JSONEachRow").text(),
        "{\"one\":1}\n"
    );
    let header = curl.run(
        "/",
        &["-H", "X-ClickHouse-Format: CSV", "--data", "SELECT 'x'"],
    );
    assert_eq!(header.text(), "\"x\"\n");
}

#[test]
fn curl_inserts_in_every_form() {
    let (folder, engine) = engine();
    let curl = Curl::new(&engine);
    let insert = |query_string: &str, body: &str| {
        let answer = curl.post(&format!("database=shop&{query_string}"), body);
        assert_eq!(
            (answer.status, answer.text()),
            (200, ""),
            "{query_string} {body}"
        );
    };
    insert(
        "",
        "CREATE TABLE t (n UInt32, s String) ENGINE = MergeTree ORDER BY n",
    );
    insert(
        "query=INSERT%20INTO%20t%20FORMAT%20CSV",
        "1,a\n2,\"b,\n\nSELECT 1\"\n",
    );
    insert("", "INSERT INTO t FORMAT CSV\n3,c\n");
    insert(
        "query=INSERT%20INTO%20t%20FORMAT%20JSONEachRow",
        "{\"n\":4,\"s\":\"d\"}\n\n{\"n\":5}",
    );
    insert("query=INSERT%20INTO%20t%20VALUES", "(6,'f;'),(7,'')");
    insert("", "INSERT INTO t (s, n) VALUES ('h', 8);");
    insert("", "INSERT INTO t SELECT 9, 'i'");
    // Bytes that a text parser would stumble over: line ends, quotes, semicolons.
    let rows = folder.path().join("rows");
    std::fs::write(&rows, b"\x0a\0\0\0\x02\n\n\x0a\x0a\0\0\x03';\0").unwrap();
    let answer = curl.post_file("database=shop&query=INSERT+INTO+t+FORMAT+RowBinary", &rows);
    assert_eq!((answer.status, answer.text()), (200, ""));
    let expected = "1 a|2 b,\n\nSELECT 1|3 c|4 d|5 |6 f;|7 |8 h|9 i|10 \n\n|2570 ';\0";
    let stored = "SELECT arrayStringConcat(groupArray(x), '|') FROM (SELECT concat(toString(n), ' ', s) AS x FROM t ORDER BY n) FORMAT TSVRaw";
    assert_eq!(curl.select(stored), expected);
    // Large enough that curl asks for 100-continue.
    let many: Vec<_> = (0..300_000)
        .map(|n| format!("{},x\n", 10_000 + n))
        .collect();
    std::fs::write(&rows, many.concat()).unwrap();
    let answer = curl.post_file("database=shop&query=INSERT+INTO+t+FORMAT+CSV", &rows);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(curl.select("SELECT count() FROM t"), "300011");
    // A batch with one bad row is refused whole.
    for (format, body) in [
        ("CSV", "1,a\nx,b\n"),
        ("JSONEachRow", "{\"n\":1}{\"n\":"),
        ("RowBinary", "\u{1}"),
    ] {
        let answer = curl.post(
            &format!("database=shop&query=INSERT+INTO+t+FORMAT+{format}"),
            body,
        );
        assert!(
            answer.code().is_some(),
            "{format}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(curl.select("SELECT count() FROM t"), "300011");
}

#[test]
fn curl_is_told_what_is_wrong() {
    let (_folder, engine) = engine();
    let curl = Curl::new(&engine);
    for (query_string, sql, status, code) in [
        ("", "SELECT * FROM nowhere", 404, 60),
        ("", "SELEC 1", 400, 62),
        ("", "", 400, 62),
        ("", "SELECT nothing_like_it", 404, 47),
        ("database=nowhere", "SELECT 1", 404, 81),
        ("no_such_setting=1", "SELECT 1", 404, 115),
        ("", "SELECT {x:UInt8}", 500, 456),
        ("", "SELECT throwIf(1)", 500, 395),
        ("", "SELECT 1; SELECT 2", 400, 62),
        ("", "SELECT 1 FORMAT NoSuchFormat", 404, 73),
    ] {
        let answer = curl.post(query_string, if sql.is_empty() { " " } else { sql });
        let found = (answer.status, answer.code());
        assert_eq!(found, (status, Some(code)), "{sql}: {}", answer.text());
    }
    assert_eq!(curl.run("/nowhere", &[]).status, 404);
    assert_eq!(curl.post("", "SELECT 1").text(), "1\n");
}

#[test]
fn one_request_is_one_statement_and_a_get_changes_nothing() {
    let (folder, engine) = engine();
    let curl = Curl::new(&engine);
    curl.select("CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n");
    let two = curl.post("database=shop", "INSERT INTO t VALUES (1); DROP TABLE t");
    assert_eq!((two.status, two.code()), (400, Some(62)), "{}", two.text());
    for sql in [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t FORMAT CSV 1",
        "INSERT INTO t SELECT 1",
        "CREATE TABLE u (n UInt32) ENGINE = Memory",
        "DROP TABLE t",
        "TRUNCATE TABLE t",
        "ALTER TABLE t ADD COLUMN m UInt8",
    ] {
        let query = format!("query={sql}");
        for also in [&["database=shop"][..], &["database=shop", "readonly=0"]] {
            let refused = curl.get(&[&[query.as_str()], also].concat());
            assert_eq!(
                refused.code(),
                Some(164),
                "{sql}: {} {}",
                refused.status,
                refused.text()
            );
        }
    }
    assert_eq!(curl.select("SELECT count() FROM t"), "0");
    assert_eq!(curl.select("EXISTS TABLE u"), "0");
    // No statement writes files on the server.
    let file = folder.path().join("written");
    for sql in [
        "SELECT 1 INTO OUTFILE 'PATH'",
        "SELECT $$it's$$ into /* */ outfile 'PATH' FORMAT CSV",
        "WITH 1 AS x SELECT x INTO OUTFILE 'PATH' AND STDOUT",
        "(SELECT 1 UNION ALL SELECT 2) INTO OUTFILE 'PATH'",
        "SHOW TABLES INTO OUTFILE 'PATH'",
        "DESCRIBE TABLE shop.t INTO OUTFILE 'PATH'",
        "EXPLAIN SELECT 1 INTO OUTFILE 'PATH'",
    ] {
        let sql = sql.replace("PATH", &file.display().to_string());
        for answer in [curl.get(&[&format!("query={sql}")]), curl.post("", &sql)] {
            assert_eq!(answer.code(), Some(358), "{sql}: {}", answer.text());
            assert!(!file.exists(), "{sql}");
        }
    }
    assert_eq!(
        curl.select("SELECT 'INTO OUTFILE' AS outfile"),
        "INTO OUTFILE"
    );
}

#[test]
fn settings_parameters_and_the_database_belong_to_one_request() {
    let (_folder, engine) = engine();
    let curl = Curl::new(&engine);
    let setting = "query=SELECT getSetting('max_result_rows')";
    assert_eq!(curl.get(&[setting, "max_result_rows=77"]).text(), "77\n");
    assert_eq!(curl.get(&[setting]).text(), "0\n");
    let text = curl.get(&[
        "query=SELECT {s:String}, {n:Int32} + 1",
        "param_s=a'b\\\\c",
        "param_n=-5",
    ]);
    assert_eq!(text.text(), "a\\'b\\\\c\t-4\n");
    let list = curl.get(&["query=SELECT length({l:Array(UInt8)})", "param_l=[1,2,3]"]);
    assert_eq!(list.text(), "3\n");
    let current = "query=SELECT currentDatabase()";
    assert_eq!(curl.get(&[current, "database=shop"]).text(), "shop\n");
    assert_eq!(curl.get(&[current]).text(), "default\n");
    let header = curl.run(
        "/",
        &[
            "-H",
            "X-ClickHouse-Database: shop",
            "-d",
            "SELECT currentDatabase()",
        ],
    );
    assert_eq!(header.text(), "shop\n");
    assert_eq!(curl.select("SELECT timezone()"), "Asia/Shanghai");
}

// Python.

/// A virtual environment with the pinned packages, made once and kept in the target folder.
fn python(requirements: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python-venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("installed");
    let pinned = std::fs::read(requirements).unwrap();
    if std::fs::read(&stamp).is_ok_and(|installed| installed == pinned) {
        return python;
    }
    let run = |command: &mut Command, advice: &str| {
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{advice}: {error}"));
        assert!(output.status.success(), "{advice}: {output:?}");
    };
    run(
        Command::new("python3").args(["-m", "venv"]).arg(&folder),
        "this test needs python3 with its module venv; install python3 and python3-venv",
    );
    run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(requirements),
        "this test installs clickhouse-connect from PyPI with pip; it needs the network once",
    );
    std::fs::write(stamp, pinned).unwrap();
    python
}

#[test]
fn pythons_clickhouse_connect_works() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let python = python(&folder.join("requirements.txt"));
    let (_folder, engine) = engine();
    let proof = Command::new(python)
        .arg(folder.join("clickhouse_connect_proof.py"))
        .arg(engine.address.port().to_string())
        .output()
        .unwrap();
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (printed(&proof.stdout), printed(&proof.stderr));
    assert!(
        proof.status.success() && out.ends_with("all proven\n"),
        "{out}\n{error}"
    );
}

// Killed.

#[test]
fn a_killed_engine_keeps_its_tables_and_empties_those_in_memory() {
    let (folder, mut engine) = engine();
    let curl = Curl::new(&engine);
    curl.select("CREATE TABLE kept (n UInt32) ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1");
    curl.select("CREATE TABLE forgotten (n UInt32) ENGINE = Memory");
    for round in 1..4 {
        for table in ["kept", "forgotten"] {
            curl.select(&format!(
                "INSERT INTO {table} SELECT number FROM numbers(1000)"
            ));
        }
        engine.kill();
        engine.restart();
        assert_eq!(
            curl.select("SELECT count() FROM kept"),
            (round * 1000).to_string()
        );
        assert_eq!(curl.select("SELECT count() FROM forgotten"), "0");
    }
    // One data folder has one engine.
    let Output { status, stderr, .. } = Command::new(program())
        .args(["clickhouse", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    assert!(!status.success());
    let error = String::from_utf8_lossy(&stderr);
    assert!(error.contains("is another process using it?"), "{error}");
    assert_eq!(curl.select("SELECT count() FROM kept"), "3000");
}
