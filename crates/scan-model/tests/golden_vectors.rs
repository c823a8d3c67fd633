//! The wire form never changes under a version: these bytes were written once and must be written, and read, for ever.

#![allow(clippy::unwrap_used)]

mod sample;

use proptest::prelude::*;
use sample::{PERSON, scan};
use scan_model::codec::{self, CodecError, WireRecord};
use scan_model::enrolment::{Enrolment, Sex, Verification};
use scan_model::mask::{MaskedName, MaskedPhone};
use scan_model::person::Identity;
use scan_model::{Category, CodeRevocation, Fact, Scan, Timestamp};

fn fact() -> Fact {
    Fact {
        person: PERSON,
        category: Category::OtherProvinceHolder,
        source: "national-platform".into(),
        reference: "N-1".into(),
        effective: Timestamp(1_641_772_800_000),
        expiry: Some(Timestamp(1_642_982_400_000)),
        recorded_at: Timestamp(1_641_772_800_001),
        supplied_by: 11,
        note: "入粤".into(),
        change: 2,
    }
}

fn enrolment() -> Enrolment {
    Enrolment {
        identity: Identity {
            person: PERSON,
            check: 0xFEDC,
        },
        verification: Verification::FaceChecked,
        sex: Sex::Male,
        birth_year: Some(1960),
        name: MaskedName::of("欧阳娜娜").unwrap(),
        phone: Some(MaskedPhone::of("13812345678").unwrap()),
        name_hash: 1,
        phone_hash: Some(2),
        residence: Some(440_103),
        recorded_at: Timestamp(1_641_772_800_000),
        synthetic: false,
        change: 1,
    }
}

fn revocation() -> CodeRevocation {
    CodeRevocation {
        person: PERSON,
        valid_from: Timestamp(1_641_772_860_000),
        recorded_at: Timestamp(1_641_772_800_000),
        supplied_by: 0,
        change: 4,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn holds<R: WireRecord + PartialEq + std::fmt::Debug>(record: &R, golden: &str) {
    let bytes = codec::encode(record).unwrap();
    assert_eq!(hex(&bytes), golden);
    assert_eq!(&codec::decode::<R>(&bytes).unwrap(), record);
}

#[test]
fn a_scan_of_version_1_is_these_bytes() {
    holds(
        &scan(),
        "01fe010000000000008000700000b0a59a01fdefcdab89674523010001002a02fc137c3b1a03010201fbfa02010403020201fbc6070207fd00b09182fc020000fdf4b19182fc02000001fe020000000000008000700000b0a59a01010901",
    );
}

#[test]
fn a_fact_of_version_1_is_these_bytes() {
    holds(
        &fact(),
        "01fdefcdab896745230108116e6174696f6e616c2d706c6174666f726d034e2d31fd00b09182fc02000001fd00c0c312fd020000fd02b09182fc0200000b06e585a5e7b2a402",
    );
}

#[test]
fn an_enrolment_of_version_1_is_these_bytes() {
    holds(
        &enrolment(),
        "01fdefcdab8967452301fbdcfe010101fba807fb276b0301568a03fb2e160401010201fc27b70600fd00b09182fc0200000001",
    );
}

#[test]
fn a_revocation_of_version_1_is_these_bytes() {
    holds(
        &revocation(),
        "01fdefcdab8967452301fdc0849382fc020000fd00b09182fc0200000004",
    );
}

#[test]
fn an_alias_of_version_128_is_these_bytes() {
    let alias = scan_model::Alias {
        identity: Identity {
            person: scan_model::PersonId(0x0123_4567_89AB_CDEF),
            check: 5,
        },
        of: Identity {
            person: scan_model::PersonId(6),
            check: 0x1234,
        },
        recorded_at: Timestamp(1),
        supplied_by: 9,
    };
    holds(&alias, "80fdefcdab89674523010506fb34120209");
    let bytes = codec::encode(&alias).unwrap();
    let to_an_older_build = codec::decode::<Enrolment>(&bytes).unwrap_err();
    assert_eq!(
        to_an_older_build,
        CodecError::NewerVersion {
            found: 128,
            known: 1
        }
    );
}

#[test]
fn inv10_a_newer_version_is_told_apart_from_damage() {
    let mut bytes = codec::encode(&scan()).unwrap();
    bytes[0] = 2;
    let newer = codec::decode::<Scan>(&bytes).unwrap_err();
    assert_eq!(newer, CodecError::NewerVersion { found: 2, known: 1 });
    bytes[0] = 1;
    bytes.push(0);
    assert!(matches!(
        codec::decode::<Scan>(&bytes),
        Err(CodecError::Malformed { .. })
    ));
    assert!(matches!(
        codec::decode::<Scan>(&[]),
        Err(CodecError::Malformed { .. })
    ));
    assert!(matches!(
        codec::decode::<Scan>(&[0]),
        Err(CodecError::Malformed { .. })
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = codec::decode::<Scan>(&bytes);
        let _ = codec::decode::<Fact>(&bytes);
        let _ = codec::decode::<Enrolment>(&bytes);
        let _ = codec::decode::<CodeRevocation>(&bytes);
    }

    #[test]
    fn an_altered_record_never_makes_decoding_panic(at: prop::sample::Index, value: u8) {
        let mut bytes = codec::encode(&scan()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = codec::decode::<Scan>(&bytes);
    }
}
