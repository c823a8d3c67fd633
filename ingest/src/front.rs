//! What ingest answers at once, on the core that read the request: lookups by code (INV-2).

use std::sync::Arc;

use axum::http::{Method, Request, Response, header};
use bytes::Bytes;
use http_service::Quick;
use hyper::body::Incoming;

use crate::routes::lookups;
use crate::service::Ingest;

const CODES: &str = "/v1/codes/";
/// Bodies from this size on are read and answered elsewhere.
const HEAVY_BODY: u64 = 16 << 10;

/// The quick side of the service.
pub struct Front(pub Arc<Ingest>);

impl Quick for Front {
    fn answer(&self, request: &Request<Incoming>) -> Option<Response<Bytes>> {
        let code = request.uri().path().strip_prefix(CODES)?;
        // What is not plainly one code is the router's to judge.
        let is_one =
            request.method() == Method::GET && !code.contains(['/', '%']) && !code.is_empty();
        is_one.then(|| lookups::answer_code(&self.0, request.headers(), code))
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
