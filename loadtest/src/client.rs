//! A small HTTP/1.1 client on one kept-open connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where a service listens, over plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`.
    pub authority: String,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address that load may go to.
    #[error("{0}: must be http:// and a loopback address with a port")]
    Endpoint(String),
    /// Not an address.
    #[error("{0}: must be http:// and a host with a port")]
    AnyEndpoint(String),
    /// No connection.
    #[error("connect to {0}: {1}")]
    Connect(String, std::io::Error),
    /// The exchange broke.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be built.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

impl Endpoint {
    /// Reads `http://127.0.0.1:8080`: loads go to loopback alone.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let endpoint = Self::of_any_host(url);
        let is_loopback = |endpoint: &Self| {
            let host = endpoint.host();
            let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        };
        endpoint
            .filter(is_loopback)
            .ok_or_else(|| ClientError::Endpoint(url.to_owned()))
    }

    /// Reads `http://host:port`, of whatever host: what is sent there is readable on the way.
    pub fn parse_beyond_loopback(url: &str) -> Result<Self, ClientError> {
        Self::of_any_host(url).ok_or_else(|| ClientError::AnyEndpoint(url.to_owned()))
    }

    fn of_any_host(url: &str) -> Option<Self> {
        let authority = url.strip_prefix("http://")?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':')?;
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
        (is_host && port.parse::<u16>().is_ok()).then(|| Self {
            authority: authority.to_owned(),
        })
    }

    fn host(&self) -> &str {
        let parts = self.authority.rsplit_once(':');
        parts.map_or("", |(host, _)| host)
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection, opened again when it breaks. One request at a time.
pub struct Client {
    endpoint: Endpoint,
    authorization: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client that sends a secret as its bearer token; connects at the first request.
    pub fn new(endpoint: Endpoint, secret: String) -> Self {
        Self {
            endpoint,
            authorization: format!("Bearer {secret}"),
            sender: None,
        }
    }

    /// Sends a GET.
    pub async fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, "", Bytes::new()).await
    }

    /// Sends a POST.
    pub async fn post(
        &mut self,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.send(Method::POST, path, content_type, body).await
    }

    /// Sends a POST and asks to be told of refused items alone (RFC 7240).
    pub async fn post_for_refusals(
        &mut self,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let prefer = Some("return=minimal");
        self.send_preferring(Method::POST, path, content_type, body, prefer)
            .await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.send_preferring(method, path, content_type, body, None)
            .await
    }

    async fn send_preferring(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
        prefer: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.endpoint.authority)
            .header("authorization", &self.authorization);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        if let Some(prefer) = prefer {
            request = request.header("prefer", prefer);
        }
        let request = request.body(Full::new(body))?;
        let exchanged = tokio::time::timeout(TIMEOUT, self.exchange(request)).await;
        let outcome = exchanged.unwrap_or(Err(ClientError::Timeout));
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_closed() => sender,
            slot => slot.insert(connect(&self.endpoint).await?),
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body })
    }
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let refused = |error| ClientError::Connect(endpoint.authority.clone(), error);
    let stream = TcpStream::connect(&endpoint.authority)
        .await
        .map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The sender sees a broken connection at its next request.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_goes_to_loopback_only() {
        for good in [
            "http://127.0.0.1:8080",
            "http://localhost:1/",
            "http://[::1]:80",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.org:80",
            "https://127.0.0.1:1",
            "127.0.0.1:1",
            "http://10.0.0.1:80",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
