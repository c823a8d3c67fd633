//! One request at a time over one kept-open connection, written and read in place.
//!
//! The generator shares the machine with what it measures, so an exchange costs it one write, one read and one pass over the
//! answer's head. Requests are written ready to send; answers are read by [`httparse`] as far as their status and length.

use std::io::Write;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Endpoint;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Headers that an answer may have.
const MOST_HEADERS: usize = 32;
/// Bytes that an answer may have.
const MOST_BYTES: usize = 1 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection is refused or broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The answer is not one that the services give: HTTP/1.1 with a content length.
    #[error("the answer cannot be read: {0}")]
    Answer(&'static str),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// A connection, opened again when it breaks.
pub struct Exchange {
    endpoint: Endpoint,
    secret: String,
    stream: Option<TcpStream>,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Exchange {
    /// A connection that sends a secret as its bearer token; connects at the first request.
    pub fn new(endpoint: Endpoint, secret: String) -> Self {
        Self {
            endpoint,
            secret,
            stream: None,
            output: Vec::with_capacity(1024),
            input: Vec::with_capacity(4096),
        }
    }

    /// Sends a POST of JSON; answers the status.
    pub async fn post(&mut self, path: &str, body: &str) -> Result<u16, ExchangeError> {
        self.output.clear();
        write!(
            self.output,
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.endpoint.authority,
            self.secret,
            body.len()
        )?;
        self.send().await
    }

    async fn send(&mut self) -> Result<u16, ExchangeError> {
        let outcome = tokio::time::timeout(TIMEOUT, self.exchange()).await;
        let outcome = outcome.unwrap_or(Err(ExchangeError::Timeout));
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    async fn exchange(&mut self) -> Result<u16, ExchangeError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            slot => {
                let stream = TcpStream::connect(&self.endpoint.authority).await?;
                stream.set_nodelay(true)?;
                slot.insert(stream)
            }
        };
        stream.write_all(&self.output).await?;
        self.input.clear();
        loop {
            if stream.read_buf(&mut self.input).await? == 0 {
                return Err(ExchangeError::Answer("it ended early"));
            }
            if let Some((status, length)) = read_head(&self.input)? {
                while self.input.len() < length {
                    if stream.read_buf(&mut self.input).await? == 0 {
                        return Err(ExchangeError::Answer("it ended early"));
                    }
                }
                return Ok(status);
            }
        }
    }
}

/// The status of an answer and its length with the head, once the head is whole.
pub(crate) fn read_head(input: &[u8]) -> Result<Option<(u16, usize)>, ExchangeError> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(input);
    let Ok(parsed) = parsed else {
        return Err(ExchangeError::Answer("it is not HTTP"));
    };
    let httparse::Status::Complete(head) = parsed else {
        return if input.len() > MOST_BYTES {
            Err(ExchangeError::Answer("its head is too long"))
        } else {
            Ok(None)
        };
    };
    let status = response
        .code
        .ok_or(ExchangeError::Answer("it has no status"))?;
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| str::from_utf8(header.value).ok()?.trim().parse().ok())
        .filter(|length: &usize| *length <= MOST_BYTES)
        .ok_or(ExchangeError::Answer(
            "its length is missing or beyond 1 MiB",
        ))?;
    Ok(Some((status, head + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_its_head_is_whole() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        let head = answer.len() - 5;
        for cut in 0..head {
            assert!(read_head(&answer[..cut]).unwrap().is_none(), "{cut}");
        }
        assert_eq!(read_head(answer).unwrap(), Some((201, answer.len())));
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "no HTTP\r\n\r\n",
        ] {
            assert!(read_head(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
