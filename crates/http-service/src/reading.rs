//! Reads JSON bodies, and says what is wrong with one without repeating what was sent.
//!
//! serde's own messages quote the value that they refuse, which may be a document number, a name or a phone number in the
//! wrong place (INV-3). Here only the field, the rule and what is allowed are kept of them.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// Longest unknown field name that is repeated.
const LONGEST_NAME: usize = 40;

/// Reads one JSON value. An error names the field where the reading stopped, and the rule.
pub fn read_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    // Keeping track of the path costs half as much again, so it is kept only where there is something to say.
    serde_json::from_slice(bytes).or_else(|_| read_tracked(bytes))
}

fn read_tracked<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // Whether the body is JSON at all comes first, wherever the reading stopped.
        if let Err(error) = serde_json::from_slice::<&RawValue>(bytes) {
            return Problem::malformed(error.to_string());
        }
        let path = error.path().to_string();
        let inner = error.inner();
        if inner.is_data() {
            refusal(&path, &inner.to_string())
        } else {
            // serde_json calls a number in an enum's place a syntax error.
            Problem::field(field(&path), "type", "has the wrong type")
        }
    })?;
    deserializer
        .end()
        .map_err(|error| Problem::malformed(error.to_string()))?;
    Ok(value)
}

/// What serde's message means for the field at `path`; `.` is the whole.
pub fn refusal(path: &str, message: &str) -> Problem {
    let reason = message
        .rsplit_once(" at line ")
        .map_or(message, |(reason, _)| reason);
    let quoted = |prefix: &str| {
        let rest = reason.strip_prefix(prefix)?;
        Some(rest.rsplit_once('`').map_or(rest, |(name, _)| name))
    };
    if let Some(name) = quoted("missing field `") {
        return Problem::field(within(path, name), "required", "is required");
    }
    if let Some(name) = quoted("duplicate field `") {
        return Problem::field(within(path, name), "duplicate", "stands here twice");
    }
    // What is allowed is static text; what was sent stands before it.
    let (sent, allowed) = reason.rsplit_once(", expected ").unwrap_or((reason, ""));
    if let Some(name) = sent.strip_prefix("unknown field `") {
        let name = name.strip_suffix('`').unwrap_or(name);
        let detail = format!("no such field; known here: {allowed}");
        return Problem::field(unknown_field(path, name), "unknown_field", detail);
    }
    if reason.starts_with("unknown variant ") {
        return Problem::field(field(path), "allowed", format!("must be {allowed}"));
    }
    let allowed = match allowed {
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" => "an integer from 0 to 18446744073709551615",
        "f64" => "a number",
        "a sequence" => "an array",
        "" => "of another type",
        object if object.starts_with("struct ") => "an object",
        other => other,
    };
    Problem::field(field(path), "type", format!("must be {allowed}"))
}

fn field(path: &str) -> &str {
    if path == "." { "body" } else { path }
}

fn within(parent: &str, name: &str) -> String {
    match parent {
        "." => name.to_owned(),
        parent if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        parent => format!("{parent}.{name}"),
    }
}

/// An unknown field is named only where its name looks like one; anything else may be data.
fn unknown_field(path: &str, name: &str) -> String {
    let parent = path
        .strip_suffix(name)
        .map_or(path, |parent| parent.trim_end_matches('.'));
    let parent = if parent.is_empty() { "." } else { parent };
    let looks_like_one = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if looks_like_one {
        within(parent, name)
    } else {
        field(parent).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Display,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        number: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        count: u16,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    fn refused(json: &str) -> (String, String, String) {
        let problem =
            serde_json::to_value(read_json::<Outer>(json.as_bytes()).unwrap_err()).unwrap();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (text("field"), text("rule"), problem.to_string())
    }

    #[test]
    fn an_error_names_the_field_and_the_rule() {
        for (json, field, rule) in [
            ("{}", "count", "required"),
            (r#"{"count":1,"inner":{}}"#, "inner.number", "required"),
            (r#"{"count":70000}"#, "count", "type"),
            (r#"{"count":"a"}"#, "count", "type"),
            (r#"{"count":1,"count":1}"#, "count", "duplicate"),
            (r#"{"count":1,"colour":1}"#, "colour", "unknown_field"),
            (
                r#"{"count":1,"inner":{"number":"a","colour":1}}"#,
                "inner.colour",
                "unknown_field",
            ),
            (r#"{"count":1,"kind":"stroll"}"#, "kind", "allowed"),
            (r#"{"count":1,"kind":7}"#, "kind", "type"),
            (r#"{"count":1,"inner":"a"}"#, "inner", "type"),
            (r#""a""#, "body", "type"),
            ("7", "body", "type"),
        ] {
            let (found_field, found_rule, _) = refused(json);
            assert_eq!(
                (found_field.as_str(), found_rule.as_str()),
                (field, rule),
                "{json}"
            );
        }
    }

    #[test]
    fn what_is_not_json_names_no_field() {
        for json in [
            "",
            "{",
            r#"{"count":"#,
            r#"{"colour":["#,
            r#"{"count":1}x"#,
            "\u{1}",
        ] {
            let problem = read_json::<Outer>(json.as_bytes()).unwrap_err();
            assert_eq!(problem.status(), 400, "{json}");
        }
    }

    #[test]
    fn inv3_no_error_repeats_what_was_sent() {
        for place in [
            r#"{"count":$}"#,
            r#"{"count":1,"kind":$}"#,
            r#"{"count":1,"inner":$}"#,
            r#"{"count":1,"inner":{"number":$}}"#,
            r#"{"count":1,$:1}"#,
            r#"{"count":1,"inner":{"number":"a",$:1}}"#,
            "{$:1}",
            "$",
            r#"{"count":1,"kind":{$:1}}"#,
        ] {
            for sent in [
                "13812345678",
                "\"13812345678\"",
                "\"`13812345678`\"",
                "\", expected 13812345678\"",
                "\"13812345678 at line 1\"",
                "[13812345678]",
                "-13812345678.5",
            ] {
                let json = place.replace('$', sent);
                let Err(problem) = read_json::<Outer>(json.as_bytes()) else {
                    continue;
                };
                let body = serde_json::to_string(&problem).unwrap();
                assert!(!body.contains("13812345678"), "{json}: {body}");
            }
        }
    }
}
