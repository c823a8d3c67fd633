//! Writes answers as HTTP/1.1 (RFC 9112).

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use axum::http::Response;
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

/// Appends a 200 with JSON.
pub(super) fn write_json(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    write_rest(out, body);
}

/// Appends a response.
pub(super) fn write(out: &mut Vec<u8>, response: &Response<Bytes>) {
    let status = response.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    write_rest(out, response.body());
}

fn write_rest(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"content-length: ");
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\ndate: ");
    write_date(out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Appends the date (RFC 9110, 5.6.7), which is made once a second. The clock is the kernel's of its last tick, some milliseconds ago.
fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        static MADE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let seconds = u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0);
    MADE.with_borrow_mut(|(made, text)| {
        if *made != seconds {
            *made = seconds;
            *text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{StatusCode, header};

    #[test]
    fn answers_carry_their_length_and_the_time() {
        let mut out = Vec::new();
        write_json(&mut out, b"{}");
        let mut refused = Response::new(Bytes::from_static(b"no"));
        *refused.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let seconds = "1".parse().unwrap();
        refused.headers_mut().insert(header::RETRY_AFTER, seconds);
        write(&mut out, &refused);
        let text = String::from_utf8(out).unwrap();
        let (dates, rest): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("date: "));
        let expected = [
            "HTTP/1.1 200 OK",
            "content-type: application/json",
            "content-length: 2",
            "",
            "{}HTTP/1.1 429 Too Many Requests",
            "retry-after: 1",
            "content-length: 2",
            "",
            "no",
        ];
        assert_eq!(rest, expected);
        for date in dates {
            let date = httpdate::parse_http_date(date.trim_start_matches("date: ")).unwrap();
            let age = SystemTime::now().duration_since(date).unwrap();
            assert!(age < Duration::from_secs(5), "{age:?}");
        }
    }
}
