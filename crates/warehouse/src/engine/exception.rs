//! ClickHouse's error text as a code and an HTTP status.

use axum::http::StatusCode;

/// The code that ClickHouse gives to what it cannot name.
const UNKNOWN_EXCEPTION: u32 = 1002;

/// The code at the head of an error text: `Code: 60. DB::Exception: …`.
pub(super) fn code_of(text: &str) -> u32 {
    text.trim_start()
        .strip_prefix("Code: ")
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(UNKNOWN_EXCEPTION)
}

/// The status with which ClickHouse's own HTTP handler answers a code (`exceptionCodeToHTTPStatus.cpp`).
pub(super) fn status_of(code: u32) -> StatusCode {
    match code {
        6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
        | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
        46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => StatusCode::NOT_FOUND,
        192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
        194 => StatusCode::UNAUTHORIZED,
        159 => StatusCode::REQUEST_TIMEOUT,
        381 => StatusCode::LENGTH_REQUIRED,
        229 => StatusCode::PAYLOAD_TOO_LARGE,
        779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        48 => StatusCode::NOT_IMPLEMENTED,
        76 | 202 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_of_a_nested_error_counts() {
        assert_eq!(
            code_of("Code: 33. DB::Exception: Code: 62. DB::Exception: x"),
            33
        );
        assert_eq!(code_of("something else"), UNKNOWN_EXCEPTION);
        assert_eq!(status_of(60), StatusCode::NOT_FOUND);
        assert_eq!(
            status_of(UNKNOWN_EXCEPTION),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
