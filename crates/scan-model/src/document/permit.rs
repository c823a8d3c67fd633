//! Travel permits of Hong Kong, Macau and Taiwan residents.
//!
//! A permit is identified by its number without the issue count. 港澳居民来往内地通行证: `H` or `M` and eight digits,
//! behind which the card of 1999 prints the two-digit issue count (公安部公告 2010-03-10: the first nine characters
//! stay the same for life); `HA` or `MA` and seven digits for permanent residents who are not Chinese citizens.
//! 台湾居民来往大陆通行证: eight digits, behind which permits before 2008-09-25 print the issue count.

use super::{DocumentError, require_digits};

/// `H` or `M` and eight digits, or `HA` or `MA` and seven; a trailing two-digit issue count, as older permits print it, is cut.
pub(super) fn hong_kong_macau(number: &str) -> Result<&str, DocumentError> {
    let bytes = number.as_bytes();
    if bytes.len() != 9 && bytes.len() != 11 {
        let actual = number.chars().count();
        return Err(DocumentError::Length {
            expected: "9 (or 11 with the issue count)",
            actual,
        });
    }
    if !matches!(bytes[0], b'H' | b'M') {
        return Err(DocumentError::Character {
            position: 1,
            expected: "H or M",
        });
    }
    let letters = if bytes[1] == b'A' { 2 } else { 1 };
    require_digits(bytes, letters)?;
    Ok(&number[..9])
}

/// Eight digits; a trailing two-digit issue count, as older permits print it, is cut.
pub(super) fn taiwan(number: &str) -> Result<&str, DocumentError> {
    let bytes = number.as_bytes();
    if bytes.len() != 8 && bytes.len() != 10 {
        let actual = number.chars().count();
        return Err(DocumentError::Length {
            expected: "8 (or 10 with the issue count)",
            actual,
        });
    }
    require_digits(bytes, 0)?;
    Ok(&number[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_a_printed_issue_count_is_not_part_of_identity() {
        assert_eq!(hong_kong_macau("M0123456702").unwrap(), "M01234567");
        assert_eq!(hong_kong_macau("HA0000001").unwrap(), "HA0000001");
        assert_eq!(taiwan("0123456702").unwrap(), "01234567");
    }

    #[test]
    fn p1_the_letter_and_the_digits_are_checked() {
        assert!(matches!(
            hong_kong_macau("A01234567"),
            Err(DocumentError::Character { position: 1, .. })
        ));
        assert!(matches!(
            hong_kong_macau("H0123456O"),
            Err(DocumentError::Character { position: 9, .. })
        ));
        assert!(matches!(
            taiwan("0123456"),
            Err(DocumentError::Length { actual: 7, .. })
        ));
    }
}
