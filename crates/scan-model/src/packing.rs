//! Bincode's standard form, written to memory and read from it without bincode's machinery: for the record that a province's import writes
//! and every node reads by the hundred million (P8).
//!
//! The derived `Encode` and `Decode` say what the form is, and a test holds both to one another. What is not taken here, as all that is
//! malformed, is left to bincode, which says why.

use arrayvec::ArrayVec;

use crate::enrolment::{Enrolment, Sex, Verification};
use crate::mask::{MaskedName, MaskedPhone};
use crate::person::{Identity, PersonId};
use crate::time::Timestamp;

/// The bytes of a record's body: more than any enrolment has.
pub(crate) type Body = ArrayVec<u8, 96>;

/// A value in bincode's standard form.
pub(crate) trait Packed: Sized {
    /// Appends the value; nothing where there is no room.
    fn pack(&self, body: &mut Body) -> Option<()>;

    /// Takes the value from the front; nothing where none stands there.
    fn unpack(body: &mut &[u8]) -> Option<Self>;
}

/// What stands before an integer of two, four, eight and sixteen bytes; a smaller first byte is the integer itself.
const TWO: u8 = 251;
const FOUR: u8 = 252;
const EIGHT: u8 = 253;
const SIXTEEN: u8 = 254;

fn put<const N: usize>(body: &mut Body, tag: u8, bytes: [u8; N]) -> Option<()> {
    body.try_push(tag).ok()?;
    body.try_extend_from_slice(&bytes).ok()
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*taken)
}

/// Takes an integer whose type has `WIDEST` at most before it.
fn take_integer<const WIDEST: u8>(body: &mut &[u8]) -> Option<u64> {
    let [first] = take(body)?;
    match first {
        _ if first > WIDEST => None,
        TWO => take(body).map(u16::from_le_bytes).map(u64::from),
        FOUR => take(body).map(u32::from_le_bytes).map(u64::from),
        EIGHT => take(body).map(u64::from_le_bytes),
        small => Some(u64::from(small)),
    }
}

impl Packed for u8 {
    fn pack(&self, body: &mut Body) -> Option<()> {
        body.try_push(*self).ok()
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        take(body).map(|[byte]| byte)
    }
}

impl Packed for bool {
    fn pack(&self, body: &mut Body) -> Option<()> {
        u8::from(*self).pack(body)
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        match u8::unpack(body)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Packed for u16 {
    fn pack(&self, body: &mut Body) -> Option<()> {
        match u8::try_from(*self) {
            Ok(small @ ..TWO) => small.pack(body),
            _ => put(body, TWO, self.to_le_bytes()),
        }
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        take_integer::<TWO>(body)?.try_into().ok()
    }
}

impl Packed for u32 {
    fn pack(&self, body: &mut Body) -> Option<()> {
        match u16::try_from(*self) {
            Ok(small) => small.pack(body),
            Err(_) => put(body, FOUR, self.to_le_bytes()),
        }
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        take_integer::<FOUR>(body)?.try_into().ok()
    }
}

impl Packed for u64 {
    fn pack(&self, body: &mut Body) -> Option<()> {
        match u32::try_from(*self) {
            Ok(small) => small.pack(body),
            Err(_) => put(body, EIGHT, self.to_le_bytes()),
        }
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        take_integer::<EIGHT>(body)
    }
}

impl Packed for u128 {
    fn pack(&self, body: &mut Body) -> Option<()> {
        match u64::try_from(*self) {
            Ok(small) => small.pack(body),
            Err(_) => put(body, SIXTEEN, self.to_le_bytes()),
        }
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        if let Some((&SIXTEEN, rest)) = body.split_first() {
            *body = rest;
            return take(body).map(Self::from_le_bytes);
        }
        u64::unpack(body).map(Self::from)
    }
}

impl Packed for i64 {
    /// Zigzag: small negative numbers are short too.
    fn pack(&self, body: &mut Body) -> Option<()> {
        ((self << 1) ^ (self >> 63)).cast_unsigned().pack(body)
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        let zigzag = u64::unpack(body)?;
        Some((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
    }
}

impl<T: Packed> Packed for Option<T> {
    fn pack(&self, body: &mut Body) -> Option<()> {
        self.is_some().pack(body)?;
        match self {
            Some(value) => value.pack(body),
            None => Some(()),
        }
    }

    fn unpack(body: &mut &[u8]) -> Option<Self> {
        if bool::unpack(body)? {
            T::unpack(body).map(Some)
        } else {
            Some(None)
        }
    }
}

/// A struct is its fields one after the other.
macro_rules! packed_fields {
    ($($type:ident { $($field:ident),* })*) => {
        $(impl Packed for $type {
            fn pack(&self, body: &mut Body) -> Option<()> {
                $(self.$field.pack(body)?;)*
                Some(())
            }

            fn unpack(body: &mut &[u8]) -> Option<Self> {
                $(let $field = Packed::unpack(body)?;)*
                Some(Self { $($field),* })
            }
        })*
    };
}

/// An enumeration is its variant's place.
macro_rules! packed_variants {
    ($($type:ident { $($place:literal = $variant:ident),* })*) => {
        $(impl Packed for $type {
            fn pack(&self, body: &mut Body) -> Option<()> {
                match self { $(Self::$variant => body.try_push($place).ok()),* }
            }

            fn unpack(body: &mut &[u8]) -> Option<Self> {
                match u8::unpack(body)? {
                    $($place => Some(Self::$variant),)*
                    _ => None,
                }
            }
        })*
    };
}

/// A struct of one value is that value.
macro_rules! packed_newtypes {
    ($($type:ident),*) => {
        $(impl Packed for $type {
            fn pack(&self, body: &mut Body) -> Option<()> {
                self.0.pack(body)
            }

            fn unpack(body: &mut &[u8]) -> Option<Self> {
                Packed::unpack(body).map(Self)
            }
        })*
    };
}

packed_newtypes!(PersonId, Timestamp);

packed_variants! {
    Sex { 0 = Unknown, 1 = Male, 2 = Female }
    Verification { 0 = NameMatched, 1 = FaceChecked }
}

packed_fields! {
    Identity { person, check }
    MaskedName { shown, stars }
    MaskedPhone { country, leading, leading_digits, trailing, trailing_digits }
    Enrolment {
        identity, verification, sex, birth_year, name, phone, name_hash, phone_hash, residence, recorded_at, synthetic, change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_bincode<T: bincode::Decode<()>>(bytes: &[u8]) -> Option<T> {
        let read = bincode::decode_from_slice(bytes, bincode::config::standard());
        read.ok()
            .filter(|(_, length)| *length == bytes.len())
            .map(|(value, _)| value)
    }

    fn whole<T: Packed>(mut bytes: &[u8]) -> Option<T> {
        T::unpack(&mut bytes).filter(|_| bytes.is_empty())
    }

    /// Holds a value to its derived form, both ways.
    fn is_bincode<T>(value: &T) -> Result<(), TestCaseError>
    where
        T: Packed + bincode::Encode + bincode::Decode<()> + PartialEq + std::fmt::Debug,
    {
        let mut body = Body::new();
        prop_assert!(value.pack(&mut body).is_some(), "no room for {value:?}");
        let derived = bincode::encode_to_vec(value, bincode::config::standard()).unwrap();
        prop_assert_eq!(&body[..], &derived[..]);
        let read: Option<T> = whole(&derived);
        prop_assert_eq!(read.as_ref(), Some(value));
        Ok(())
    }

    /// Numbers of every length: uniform ones are nearly all long.
    fn number<T: TryFrom<u128> + std::fmt::Debug>(bits: u32) -> impl Strategy<Value = T> {
        (any::<u128>(), 128 - bits..128).prop_map(|(number, shift)| {
            T::try_from(number >> shift).unwrap_or_else(|_| unreachable!("as many bits"))
        })
    }

    fn phone() -> impl Strategy<Value = MaskedPhone> {
        number(39).prop_map(MaskedPhone::from_bits)
    }

    prop_compose! {
        fn enrolment()(
            person in number(64), check in number(128), name in number(24), phone in prop::option::of(phone()),
            verification in prop_oneof![Just(Verification::NameMatched), Just(Verification::FaceChecked)],
            sex in prop_oneof![Just(Sex::Unknown), Just(Sex::Male), Just(Sex::Female)],
            birth_year in prop::option::of(number(16)), name_hash in number(64), phone_hash in prop::option::of(number(64)),
        )(
            residence in prop::option::of(number(32)), recorded_at in any::<i64>(), synthetic in any::<bool>(), change in number(16),
            person in Just(person), check in Just(check), name in Just(name), phone in Just(phone), verification in Just(verification),
            sex in Just(sex), birth_year in Just(birth_year), name_hash in Just(name_hash), phone_hash in Just(phone_hash),
        ) -> Enrolment {
            Enrolment {
                identity: Identity { person: PersonId(person), check },
                name: MaskedName::from_bits(name),
                recorded_at: Timestamp(recorded_at),
                verification, sex, birth_year, phone, name_hash, phone_hash, residence, synthetic, change,
            }
        }
    }

    proptest! {
        #[test]
        fn inv10_an_enrolment_is_what_bincode_writes(enrolment in enrolment()) {
            is_bincode(&enrolment)?;
        }

        #[test]
        fn inv10_integers_are_what_bincode_writes(a in number::<u16>(16), b in number::<u32>(32), c in number::<u64>(64), d in number::<u128>(128), e: i64) {
            is_bincode(&a)?;
            is_bincode(&b)?;
            is_bincode(&c)?;
            is_bincode(&d)?;
            is_bincode(&e)?;
            is_bincode(&(e >> 40))?;
        }

        #[test]
        fn inv10_altered_bytes_are_what_bincode_reads(enrolment in enrolment(), at: prop::sample::Index, value: u8, shorter in 0..3_usize) {
            let mut bytes = bincode::encode_to_vec(&enrolment, bincode::config::standard()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes.truncate(bytes.len() - shorter);
            prop_assert_eq!(whole::<Enrolment>(&bytes), by_bincode(&bytes));
        }
    }

    #[test]
    fn the_longest_enrolment_has_room() {
        let longest = Enrolment {
            identity: Identity {
                person: PersonId(u64::MAX),
                check: u128::MAX,
            },
            verification: Verification::FaceChecked,
            sex: Sex::Female,
            birth_year: Some(u16::MAX),
            name: MaskedName::from_bits(u32::MAX),
            phone: Some(MaskedPhone::from_bits(u64::MAX)),
            name_hash: u64::MAX,
            phone_hash: Some(u64::MAX),
            residence: Some(u32::MAX),
            recorded_at: Timestamp(i64::MIN),
            synthetic: true,
            change: u16::MAX,
        };
        is_bincode(&longest).unwrap();
    }
}
