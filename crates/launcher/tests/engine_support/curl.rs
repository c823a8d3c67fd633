//! The program `curl` against the engine.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use super::Engine;

/// curl against one engine.
pub struct Curl {
    url: String,
}

/// What the engine answered.
pub struct Answer {
    pub status: u16,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("text")
    }

    /// The exception's code, where it is an error in ClickHouse's form.
    pub fn code(&self) -> Option<u32> {
        let code = self
            .headers
            .get("x-clickhouse-exception-code")?
            .parse()
            .ok()?;
        let is_said = self
            .text()
            .starts_with(&format!("Code: {code}. DB::Exception: "));
        (is_said && self.status >= 400).then_some(code)
    }
}

impl Curl {
    pub fn new(engine: &Engine) -> Self {
        Self { url: engine.url() }
    }

    /// Runs curl against a path with further arguments.
    pub fn run(&self, path: &str, arguments: &[&str]) -> Answer {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60"])
            // One head, not another for 100-continue.
            .args(["--write-out", "%{stderr}%{size_header}"])
            .args(arguments)
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{output:?}");
        let head_length = str::from_utf8(&output.stderr).unwrap().parse().unwrap();
        let (head, body) = output.stdout.split_at(head_length);
        let head = str::from_utf8(head).unwrap().trim_end();
        let head = head.rsplit("\r\n\r\n").next().unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        Answer {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    /// GET with URL parameters `name=value`.
    pub fn get(&self, parameters: &[&str]) -> Answer {
        let mut arguments = vec!["--get"];
        for parameter in parameters {
            arguments.extend(["--data-urlencode", parameter]);
        }
        self.run("/", &arguments)
    }

    /// POST of a body, with an encoded query string.
    pub fn post(&self, query_string: &str, body: &str) -> Answer {
        self.run(&format!("/?{query_string}"), &["--data-binary", body])
    }

    pub fn post_file(&self, query_string: &str, file: &Path) -> Answer {
        let body = format!("@{}", file.display());
        self.run(&format!("/?{query_string}"), &["--data-binary", &body])
    }

    /// What a SELECT answers.
    pub fn select(&self, sql: &str) -> String {
        let answer = self.post("database=shop", sql);
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text().trim_end().to_owned()
    }
}
