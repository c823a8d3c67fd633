//! Every error as `application/problem+json` (RFC 9457), made in one place.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

/// A problem: what is wrong, where, what is allowed, and what to do.
///
/// As small as a pointer, so that the outcomes of a batch, nearly all of them good, stay small too.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Details>);

#[derive(Debug, Clone, Serialize)]
struct Details {
    /// Stable name, `urn:tongxing:problem:…`.
    #[serde(rename = "type")]
    kind: Box<str>,
    /// One line for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is allowed.
    detail: Box<str>,
    /// The field that breaks a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Box<str>>,
    /// The rule's stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Box<str>>,
    /// What the checker does next, in the asked language (C10).
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<&'static str>,
    /// Whether a record of the refusal is durable (C3).
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<bool>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl Problem {
    fn new(name: &str, status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: format!("urn:tongxing:problem:{name}").into(),
            title,
            status: status.as_u16(),
            detail: detail.into().into(),
            field: None,
            rule: None,
            next_step: None,
            recorded: None,
            retry_after_seconds: None,
        }))
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// A field breaks a rule.
    pub fn field(field: impl Into<String>, rule: &str, detail: impl Into<String>) -> Self {
        let title = "A field breaks a rule";
        let mut problem = Self::new(
            "invalid-field",
            StatusCode::UNPROCESSABLE_ENTITY,
            title,
            detail,
        );
        problem.0.field = Some(field.into().into());
        problem.0.rule = Some(rule.into());
        problem
    }

    /// The body is not what the content type says.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(
            "malformed-body",
            StatusCode::BAD_REQUEST,
            "The body cannot be read",
            detail,
        )
    }

    /// The content type is none of those that the route takes.
    pub fn content_type(allowed: &str) -> Self {
        let title = "The content type is not supported";
        Self::new(
            "unsupported-media-type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            title,
            format!("send one of: {allowed}"),
        )
    }

    /// The body is larger than the route takes.
    pub fn too_large(limit: usize) -> Self {
        let title = "The body is too large";
        let detail = format!("at most {limit} bytes; send smaller batches");
        Self::new(
            "body-too-large",
            StatusCode::PAYLOAD_TOO_LARGE,
            title,
            detail,
        )
    }

    /// More items than one request takes.
    pub fn too_many_items(limit: usize) -> Self {
        let title = "The batch is too large";
        let detail = format!("at most {limit} items; send smaller batches");
        Self::new(
            "too-many-items",
            StatusCode::PAYLOAD_TOO_LARGE,
            title,
            detail,
        )
    }

    /// No key, or one that nobody has.
    pub fn unauthenticated() -> Self {
        let title = "The caller is unknown";
        let detail = "send Authorization: Bearer with a key of this deployment";
        Self::new("unauthenticated", StatusCode::UNAUTHORIZED, title, detail)
    }

    /// The caller lacks a right (INV-8).
    pub fn missing_right(right: &str) -> Self {
        let title = "The caller lacks a right";
        let mut problem = Self::new(
            "missing-right",
            StatusCode::FORBIDDEN,
            title,
            format!("this call needs the right {right}"),
        );
        problem.0.rule = Some(right.into());
        problem
    }

    /// What was named is not known.
    pub fn unknown(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let title = "What is named is not known";
        let mut problem = Self::new(
            "unknown-reference",
            StatusCode::UNPROCESSABLE_ENTITY,
            title,
            detail,
        );
        problem.0.field = Some(field.into().into());
        problem.0.rule = Some("known".into());
        problem
    }

    /// No such path.
    pub fn not_found() -> Self {
        let title = "There is nothing here";
        Self::new(
            "not-found",
            StatusCode::NOT_FOUND,
            title,
            "see /openapi.json for every path",
        )
    }

    /// The path does not take this method.
    pub fn method_not_allowed() -> Self {
        let title = "The path does not take this method";
        Self::new(
            "method-not-allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            title,
            "see /openapi.json",
        )
    }

    /// A code that opens to nobody's valid code, with what to do about it (C10).
    pub fn code(name: &'static str, title: &'static str, next_step: &'static str) -> Self {
        let mut problem = Self::new(name, StatusCode::UNPROCESSABLE_ENTITY, title, title);
        problem.0.field = Some("code".into());
        problem.0.rule = Some(name.trim_start_matches("code-").into());
        problem.0.next_step = Some(next_step);
        problem
    }

    /// A quick check-in under a red code: refused, and durable as a red encounter (C3).
    pub fn red_refused(next_step: &'static str) -> Self {
        let title = "The code is red: the check-in is refused and recorded";
        let mut problem = Self::new("red-refused", StatusCode::FORBIDDEN, title, title);
        problem.0.next_step = Some(next_step);
        problem.0.recorded = Some(true);
        problem
    }

    /// The id was used for something else.
    pub fn conflict(field: &str, detail: &str) -> Self {
        let title = "The id was used for something else";
        let mut problem = Self::new("conflict", StatusCode::CONFLICT, title, detail);
        problem.0.field = Some(field.into());
        problem
    }

    /// The record behind an item is larger than the log takes.
    pub fn record_too_large(bytes: usize, limit: usize) -> Self {
        let title = "The record is too large";
        let detail = format!("{bytes} bytes are more than {limit}");
        Self::new(
            "record-too-large",
            StatusCode::PAYLOAD_TOO_LARGE,
            title,
            detail,
        )
    }

    /// No more people fit in the status table.
    pub fn persons_full(capacity: usize) -> Self {
        let title = "No more people fit";
        let detail = format!(
            "the status table is configured for {capacity} persons and is full; raise persons_capacity on every node and restart it"
        );
        Self::new(
            "persons-full",
            StatusCode::INSUFFICIENT_STORAGE,
            title,
            detail,
        )
    }

    /// One caller's share is used up.
    pub fn too_many_requests() -> Self {
        let title = "The caller's share is used up";
        let detail = "slow down to the rate of this key";
        Self::new("rate-limited", StatusCode::TOO_MANY_REQUESTS, title, detail).retry_after(1)
    }

    /// A person's codes were revoked several times within a minute.
    pub fn too_many_revocations() -> Self {
        let title = "This person's codes were revoked several times just now";
        let detail = "codes issued before the last revocation are revoked; revoke those issued since in a minute";
        Self::new("rate-limited", StatusCode::TOO_MANY_REQUESTS, title, detail).retry_after(60)
    }

    /// A bound of the service was reached, or the log is away.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "The service cannot take this now";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new("unavailable", status, title, detail).retry_after(1)
    }

    /// Adds what the checker does next (C10).
    #[must_use]
    pub fn with_next_step(mut self, next_step: &'static str) -> Self {
        self.0.next_step = Some(next_step);
        self
    }

    /// The same problem of another field of the same form: `from.number` becomes `to.number`.
    #[must_use]
    pub fn moved(mut self, from: &str, to: &str) -> Self {
        if let Some(rest) = self
            .0
            .field
            .as_deref()
            .and_then(|field| field.strip_prefix(from))
        {
            self.0.field = Some(format!("{to}{rest}").into());
        }
        self
    }

    /// Names the item's place in its field, such as `document.number`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.0.field = Some(match self.0.field.take() {
            Some(field) => format!("{parent}.{field}").into(),
            None => parent.into(),
        });
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The stable name without its prefix.
    pub fn name(&self) -> &str {
        self.0.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl Problem {
    /// The problem as a response.
    pub fn to_response(&self) -> Response<Bytes> {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, content_type);
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.to_response().map(Body::from)
    }
}
