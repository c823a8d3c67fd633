//! Passports: issuer and number as in ICAO Doc 9303 parts 3 and 4.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::DocumentError;

static ISSUERS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("../../data/passport_issuers.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(',').next())
        .collect()
});

/// One to nine letters and digits, and a three-letter issuer (Germany's `D` is `DEU` or `D`).
pub(super) fn parse<'n>(
    number: &'n str,
    issuer: Option<&str>,
) -> Result<([u8; 3], &'n str), DocumentError> {
    let issuer = issuer
        .ok_or(DocumentError::IssuerMissing)?
        .trim()
        .to_uppercase();
    let issuer = if issuer == "D" {
        String::from("DEU")
    } else {
        issuer
    };
    let code: [u8; 3] = issuer
        .as_bytes()
        .try_into()
        .map_err(|_| DocumentError::Issuer)?;
    if !ISSUERS.contains(issuer.as_str()) {
        return Err(DocumentError::Issuer);
    }
    let length = number.chars().count();
    if !(5..=9).contains(&length) {
        return Err(DocumentError::Length {
            expected: "5 to 9",
            actual: length,
        });
    }
    if let Some(index) = number.chars().position(|c| !c.is_ascii_alphanumeric()) {
        let expected = "a Latin letter or a digit";
        return Err(DocumentError::Character {
            position: index + 1,
            expected,
        });
    }
    Ok((code, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_the_same_number_of_two_countries_is_two_documents() {
        let china = parse("E12345678", Some("CHN")).unwrap();
        let france = parse("E12345678", Some("FRA")).unwrap();
        assert_ne!(china, france);
        assert_eq!(parse("C01X00T47", Some("d")).unwrap().0, *b"DEU");
    }

    #[test]
    fn p1_a_full_width_digit_is_refused_with_its_position() {
        let error = parse("E１234567", Some("CHN")).unwrap_err();
        assert!(matches!(
            error,
            DocumentError::Character { position: 2, .. }
        ));
    }
}
