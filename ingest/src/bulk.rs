//! Reads one item, an array, or NDJSON, and answers in the same shape: a result per item, in order.
//!
//! An item that cannot be read is refused by itself; the others go through.

mod row;
pub mod rows;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_service::read_json;
use scheduling::Breather;
use serde::de::Deserialize;
use serde_json::value::RawValue;

use self::rows::Items;
use crate::problem::Problem;

/// Largest body, in bytes (INV-6).
pub const MAX_BODY: usize = 8 << 20;
/// Most items of one request (INV-6).
pub const MAX_ITEMS: usize = 10_000;

/// Items worked through at a time, before other threads may go first.
pub(crate) const BREATH: u32 = 32;

/// The shape of a request, which the answer takes too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON object.
    One,
    /// A JSON array.
    Array,
    /// One JSON object a line.
    Lines,
}

/// A request's items, each read or refused.
pub struct Batch<T> {
    /// The shape.
    pub shape: Shape,
    /// The items, with the bytes each was read from.
    pub items: Vec<Result<(T, Bytes), Problem>>,
}

/// Reads a body of [`MAX_BODY`] bytes at most.
pub async fn read_body(body: Body) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| {
        let is_too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit"));
        if is_too_large {
            Problem::too_large(MAX_BODY)
        } else {
            Problem::malformed("the body ended early")
        }
    })
}

/// The media type of a request's body, without parameters, in lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// An import's items, each made into what is wanted of it or refused.
pub struct Import<T> {
    /// The shape.
    pub shape: Shape,
    /// The items.
    pub items: Vec<Result<T, Problem>>,
}

/// Reads the items of an import, as [`read_items`] does or from CSV, and makes each into what is wanted of it. The breather says how
/// lookups go first meanwhile.
pub fn read_import<T: Items, U>(
    headers: &HeaderMap,
    body: &Bytes,
    mut breather: Breather,
    mut make: impl FnMut(T::Form<'_>) -> Result<U, Problem>,
) -> Result<Import<U>, Problem> {
    if media_type(headers) == rows::CSV {
        return rows::read_rows::<T, U>(body, breather, make);
    }
    let batch = read_by_type(headers, body, &mut breather)?;
    let make = |item: Result<(T::Form<'_>, Bytes), Problem>| {
        breather.item();
        item.and_then(|(form, _)| make(form))
    };
    Ok(Import {
        shape: batch.shape,
        items: batch.items.into_iter().map(make).collect(),
    })
}

/// Reads the items of a body by its content type.
pub fn read_items<'b, T: Deserialize<'b>>(
    headers: &HeaderMap,
    body: &'b Bytes,
) -> Result<Batch<T>, Problem> {
    read_by_type(headers, body, &mut Breather::every(BREATH))
}

fn read_by_type<'b, T: Deserialize<'b>>(
    headers: &HeaderMap,
    body: &'b Bytes,
    breather: &mut Breather,
) -> Result<Batch<T>, Problem> {
    const ALLOWED: &str = "application/json, application/x-ndjson";
    match media_type(headers).as_str() {
        "application/json" if first_byte(body) == Some(b'[') => read_array(body),
        "application/json" => Ok(Batch {
            shape: Shape::One,
            items: vec![Ok((read_json(body)?, body.clone()))],
        }),
        "application/x-ndjson" => read_lines(body, breather),
        _ => Err(Problem::content_type(ALLOWED)),
    }
}

fn first_byte(body: &Bytes) -> Option<u8> {
    body.iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

fn read_array<'b, T: Deserialize<'b>>(body: &'b Bytes) -> Result<Batch<T>, Problem> {
    let raw: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| Problem::malformed(error.to_string()))?;
    if raw.len() > MAX_ITEMS {
        return Err(Problem::too_many_items(MAX_ITEMS));
    }
    let read = |item: &'b RawValue| {
        let json = item.get().as_bytes();
        read_json(json).map(|value| (value, body.slice_ref(json)))
    };
    Ok(Batch {
        shape: Shape::Array,
        items: raw.into_iter().map(read).collect(),
    })
}

fn read_lines<'b, T: Deserialize<'b>>(
    body: &'b Bytes,
    breather: &mut Breather,
) -> Result<Batch<T>, Problem> {
    let lines: Vec<&[u8]> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .take(MAX_ITEMS + 1)
        .collect();
    if lines.len() > MAX_ITEMS {
        return Err(Problem::too_many_items(MAX_ITEMS));
    }
    let read = |line: &'b [u8]| {
        breather.item();
        read_json(line).map(|value| (value, body.slice_ref(line)))
    };
    Ok(Batch {
        shape: Shape::Lines,
        items: lines.into_iter().map(read).collect(),
    })
}

/// An item that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The item's status, 2xx.
    pub status: StatusCode,
    /// JSON text.
    pub body: String,
}

/// Answers in the request's shape, with one status for all that was done. Each outcome is JSON text, or the item's problem.
pub fn respond(
    shape: Shape,
    status: StatusCode,
    outcomes: Vec<Result<String, Problem>>,
) -> Response {
    let each = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|body| Done { status, body }));
    respond_each(shape, each.collect())
}

/// Whether a caller wants to hear of refused items alone (RFC 7240, `Prefer: return=minimal`).
pub fn wants_refusals_only(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim().eq_ignore_ascii_case("return=minimal"))
}

/// Answers how many items were accepted, and each refused one with its index and problem.
pub fn respond_refusals<T>(outcomes: &[Result<T, Problem>]) -> Response {
    let mut refused = Vec::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        if let Err(problem) = outcome {
            let status = problem.status().as_u16();
            let problem = serde_json::to_string(problem).unwrap_or_default();
            refused.push(format!(
                r#"{{"index":{index},"status":{status},"problem":{problem}}}"#
            ));
        }
    }
    let accepted = outcomes.len() - refused.len();
    let body = format!(
        r#"{{"accepted":{accepted},"refused":{},"results":[{}]}}"#,
        refused.len(),
        refused.join(",")
    );
    let mut response = json(StatusCode::OK, "application/json", body);
    let applied = HeaderValue::from_static("return=minimal");
    response.headers_mut().insert("preference-applied", applied);
    response
}

/// Answers in the request's shape, with a status an item.
pub fn respond_each(shape: Shape, outcomes: Vec<Result<Done, Problem>>) -> Response {
    if shape == Shape::One {
        return match outcomes.into_iter().next() {
            Some(Ok(done)) => json(done.status, "application/json", done.body),
            Some(Err(problem)) => problem.into_response(),
            None => Problem::malformed("the body is empty").into_response(),
        };
    }
    let mut body = String::with_capacity(outcomes.len() * 64);
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    let accepted = outcomes.len() - refused;
    let lines = outcomes
        .into_iter()
        .enumerate()
        .map(|(index, outcome)| match outcome {
            Ok(Done { status, body }) => format!(
                r#"{{"index":{index},"status":{},"result":{body}}}"#,
                status.as_u16()
            ),
            Err(problem) => {
                let status = problem.status().as_u16();
                let problem = serde_json::to_string(&problem).unwrap_or_default();
                format!(r#"{{"index":{index},"status":{status},"problem":{problem}}}"#)
            }
        });
    if shape == Shape::Lines {
        for line in lines {
            body.push_str(&line);
            body.push('\n');
        }
        return json(StatusCode::OK, "application/x-ndjson", body);
    }
    let lines: Vec<String> = lines.collect();
    body = format!(
        r#"{{"accepted":{accepted},"refused":{refused},"results":[{}]}}"#,
        lines.join(",")
    );
    json(StatusCode::OK, "application/json", body)
}

/// A response with a body that is there already, of a media type.
pub fn media(body: Bytes, media_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A response with a status and a body of a media type.
pub fn json(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let mut response = (status, body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[allow(dead_code)]
        number: u8,
    }

    fn read(content_type: &'static str, body: &'static str) -> Result<Batch<Item>, Problem> {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        read_items(&headers, &Bytes::from_static(body.as_bytes()))
    }

    fn refusal(problem: Problem) -> serde_json::Value {
        serde_json::to_value(problem).unwrap()
    }

    #[test]
    fn one_bad_item_leaves_the_others_alone() {
        let batch = read(
            "application/x-ndjson",
            "{\"number\":1}\n\n{\"number\":300}\nx\n{}\n",
        )
        .unwrap();
        let read: Vec<bool> = batch.items.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, false, false, false]);
        let array = read_items::<Item>(
            &HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json; charset=utf-8"),
            )]),
            &Bytes::from_static(b" [{\"number\":1},{\"number\":\"a\"}]"),
        );
        assert_eq!(
            array
                .unwrap()
                .items
                .iter()
                .filter(|item| item.is_ok())
                .count(),
            1
        );
    }

    #[test]
    fn an_error_names_the_field() {
        let field = |body| {
            let batch = read("application/json", body);
            let problem = match batch {
                Err(problem) => problem,
                Ok(batch) => batch.items.into_iter().next().unwrap().unwrap_err(),
            };
            refusal(problem)["field"].as_str().map(str::to_owned)
        };
        assert_eq!(field("{}").as_deref(), Some("number"));
        assert_eq!(field(r#"{"number":300}"#).as_deref(), Some("number"));
        assert_eq!(
            field(r#"{"number":1,"colour":2}"#).as_deref(),
            Some("colour")
        );
    }

    #[test]
    fn truncated_json_and_other_media_types_are_refused() {
        assert_eq!(
            read("application/json", r#"{"number":"#)
                .err()
                .unwrap()
                .status(),
            400
        );
        assert_eq!(
            read("application/json", r#"[{"number":1}"#)
                .err()
                .unwrap()
                .status(),
            400
        );
        assert_eq!(read("text/plain", "{}").err().unwrap().status(), 415);
    }
}
