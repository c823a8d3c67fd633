//! What a service answers from memory, however its request was read.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;

/// The content type of quick answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a service answers without waiting, and what it keeps away from the cores that do so.
pub trait Quick: Send + Sync + 'static {
    /// Answers a GET that needs nothing but memory (INV-2); nothing where the router is to answer. The target is the path as it was
    /// sent, with its query where it has one. JSON is appended to `body`.
    fn answer(&self, target: &str, headers: &impl Headers, body: &mut Vec<u8>) -> Option<Answer>;

    /// Whether a request may keep a core busy for longer than a lookup may wait.
    fn is_heavy(&self, request: &Request<Incoming>) -> bool;
}

/// A quick answer.
pub enum Answer {
    /// 200 with the JSON in the body.
    Json,
    /// Another, with a body of its own; what was written of JSON is void.
    Refusal(Response<Bytes>),
}

/// The header fields of a request.
pub trait Headers {
    /// The first field of a name.
    fn field(&self, name: &HeaderName) -> Option<&[u8]>;
}

impl Headers for HeaderMap {
    fn field(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }
}
