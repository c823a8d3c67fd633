//! The resident record: 32 bytes, four words.
//!
//! | word | bits | field |
//! |---|---|---|
//! | 0 | 64 | person id; 0 marks a free slot |
//! | 1 *decision* | 0–9 | active categories |
//! | | 10–13 | version, lowest 4 bits |
//! | | 14–37 | codes valid from, minutes since 2020-01-01 00:00 UTC (24 bits: until 2051) |
//! | | 38–50 | day of the last declaration, days since 2020-01-01; 0 for none (13 bits: until 2042) |
//! | | 51–63 | day of the next change of the active categories; 8191 for none |
//! | 2 *person* | 0–15 | residue: 16 keyed bits beyond the id, against collisions |
//! | | 16–31 | version: the count of the person's changes, modulo 65,536 (S6) |
//! | | 32–33 | sex |
//! | | 34–41 | birth year less 1889; 0 for unknown |
//! | | 42 | face-checked |
//! | | 43 | synthetic |
//! | | 56–63 | of the slot, not of the person: the table's [reach](crate::table) |
//! | 3 *shown* | 0–23 | masked name |
//! | | 24–62 | masked phone number |
//! | | 63 | a phone number is known |
//!
//! Everything that decides colour and validity is in word 1, so one 64-bit load gives a decision that was true at one
//! moment. The next change is kept to the day, rounded down: from that day on the side table decides to the millisecond.

use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::{CategorySet, Timestamp};

/// 2020-01-01 00:00 UTC in milliseconds.
const EPOCH_MS: i64 = 1_577_836_800_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// The value of "no next change".
const NEVER: u64 = 8191;

/// Word 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(pub u64);

impl Decision {
    /// The decision of someone about whom nothing is known.
    pub const EMPTY: Self = Self(NEVER << 51);

    /// Active categories as of the last change.
    pub const fn categories(self) -> CategorySet {
        CategorySet((self.0 & 0x3FF) as u16)
    }

    /// The lowest four bits of the version that this decision belongs to.
    pub const fn version_low(self) -> u16 {
        (self.0 >> 10 & 0xF) as u16
    }

    /// Codes issued before this instant are revoked.
    pub const fn codes_valid_from(self) -> Timestamp {
        Timestamp(EPOCH_MS + (self.0 >> 14 & 0xFF_FFFF) as i64 * MINUTE_MS)
    }

    /// Start of the day (UTC) of the last declaration.
    pub const fn last_declaration(self) -> Option<Timestamp> {
        match self.0 >> 38 & 0x1FFF {
            0 => None,
            day => Some(Timestamp(EPOCH_MS + day as i64 * DAY_MS)),
        }
    }

    /// Whether the active categories may have changed by now, so that the side table decides.
    pub const fn is_due(self, now: Timestamp) -> bool {
        let next_day = self.0 >> 51;
        next_day != NEVER && EPOCH_MS + next_day as i64 * DAY_MS <= now.0
    }

    /// This decision with other categories, version and next change.
    #[must_use]
    pub fn with_categories(
        self,
        categories: CategorySet,
        next_change: Option<Timestamp>,
        version: u16,
    ) -> Self {
        let next_day = next_change.map_or(NEVER, |time| {
            ((time.0 - EPOCH_MS).div_euclid(DAY_MS)).clamp(0, NEVER as i64 - 1) as u64
        });
        let kept = self.0 & (0xFF_FFFF << 14 | 0x1FFF << 38);
        let low = u64::from(version & 0xF);
        Self(kept | u64::from(categories.0 & 0x3FF) | low << 10 | next_day << 51)
    }

    /// This decision with the day of a declaration, where that is later than the one it has.
    #[must_use]
    pub fn with_declaration(self, time: Timestamp) -> Self {
        let day = (time.0 - EPOCH_MS).div_euclid(DAY_MS).clamp(1, 0x1FFF) as u64;
        if day <= (self.0 >> 38 & 0x1FFF) {
            return self;
        }
        Self(self.0 & !(0x1FFF << 38) | day << 38)
    }

    /// This decision with another instant from which codes are valid, rounded up to the minute.
    #[must_use]
    pub fn with_codes_valid_from(self, time: Timestamp, version: u16) -> Self {
        let minutes = (time.0 - EPOCH_MS + MINUTE_MS - 1).div_euclid(MINUTE_MS);
        let minutes = minutes.clamp(0, 0xFF_FFFF) as u64;
        let kept = self.0 & !(0xFF_FFFF << 14 | 0xF << 10);
        Self(kept | minutes << 14 | u64::from(version & 0xF) << 10)
    }
}

/// Word 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersonWord(pub u64);

impl PersonWord {
    /// The word of an enrolment.
    pub fn new(enrolment: &Enrolment, version: u16) -> Self {
        let sex = match enrolment.sex {
            Sex::Unknown => 0,
            Sex::Male => 1,
            Sex::Female => 2,
        };
        let birth_year = enrolment
            .birth_year
            .and_then(|year| u8::try_from(year.checked_sub(1889)?).ok())
            .unwrap_or(0);
        let is_face_checked = enrolment.verification == Verification::FaceChecked;
        Self(
            u64::from(enrolment.identity.residue())
                | u64::from(version) << 16
                | sex << 32
                | u64::from(birth_year) << 34
                | u64::from(is_face_checked) << 42
                | u64::from(enrolment.synthetic) << 43,
        )
    }

    /// 16 keyed bits beyond the id.
    pub const fn residue(self) -> u16 {
        self.0 as u16
    }

    /// The version, which is the decision's or newer.
    pub const fn version(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// This word with another version.
    #[must_use]
    pub const fn with_version(self, version: u16) -> Self {
        Self(self.0 & !(0xFFFF << 16) | (version as u64) << 16)
    }

    /// Sex.
    pub const fn sex(self) -> Sex {
        match self.0 >> 32 & 3 {
            1 => Sex::Male,
            2 => Sex::Female,
            _ => Sex::Unknown,
        }
    }

    /// Birth year.
    pub const fn birth_year(self) -> Option<u16> {
        match (self.0 >> 34 & 0xFF) as u16 {
            0 => None,
            years => Some(1889 + years),
        }
    }

    /// How the identity was checked.
    pub const fn verification(self) -> Verification {
        if self.0 >> 42 & 1 == 1 {
            Verification::FaceChecked
        } else {
            Verification::NameMatched
        }
    }

    /// Whether load generation made this person.
    pub const fn is_synthetic(self) -> bool {
        self.0 >> 43 & 1 == 1
    }
}

/// Word 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownWord(pub u64);

impl ShownWord {
    /// The word of a masked name and phone number.
    pub fn new(name: MaskedName, phone: Option<MaskedPhone>) -> Self {
        let phone = phone.map_or(0, |phone| phone.to_bits() << 24 | 1 << 63);
        Self(u64::from(name.to_bits()) | phone)
    }

    /// The masked name.
    pub const fn name(self) -> MaskedName {
        MaskedName::from_bits((self.0 & 0xFF_FFFF) as u32)
    }

    /// The masked phone number.
    pub const fn phone(self) -> Option<MaskedPhone> {
        if self.0 >> 63 == 0 {
            return None;
        }
        Some(MaskedPhone::from_bits(self.0 >> 24 & 0x7F_FFFF_FFFF))
    }
}

/// The version that a decision belongs to, given a person word read after it: that word's version or one of the
/// fifteen before it.
pub const fn version_of(decision: Decision, person: PersonWord) -> u16 {
    let newer_by = person.version().wrapping_sub(decision.version_low()) & 0xF;
    person.version().wrapping_sub(newer_by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use scan_model::Category;

    #[test]
    fn a_decision_keeps_each_field_apart() {
        let categories = CategorySet::EMPTY.with(Category::OtherProvinceHolder);
        let from = Timestamp::parse_rfc3339("2026-11-21T08:00:30+08:00").unwrap();
        let change = Timestamp::parse_rfc3339("2026-12-01T12:00:00Z").unwrap();
        let decision = Decision::EMPTY
            .with_codes_valid_from(from, 4)
            .with_categories(categories, Some(change), 21);
        assert_eq!(decision.categories(), categories);
        assert_eq!(decision.version_low(), 5);
        assert_eq!(decision.codes_valid_from(), Timestamp(from.0 + 30_000));
        assert_eq!(decision.last_declaration(), None);
        assert!(!decision.is_due(change.plus_ms(-DAY_MS)));
        assert!(
            decision.is_due(change),
            "from the day of the change on, the side table decides"
        );
        assert!(!Decision::EMPTY.is_due(Timestamp(i64::MAX)));
    }

    proptest! {
        #[test]
        fn s6_the_version_of_a_decision_is_found_again(version: u16, newer in 0_u16..16) {
            let decision = Decision::EMPTY.with_categories(CategorySet::EMPTY, None, version);
            let person = PersonWord(0).with_version(version.wrapping_add(newer));
            prop_assert_eq!(version_of(decision, person), version);
        }

        #[test]
        fn shown_fields_read_back(name in "[\u{4e00}-\u{9fff}]{1,6}|[A-Za-z]{1,9}", phone in proptest::option::of("1[3-9][0-9]{9}")) {
            let name = MaskedName::of(&name).unwrap();
            let phone = phone.map(|phone| MaskedPhone::of(&phone).unwrap());
            let word = ShownWord::new(name, phone);
            prop_assert_eq!((word.name(), word.phone()), (name, phone));
        }
    }
}
