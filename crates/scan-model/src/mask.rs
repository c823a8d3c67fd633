//! What of a name and a phone number a tester may see (Y1, Y4), packed into one resident word.
//!
//! A masked name keeps one code point and how many stars follow it; a masked phone number keeps its country, up to
//! three leading and up to four trailing digits, and always hides four or more.

use std::fmt;

use arrayvec::ArrayString;
use bincode::{Decode, Encode};

/// A name as a tester sees it: `欧***`, `A***`, or `*` alone for a single-character name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MaskedName {
    /// The code point shown; zero shows none.
    pub(crate) shown: u32,
    /// Stars after it, 0 to 7.
    pub(crate) stars: u8,
}

/// A phone number as a tester sees it: `+86 138****5678`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MaskedPhone {
    pub(crate) country: u16,
    pub(crate) leading: u16,
    pub(crate) leading_digits: u8,
    pub(crate) trailing: u16,
    pub(crate) trailing_digits: u8,
}

/// A phone number as + and digits: three of a country and fourteen at most.
pub type NormalPhone = ArrayString<18>;

/// Why a name or phone number cannot be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// No letters at all.
    #[error("a name must have at least one letter")]
    EmptyName,
    /// Too long to be a name.
    #[error("a name must have at most 100 characters")]
    LongName,
    /// Not `+country digits`.
    #[error(
        "a phone number is + and a country code, a space or hyphen, then 5 to 14 digits, or 11 digits of a mainland mobile"
    )]
    Phone,
}

impl MaskedName {
    /// Masks a name: Chinese names show their first character and a star for each further one (at most four);
    /// a single character shows nothing of itself; any other script shows its first letter and three stars.
    pub fn of(name: &str) -> Result<Self, MaskError> {
        let (mut first, mut letters, mut has_han) = (None, 0_usize, false);
        for (count, c) in trim(name).chars().enumerate() {
            if count == 100 {
                return Err(MaskError::LongName);
            }
            let is_han = is_han(c);
            has_han |= is_han;
            // The middle dot of transliterated names is punctuation, not a letter.
            if is_han || c.is_alphanumeric() {
                first = first.or(Some(c));
                letters += 1;
            }
        }
        let first = first.ok_or(MaskError::EmptyName)?;
        Ok(match (has_han, letters - 1) {
            (_, 0) => Self { shown: 0, stars: 1 },
            (true, rest) => Self {
                shown: first as u32,
                stars: rest.min(4) as u8,
            },
            (false, _) => Self {
                shown: upper_case(first) as u32,
                stars: 3,
            },
        })
    }

    /// 24 bits: code point, then star count.
    pub const fn to_bits(self) -> u32 {
        self.shown << 3 | self.stars as u32
    }

    /// The inverse of [`Self::to_bits`].
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            shown: bits >> 3 & 0x1F_FFFF,
            stars: (bits & 7) as u8,
        }
    }
}

impl fmt::Display for MaskedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shown) = char::from_u32(self.shown).filter(|c| *c != '\0') {
            write!(f, "{shown}")?;
        }
        f.write_str(&"*******"[..usize::from(self.stars.min(7))])
    }
}

impl MaskedPhone {
    /// Masks a phone number: `+853 6612 3456`, `+86-13812345678`, or a bare mainland mobile of 11 digits.
    pub fn of(phone: &str) -> Result<Self, MaskError> {
        Self::read(phone).map(|(masked, _)| masked)
    }

    /// The mask, and country code and national digits in one normal form, for keyed hashing.
    pub fn read(phone: &str) -> Result<(Self, NormalPhone), MaskError> {
        let (country, normal) = split_phone(phone)?;
        let digits = &normal[1 + country.len()..];
        let country = number(country);
        let count = digits.len();
        let leading_digits = ((count - 4) / 2).min(3);
        let trailing_digits = (count - 4 - leading_digits).min(4);
        let masked = Self {
            country,
            leading: number(&digits[..leading_digits]),
            leading_digits: leading_digits as u8,
            trailing: number(&digits[count - trailing_digits..]),
            trailing_digits: trailing_digits as u8,
        };
        Ok((masked, normal))
    }

    /// 39 bits: country 10, leading 10 + 2, trailing 14 + 3.
    pub const fn to_bits(self) -> u64 {
        (self.country as u64) << 29
            | (self.leading as u64) << 19
            | (self.leading_digits as u64) << 17
            | (self.trailing as u64) << 3
            | self.trailing_digits as u64
    }

    /// The inverse of [`Self::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            country: (bits >> 29 & 0x3FF) as u16,
            leading: (bits >> 19 & 0x3FF) as u16,
            leading_digits: (bits >> 17 & 3) as u8,
            trailing: (bits >> 3 & 0x3FFF) as u16,
            trailing_digits: (bits & 7) as u8,
        }
    }
}

impl fmt::Display for MaskedPhone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} ", self.country)?;
        if self.leading_digits > 0 {
            write!(
                f,
                "{:0width$}",
                self.leading,
                width = usize::from(self.leading_digits)
            )?;
        }
        f.write_str("****")?;
        if self.trailing_digits > 0 {
            write!(
                f,
                "{:0width$}",
                self.trailing,
                width = usize::from(self.trailing_digits)
            )?;
        }
        Ok(())
    }
}

/// The upper-case form of a letter where that is one code point, else the letter itself.
fn upper_case(letter: char) -> char {
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => single,
        _ => letter,
    }
}

/// Whether a character is a Chinese one, which has no case and is a letter.
pub(crate) fn is_han(c: char) -> bool {
    matches!(c as u32, 0x3007 | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// The number that up to four digits are.
fn number(digits: &str) -> u16 {
    digits
        .bytes()
        .fold(0, |number, digit| number * 10 + u16::from(digit & 0xF))
}

/// Whether a text is digits alone, each looked at without a branch.
fn are_digits(text: &str) -> bool {
    let each = text.bytes();
    each.fold(true, |are, byte| are & byte.is_ascii_digit())
}

/// The text without white space around it. Most has none, which its first and last bytes show: those from E4 to E9 begin the characters
/// U+4000 to U+9FFF, none of them white.
pub(crate) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        [0xE4..=0xE9, .., 0xE4..=0xE9, _, _] => text,
        _ => text.trim(),
    }
}

/// The country code, and the whole number as + and digits.
fn split_phone(phone: &str) -> Result<(&str, NormalPhone), MaskError> {
    let phone = trim(phone);
    let Some(international) = phone.strip_prefix('+') else {
        let normal = join_phone("86", phone)?;
        let digits = &normal["+86".len()..];
        let is_mainland_mobile = digits.len() == 11 && digits.starts_with('1');
        return is_mainland_mobile
            .then_some(("86", normal))
            .ok_or(MaskError::Phone);
    };
    let (country, rest) = match international.split_once([' ', '-']) {
        Some(parts) => parts,
        None => international
            .strip_prefix("86")
            .map(|rest| ("86", rest))
            .ok_or(MaskError::Phone)?,
    };
    let is_country = (1..=3).contains(&country.len())
        && country.bytes().all(|b| b.is_ascii_digit())
        && !country.starts_with('0');
    if !is_country {
        return Err(MaskError::Phone);
    }
    Ok((country, join_phone(country, rest)?))
}

/// + and the digits of both, without the spaces and hyphens of the second.
fn join_phone(country: &str, digits: &str) -> Result<NormalPhone, MaskError> {
    let mut normal = NormalPhone::new();
    let mut join = |part: &str| normal.try_push_str(part).map_err(|_| MaskError::Phone);
    join("+")?;
    join(country)?;
    // Most have neither.
    if are_digits(digits) {
        join(digits)?;
    } else {
        for part in digits.split([' ', '-']) {
            join(part)?;
        }
    }
    let before = 1 + country.len();
    let digits = &normal[before..];
    let is_valid = (5..=14).contains(&digits.len()) && are_digits(digits);
    is_valid.then_some(normal).ok_or(MaskError::Phone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> String {
        let masked = MaskedName::of(text).unwrap();
        assert_eq!(MaskedName::from_bits(masked.to_bits()), masked);
        masked.to_string()
    }

    fn phone(text: &str) -> String {
        let masked = MaskedPhone::of(text).unwrap();
        assert_eq!(MaskedPhone::from_bits(masked.to_bits()), masked);
        masked.to_string()
    }

    #[test]
    fn y1_names_of_every_form_are_masked() {
        assert_eq!(name("张伟"), "张*");
        assert_eq!(name("欧阳娜娜"), "欧***");
        assert_eq!(name("阿凡提·买买提"), "阿****");
        assert_eq!(name("丑"), "*");
        assert_eq!(name("𠮷野"), "𠮷*");
        assert_eq!(name("anne-marie smith"), "A***");
        assert_eq!(name("Ó Briain"), "Ó***");
        assert_eq!(name("ßen"), "ß***");
        assert_eq!(MaskedName::of(" - "), Err(MaskError::EmptyName));
    }

    #[test]
    fn y1_phones_of_every_length_hide_four_digits_or_more() {
        assert_eq!(phone("13812345678"), "+86 138****5678");
        assert_eq!(phone("+86-138-1234-5678"), "+86 138****5678");
        assert_eq!(phone("+8613812345678"), "+86 138****5678");
        assert_eq!(phone("+853 6612 3456"), "+853 66****56");
        assert_eq!(phone("+1 202-555-0100"), "+1 202****100");
        assert_eq!(phone("+290 12345"), "+290 ****5");
        assert_eq!(phone("+49 00512345607"), "+49 005****5607");
        for bad in ["", "12345", "+86", "+0 123456", "1381234567a", "+86 1234"] {
            assert_eq!(MaskedPhone::of(bad), Err(MaskError::Phone), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn white_space_around_a_text_goes_whatever_the_text(text in "[ \u{3000}\u{2009}\n]{0,2}[a张 鿿\u{4000}䶵ö𠮷\u{3000}]{0,4}[ \u{3000}\u{2009}\n]{0,2}") {
            prop_assert_eq!(trim(&text), text.trim());
        }

        #[test]
        fn y4_no_text_makes_masking_panic(text in "\\PC*") {
            let _ = MaskedName::of(&text).map(|masked| masked.to_string());
            let _ = MaskedPhone::of(&text).map(|masked| masked.to_string());
        }

        #[test]
        fn y4_a_masked_phone_never_contains_the_number(digits in "1[0-9]{10}") {
            prop_assert!(!phone(&digits).contains(&digits));
        }
    }
}
