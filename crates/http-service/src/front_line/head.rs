//! Reads the heads of requests that may be answered at once, and leaves all others to hyper.

use std::mem::MaybeUninit;

use axum::http::{HeaderName, header};
use httparse::{Header, Request, Status};

use super::quick::Headers;

/// Header fields that are read here; a request with more is hyper's.
pub(super) const MAX_FIELDS: usize = 32;
/// How every such request begins.
const START: &[u8] = b"GET /";
/// The minor version of HTTP/1.1.
const HTTP_1_1: u8 = 1;

/// Room for the fields of one head.
pub(super) type Fields<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// The head of a GET over HTTP/1.1 that has no body and asks nothing of its connection.
pub(super) struct Head<'f, 'b> {
    /// The path and query, as they were sent.
    pub target: &'b str,
    /// Bytes of the head.
    pub length: usize,
    fields: &'f [Header<'b>],
}

/// What lies at the start of a connection's unread bytes.
pub(super) enum Start<'f, 'b> {
    Head(Head<'f, 'b>),
    /// The start of what may be such a head.
    Incomplete,
    /// Anything else.
    Others,
}

/// Reads the head at the start of `bytes`.
pub(super) fn read<'f, 'b>(bytes: &'b [u8], fields: &'f mut Fields<'b>) -> Start<'f, 'b> {
    let begun = bytes.len().min(START.len());
    if bytes[..begun] != START[..begun] {
        return Start::Others;
    }
    let mut request = Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Start::Incomplete,
        // hyper answers what is wrong with it.
        Err(_) => return Start::Others,
    };
    let (Some(target), Some(HTTP_1_1)) = (request.path, request.version) else {
        return Start::Others;
    };
    let fields = request.headers;
    if fields.iter().any(is_for_others) {
        return Start::Others;
    }
    Start::Head(Head {
        target,
        length,
        fields,
    })
}

/// Whether a field announces a body, or asks for something beyond the answer.
fn is_for_others(field: &Header<'_>) -> bool {
    let asks = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::EXPECT,
        header::UPGRADE,
    ];
    let is = |name: &HeaderName| field.name.eq_ignore_ascii_case(name.as_str());
    let keeps_alive = field.value.eq_ignore_ascii_case(b"keep-alive");
    asks.iter().any(is) || is(&header::CONNECTION) && !keeps_alive
}

impl Headers for Head<'_, '_> {
    fn field(&self, name: &HeaderName) -> Option<&[u8]> {
        let is_it = |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name.as_str());
        self.fields.iter().find(is_it).map(|field| field.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The target and length of a head, or what it is instead.
    fn start(text: &str) -> Result<(String, usize), &'static str> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        match read(text.as_bytes(), &mut fields) {
            Start::Head(head) => Ok((head.target.to_owned(), head.length)),
            Start::Incomplete => Err("incomplete"),
            Start::Others => Err("others"),
        }
    }

    #[test]
    fn a_plain_get_is_read_up_to_its_end() {
        let head = "GET /v1/codes/x?y HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n";
        let read = Ok(("/v1/codes/x?y".to_owned(), head.len()));
        assert_eq!(start(head), read);
        assert_eq!(start(&format!("{head}GET /")), read);
        for end in 0..head.len() {
            assert_eq!(start(&head[..end]), Err("incomplete"), "{end}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_name_in_any_case() {
        let text = b"GET / HTTP/1.1\r\nAUTHORIZATION: Bearer a\r\nauthorization: b\r\n\r\n";
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let Start::Head(head) = read(text, &mut fields) else {
            panic!("it is a head");
        };
        let first = head.field(&header::AUTHORIZATION);
        assert_eq!(first, Some(b"Bearer a".as_slice()));
        assert_eq!(head.field(&header::ACCEPT), None);
    }

    #[test]
    fn everything_else_is_for_others() {
        let with = |field: &str| format!("GET / HTTP/1.1\r\nhost: h\r\n{field}\r\n\r\n");
        let many = "a: b\r\n".repeat(MAX_FIELDS);
        for text in [
            "POST /v1/scans HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "GET http://h/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nbroken\r\n\r\n",
            "\x16\x03\x01",
            &with("Content-Length: 0"),
            &with("transfer-encoding: chunked"),
            &with("expect: 100-continue"),
            &with("upgrade: websocket"),
            &with("connection: close"),
            &with(&many),
        ] {
            assert_eq!(start(text), Err("others"), "{text}");
        }
    }
}
