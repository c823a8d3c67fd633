//! 居民身份证: 18 characters, GB 11643-1999.

use super::{DocumentError, require_digits};
use crate::division;
use crate::enrolment::Sex;

const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECK_CHARACTERS: &[u8; 11] = b"10X98765432";

/// A valid 18-character resident ID number in normal form (`X`, never `x`).
pub struct ResidentId<'a>(&'a str);

/// The GB 11643 check character of the first 17 digits (ISO 7064:1983 MOD 11-2).
///
/// Reads at most 17 bytes, which are to be digits.
pub fn check_digit(first_17: &[u8]) -> u8 {
    let weighted = first_17
        .iter()
        .zip(WEIGHTS)
        .map(|(byte, weight)| u32::from(byte & 0xF) * weight);
    CHECK_CHARACTERS[(weighted.sum::<u32>() % 11) as usize]
}

impl<'a> ResidentId<'a> {
    /// Checks length, characters, division, birth date, sequence, check character, in this order.
    pub fn parse(number: &'a str, today: (i16, i8, i8)) -> Result<Self, DocumentError> {
        let bytes = number.as_bytes();
        if bytes.len() != 18 {
            let actual = number.chars().count();
            return Err(DocumentError::Length {
                expected: "18",
                actual,
            });
        }
        require_digits(&bytes[..17], 0)?;
        if !bytes[17].is_ascii_digit() && bytes[17] != b'X' {
            return Err(DocumentError::Character {
                position: 18,
                expected: "a digit or X",
            });
        }
        if !division::is_historical_county(digits(&bytes[..6])) {
            return Err(DocumentError::Division);
        }
        let (year, month, day) = (
            digits(&bytes[6..10]) as i16,
            digits(&bytes[10..12]) as i8,
            digits(&bytes[12..14]) as i8,
        );
        let birth =
            jiff::civil::Date::new(year, month, day).map_err(|_| DocumentError::BirthDate)?;
        if birth.year() < 1900 || (birth.year(), birth.month(), birth.day()) > today {
            return Err(DocumentError::BirthDateRange);
        }
        if &bytes[14..17] == b"000" {
            return Err(DocumentError::Sequence);
        }
        if check_digit(&bytes[..17]) != bytes[17] {
            return Err(DocumentError::CheckDigit);
        }
        Ok(Self(number))
    }

    /// The number in normal form.
    pub const fn as_str(&self) -> &str {
        self.0
    }

    /// Birth year and sex of a number that has been validated; odd sequence numbers are male.
    pub(super) fn year_and_sex_of_valid(number: &str) -> (u16, Sex) {
        let bytes = number.as_bytes();
        let year = bytes.get(6..10).map_or(0, digits) as u16;
        let odd = bytes.get(16).is_some_and(|byte| byte % 2 == 1);
        (year, if odd { Sex::Male } else { Sex::Female })
    }
}

fn digits(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| {
        value * 10 + u32::from(byte.wrapping_sub(b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: (i16, i8, i8) = (2026, 11, 21);

    fn with_check(body: &str) -> String {
        format!("{body}{}", check_digit(body.as_bytes()) as char)
    }

    fn error_of(number: &str) -> DocumentError {
        match ResidentId::parse(number, TODAY) {
            Ok(_) => panic!("{number} was accepted"),
            Err(error) => error,
        }
    }

    /// The specimen of GB 11643-1999, section 4.1.
    #[test]
    fn p1_the_standard_s_own_specimen_is_valid() {
        assert_eq!(check_digit(b"11010519491231002"), b'X');
        assert_eq!(check_digit(b"44052418800101001"), b'4');
        assert!(ResidentId::parse("11010519491231002X", TODAY).is_ok());
    }

    #[test]
    fn p1_every_rule_is_told_apart() {
        assert_eq!(error_of("110105194912310021"), DocumentError::CheckDigit);
        assert_eq!(
            error_of(&with_check("44010319900231001")),
            DocumentError::BirthDate
        );
        assert_eq!(
            error_of(&with_check("44010320990101001")),
            DocumentError::BirthDateRange
        );
        assert_eq!(
            error_of("440524188001010014"),
            DocumentError::BirthDateRange
        );
        assert_eq!(
            error_of(&with_check("99010319900101001")),
            DocumentError::Division
        );
        assert_eq!(
            error_of(&with_check("44010319900101000")),
            DocumentError::Sequence
        );
        assert!(matches!(
            error_of("4401031990010100"),
            DocumentError::Length { actual: 16, .. }
        ));
        assert!(matches!(
            error_of("4401031990010100A1"),
            DocumentError::Character { position: 17, .. }
        ));
    }

    #[test]
    fn p1_a_leap_day_counts_only_in_leap_years() {
        assert!(ResidentId::parse(&with_check("44010320000229001"), TODAY).is_ok());
        assert_eq!(
            error_of(&with_check("44010319000229001")),
            DocumentError::BirthDate
        );
    }

    #[test]
    fn p1_abolished_divisions_are_accepted() {
        // 440121 was Hua county until 1993; 512201 was Wanxian city, Sichuan, until 1993.
        assert!(ResidentId::parse(&with_check("44012119800101001"), TODAY).is_ok());
    }

    #[test]
    fn p7_sex_and_birth_year_come_from_the_number() {
        let (year, sex) = ResidentId::year_and_sex_of_valid("11010519491231002X");
        assert_eq!((year, sex), (1949, Sex::Female));
    }
}
