//! 出生医学证明 numbers: one letter and nine digits.

use super::{DocumentError, require_digits};

pub(super) fn parse(number: &str) -> Result<&str, DocumentError> {
    let bytes = number.as_bytes();
    if bytes.len() != 10 {
        let actual = number.chars().count();
        return Err(DocumentError::Length {
            expected: "10",
            actual,
        });
    }
    if !bytes[0].is_ascii_uppercase() {
        return Err(DocumentError::Character {
            position: 1,
            expected: "a Latin letter",
        });
    }
    require_digits(bytes, 1)?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_a_birth_certificate_is_a_letter_and_nine_digits() {
        assert!(parse("P440123456").is_ok());
        assert!(matches!(
            parse("4401234567"),
            Err(DocumentError::Character { position: 1, .. })
        ));
        assert!(matches!(
            parse("P44012345"),
            Err(DocumentError::Length { actual: 9, .. })
        ));
        assert!(matches!(
            parse("P44012345X"),
            Err(DocumentError::Character { position: 10, .. })
        ));
    }
}
