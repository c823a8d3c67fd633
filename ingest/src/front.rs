//! What ingest answers at once, on the core that read the request: lookups by code (INV-2).

use std::sync::Arc;

use axum::http::{Method, Request, header};
use http_service::{Answer, Headers, Quick};
use hyper::body::Incoming;

use crate::routes::lookups;
use crate::service::Ingest;

const CODES: &str = "/v1/codes/";
/// Bodies from this size on are read and answered elsewhere.
pub(crate) const HEAVY_BODY: u64 = 16 << 10;

/// The quick side of the service.
pub struct Front(pub Arc<Ingest>);

impl Quick for Front {
    fn answer(&self, target: &str, headers: &impl Headers, body: &mut Vec<u8>) -> Option<Answer> {
        let code = target.strip_prefix(CODES)?;
        // What is not plainly one code is the router's to judge.
        if code.is_empty() || code.contains(['/', '%', '?', '#']) {
            return None;
        }
        Some(match lookups::answer_code(&self.0, headers, code, body) {
            Ok(()) => Answer::Json,
            Err(problem) => Answer::Refusal(problem.to_response()),
        })
    }

    fn is_heavy(&self, request: &Request<Incoming>) -> bool {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match length {
            Some(length) => length >= HEAVY_BODY,
            // Of unknown length, or none: a read, of which metrics are long.
            None => request.method() != Method::GET || request.uri().path() == "/metrics",
        }
    }
}
