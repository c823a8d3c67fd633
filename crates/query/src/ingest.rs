//! Forwards what belongs to ingest: who a caller is, what it may read and whom a document names is decided there (INV-8), and audited.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use http_service::Problem;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// How long ingest may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer of ingest that is read, in bytes (INV-6).
const MAX_ANSWER: usize = 8 << 20;
/// What goes along of a caller's request.
const FORWARDED: [header::HeaderName; 3] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::ACCEPT_LANGUAGE,
];
/// What goes back of a refusal.
const RELAYED: [header::HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

/// Why a URL is not ingest's.
#[derive(Debug, thiserror::Error)]
#[error("must be http://host:port, without a path, not {0:?}")]
pub struct UrlError(String);

/// What ingest said.
pub enum Forwarded {
    /// 200, and the body.
    Answered(Bytes),
    /// Anything else, as it is to be passed on.
    Refused(Response),
}

/// A node of ingest, or what stands before several.
#[derive(Clone)]
pub struct IngestClient {
    authority: Authority,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl IngestClient {
    /// Ingest at `http://host:port`. Connects at the first request.
    ///
    /// # Errors
    /// [`UrlError`] for any other text.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let refuse = || UrlError(url.to_owned());
        let parsed: Uri = url.parse().map_err(|_| refuse())?;
        let authority = parsed.authority().cloned().ok_or_else(refuse)?;
        let is_plain = parsed.scheme() == Some(&Scheme::HTTP)
            && matches!(parsed.path(), "" | "/")
            && parsed.query().is_none();
        if !is_plain {
            return Err(refuse());
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { authority, client })
    }

    /// Whether requests stay on this machine.
    pub fn is_on_loopback(&self) -> bool {
        let host = self.authority.host();
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// Posts a caller's body to a path, in the caller's name.
    ///
    /// # Errors
    /// 503 where ingest does not answer.
    pub async fn post(
        &self,
        path: &'static str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Forwarded, Problem> {
        let away = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, path, "ingest does not answer");
            Problem::unavailable("ingest does not answer; retry")
        };
        let uri = format!("http://{}{path}", self.authority);
        let mut request = Request::builder().method(Method::POST).uri(uri);
        for name in FORWARDED {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| away(&error))?;
        let asking = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|error| away(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| away(&error))?.to_bytes();
            Ok((head, body))
        };
        let answered = tokio::time::timeout(PATIENCE, asking).await;
        let (head, body) = answered.map_err(|_| away(&"no answer in time"))??;
        if head.status == StatusCode::OK {
            return Ok(Forwarded::Answered(body));
        }
        let mut refused = Response::new(Body::from(body));
        *refused.status_mut() = head.status;
        for name in RELAYED {
            if let Some(value) = head.headers.get(&name) {
                refused.headers_mut().insert(name, value.clone());
            }
        }
        Ok(Forwarded::Refused(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for (url, is_on_loopback) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost:8080", true),
            ("http://ingest:8080/", false),
            ("http://10.0.0.1", false),
        ] {
            let client = IngestClient::new(url).unwrap();
            assert_eq!(client.is_on_loopback(), is_on_loopback, "{url}");
        }
        for refused in [
            "",
            "127.0.0.1:8080",
            "https://ingest",
            "http://ingest/v1",
            "http://ingest/?a",
            "/v1",
        ] {
            assert!(IngestClient::new(refused).is_err(), "{refused}");
        }
    }
}
