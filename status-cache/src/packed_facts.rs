//! A person's facts in few bytes: 60 for a usual one, where the struct with its texts takes 200 and more.
//!
//! One fact after the other, each
//!
//! | bytes | field |
//! |---|---|
//! | 1 | category; bit 7: there is an expiry |
//! | 2 | number of the change |
//! | 1–10 | effective, milliseconds since 2020-01-01, zigzag varint |
//! | 0–10 | expiry less effective, zigzag varint |
//! | 1–10 | recorded less effective, zigzag varint |
//! | 8 | keyed hash of who supplied it |
//! | 1 + n | source, 1 + n reference, 1 + n note: varint length and text |
//!
//! Only this crate writes the form, and a snapshot carries it under the snapshot's version.

use scan_model::{Category, CategorySet, Fact, PersonId, Timestamp};

/// 2020-01-01 00:00 UTC in milliseconds.
const EPOCH_MS: i64 = 1_577_836_800_000;
const HAS_EXPIRY: u8 = 0x80;

/// A person's facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedFacts(Box<[u8]>);

impl PackedFacts {
    /// Packs facts of one person.
    pub fn of(facts: &[Fact]) -> Self {
        let mut out = Vec::with_capacity(facts.len() * 72);
        for fact in facts {
            write(fact, &mut out);
        }
        Self(out.into_boxed_slice())
    }

    /// Takes bytes that [`Self::bytes`] gave; nothing where they are not such.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = bytes;
        while !input.is_empty() {
            View::read(&mut input)?;
        }
        Some(Self(bytes.into()))
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The facts as records.
    pub fn unpack(&self, person: PersonId) -> Vec<Fact> {
        self.views().map(|view| view.to_fact(person)).collect()
    }

    /// The categories active at an instant, and the next instant at which that may change. Allocates nothing.
    pub fn active(&self, now: Timestamp) -> (CategorySet, Option<Timestamp>) {
        let mut active = CategorySet::EMPTY;
        let mut next: Option<Timestamp> = None;
        for View {
            category,
            effective,
            expiry,
            ..
        } in self.views()
        {
            if scan_model::fact::is_active(effective, expiry, now) {
                active = active.with(category);
            }
            if let Some(change) = scan_model::fact::next_change(effective, expiry, now) {
                next = Some(next.map_or(change, |next| next.min(change)));
            }
        }
        (active, next)
    }

    fn views(&self) -> impl Iterator<Item = View<'_>> {
        let mut input = &*self.0;
        std::iter::from_fn(move || View::read(&mut input))
    }
}

/// A fact within packed bytes.
struct View<'a> {
    category: Category,
    change: u16,
    effective: Timestamp,
    expiry: Option<Timestamp>,
    recorded_at: Timestamp,
    supplied_by: u64,
    source: &'a str,
    reference: &'a str,
    note: &'a str,
}

impl<'a> View<'a> {
    fn read(input: &mut &'a [u8]) -> Option<Self> {
        let [first] = take(input)?;
        let category = *Category::ALL.get(usize::from(first & !HAS_EXPIRY))?;
        let change = u16::from_le_bytes(take(input)?);
        let effective = EPOCH_MS.wrapping_add(read_signed(input)?);
        let expiry = match first & HAS_EXPIRY {
            0 => None,
            _ => Some(Timestamp(effective.wrapping_add(read_signed(input)?))),
        };
        let recorded_at = Timestamp(effective.wrapping_add(read_signed(input)?));
        let supplied_by = u64::from_le_bytes(take(input)?);
        Some(Self {
            category,
            change,
            effective: Timestamp(effective),
            expiry,
            recorded_at,
            supplied_by,
            source: read_text(input)?,
            reference: read_text(input)?,
            note: read_text(input)?,
        })
    }

    fn to_fact(&self, person: PersonId) -> Fact {
        Fact {
            person,
            category: self.category,
            source: self.source.to_owned(),
            reference: self.reference.to_owned(),
            effective: self.effective,
            expiry: self.expiry,
            recorded_at: self.recorded_at,
            supplied_by: self.supplied_by,
            note: self.note.to_owned(),
            change: self.change,
        }
    }
}

fn write(fact: &Fact, out: &mut Vec<u8>) {
    let has_expiry = if fact.expiry.is_some() { HAS_EXPIRY } else { 0 };
    out.push(fact.category as u8 | has_expiry);
    out.extend_from_slice(&fact.change.to_le_bytes());
    write_signed(fact.effective.0.wrapping_sub(EPOCH_MS), out);
    if let Some(expiry) = fact.expiry {
        write_signed(expiry.0.wrapping_sub(fact.effective.0), out);
    }
    write_signed(fact.recorded_at.0.wrapping_sub(fact.effective.0), out);
    out.extend_from_slice(&fact.supplied_by.to_le_bytes());
    for text in [&fact.source, &fact.reference, &fact.note] {
        write_varint(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

fn read_text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(read_varint(input)?).ok()?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    std::str::from_utf8(text).ok()
}

fn write_signed(value: i64, out: &mut Vec<u8>) {
    write_varint((value << 1 ^ value >> 63) as u64, out);
}

fn read_signed(input: &mut &[u8]) -> Option<i64> {
    read_varint(input).map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(input)?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_fact() -> impl Strategy<Value = Fact> {
        let times = (any::<i64>(), any::<Option<i64>>(), any::<i64>());
        let texts = ("\\PC{0,40}", "\\PC{0,40}", "\\PC{0,200}");
        (
            0..Category::ALL.len(),
            times,
            texts,
            any::<u64>(),
            any::<u16>(),
        )
            .prop_map(
                |(
                    category,
                    (effective, expiry, recorded),
                    (source, reference, note),
                    by,
                    change,
                )| {
                    Fact {
                        person: PersonId(7),
                        category: Category::ALL[category],
                        source,
                        reference,
                        effective: Timestamp(effective),
                        expiry: expiry.map(Timestamp),
                        recorded_at: Timestamp(recorded),
                        supplied_by: by,
                        note,
                        change,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn s4_packed_facts_read_back_and_decide_as_the_facts_do(
            facts in prop::collection::vec(any_fact(), 0..5),
            now: i64,
        ) {
            let packed = PackedFacts::of(&facts);
            prop_assert_eq!(packed.unpack(PersonId(7)), facts.clone());
            let now = Timestamp(now);
            prop_assert_eq!(packed.active(now), scan_model::fact::active_categories(&facts, now));
            prop_assert_eq!(PackedFacts::from_bytes(packed.bytes()), Some(packed));
        }

        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(bytes: Vec<u8>) {
            if let Some(packed) = PackedFacts::from_bytes(&bytes) {
                packed.unpack(PersonId(1));
            }
        }
    }

    #[test]
    fn a_usual_fact_takes_64_bytes_at_most() {
        let recorded = Timestamp::parse_rfc3339("2026-11-21T08:00:00+08:00").unwrap();
        let fact = Fact {
            person: PersonId(7),
            category: Category::CloseContact,
            source: "guangzhou-cdc".into(),
            reference: "GZ20261121-0042".into(),
            effective: recorded,
            expiry: Some(recorded.plus_ms(14 * 86_400_000)),
            recorded_at: recorded.plus_ms(3_600_000),
            supplied_by: u64::MAX,
            note: String::new(),
            change: 2,
        };
        assert!(PackedFacts::of(&[fact]).bytes().len() <= 64);
    }
}
