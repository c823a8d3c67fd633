//! A scan's JSON form never changes under a version, tells itself apart from the binary form, and says what is wrong with it.

#![allow(clippy::unwrap_used)]

mod sample;

use proptest::prelude::*;
use scan_model::codec::{self, CodecError, ScanFormat, WireRecord};
use scan_model::scan::{Carrier, Direction, Disposition, ShownStatus, TemperatureBand};
use scan_model::{
    CategorySet, CodeRevocation, Colour, Enrolment, Fact, PersonId, Scan, ScanId, ScanKind, Sex,
    SiteId, SiteKind, SiteRef, Timestamp, VenueType, scan_json,
};

const FULL: &str = concat!(
    r#"{"version":1,"scan_id":"019aa5b0-0000-7000-8000-000000000001","person":"18364758544493064720","#,
    r#""kind":"temperature_screening","site_kind":"venue","site":42,"checkpoint":2,"region":440106003,"#,
    r#""venue_type":"mall","direction":"in","band":"fever","decidegrees":381,"colour":1,"categories":4,"#,
    r#""status_version":3,"disposition":"referred","sex":"female","birth_year":1990,"carrier":"paper_code","#,
    r#""operator":"7","event_time":1641772800000,"received_at":1641772800250,"#,
    r#""corrects":"019aa5b0-0000-7000-8000-000000000002","party":"00000000-0000-0000-0000-000000000009","#,
    r#""synthetic":true}"#
);

const BARE: &str = concat!(
    r#"{"version":1,"scan_id":"019aa5b0-0000-7000-8000-000000000001","person":"18364758544493064720","#,
    r#""kind":"display","site_kind":"none","site":0,"checkpoint":0,"region":0,"venue_type":"unspecified","#,
    r#""direction":"unknown","band":"not_taken","decidegrees":null,"colour":0,"categories":0,"#,
    r#""status_version":1,"disposition":"admitted","sex":"unknown","birth_year":null,"carrier":"app_code","#,
    r#""operator":"0","event_time":1641772800000,"received_at":1641772800000,"corrects":null,"party":null,"#,
    r#""synthetic":false}"#
);

fn full() -> Scan {
    Scan {
        // Beyond what a double holds, as readers of JSON may have it.
        person: PersonId(0xFEDC_BA98_7654_3210),
        ..sample::scan()
    }
}

fn bare() -> Scan {
    Scan {
        kind: ScanKind::Display,
        site: None,
        checkpoint: 0,
        region: 0,
        venue_type: VenueType::Unspecified,
        direction: Direction::Unknown,
        band: TemperatureBand::NotTaken,
        decidegrees: None,
        shown: ShownStatus {
            colour: Colour::GREEN,
            categories: CategorySet::EMPTY,
            version: 1,
        },
        disposition: Disposition::Admitted,
        sex: Sex::Unknown,
        birth_year: None,
        carrier: Carrier::AppCode,
        operator: 0,
        received_at: Timestamp(1_641_772_800_000),
        corrects: None,
        party: None,
        synthetic: false,
        ..full()
    }
}

fn refusal(text: &str) -> String {
    match codec::decode::<Scan>(text.as_bytes()) {
        Err(CodecError::Malformed { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scan_of_version_1_is_this_text() {
    for (scan, golden) in [(full(), FULL), (bare(), BARE)] {
        let bytes = ScanFormat::Json.encode(&scan).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), golden);
        assert_eq!(codec::decode::<Scan>(golden.as_bytes()).unwrap(), scan);
    }
}

#[test]
fn the_order_of_fields_and_spaces_between_them_do_not_matter() {
    let moved = FULL.replacen(r#""version":1,"#, "", 1).replace(
        r#""synthetic":true}"#,
        "\"synthetic\" : true,\n\"version\":1 }",
    );
    assert_eq!(codec::decode::<Scan>(moved.as_bytes()).unwrap(), full());
}

#[test]
fn inv10_the_first_byte_of_json_is_no_version_of_any_record() {
    const {
        assert!(Scan::VERSION < scan_json::FIRST_BYTE);
        assert!(Fact::VERSION < scan_json::FIRST_BYTE);
        assert!(Enrolment::VERSION < scan_json::FIRST_BYTE);
        assert!(CodeRevocation::VERSION < scan_json::FIRST_BYTE);
    }
    let bytes = ScanFormat::Json.encode(&full()).unwrap();
    assert_eq!(bytes[0], scan_json::FIRST_BYTE);
    // Only a scan is read as JSON.
    let newer = codec::decode::<Fact>(&bytes).unwrap_err();
    assert!(matches!(newer, CodecError::NewerVersion { found: 123, .. }));
}

#[test]
fn inv10_a_newer_version_is_told_apart_from_damage_whatever_its_fields() {
    let newer = CodecError::NewerVersion { found: 2, known: 1 };
    let same_fields = FULL.replacen(r#""version":1"#, r#""version":2"#, 1);
    for text in [
        same_fields.as_str(),
        r#"{"version":2}"#,
        r#"{"version":2,"scan_id":7,"new":{"deep":[1]}}"#,
    ] {
        assert_eq!(codec::decode::<Scan>(text.as_bytes()).unwrap_err(), newer);
    }
    assert!(refusal(&FULL.replacen(r#""version":1"#, r#""version":0"#, 1)).contains("version 0"));
}

#[test]
fn a_malformed_field_is_named() {
    let cases = [
        (
            r#""person":"18364758544493064720""#,
            r#""person":18364758544493064720"#,
            "person",
        ),
        (
            r#""person":"18364758544493064720""#,
            r#""person":"+5""#,
            "person",
        ),
        (
            r#""person":"18364758544493064720""#,
            r#""person":"18446744073709551616""#,
            "person",
        ),
        (
            r#""kind":"temperature_screening""#,
            r#""kind":"temperature""#,
            "kind",
        ),
        (r#""site":42"#, r#""site":-1"#, "site"),
        (r#""checkpoint":2"#, r#""checkpoint":65536"#, "checkpoint"),
        (r#""sex":"female","#, "", "sex"),
        (r#""sex":"female""#, r#""sex":"female","sex":"male""#, "sex"),
        (
            r#""sex":"female""#,
            r#""sex":"female","gender":1"#,
            "gender",
        ),
        (
            r#""corrects":"019aa5b0"#,
            r#""corrects":"x19aa5b0"#,
            "corrects",
        ),
        (r#""site_kind":"venue""#, r#""site_kind":"none""#, "site"),
    ];
    for (right, wrong, field) in cases {
        let reason = refusal(&FULL.replacen(right, wrong, 1));
        assert!(reason.contains(field), "{wrong}: {reason}");
    }
    assert!(!refusal(&format!("{FULL}1")).is_empty());
    assert!(!refusal(&FULL[..200]).is_empty());
    assert!(refusal(&format!("{FULL}{}", " ".repeat(codec::MAX_RECORD))).contains("65536"));
}

#[test]
fn formats_are_named() {
    assert_eq!("json".parse(), Ok(ScanFormat::Json));
    assert_eq!("bincode".parse(), Ok(ScanFormat::Bincode));
    let refused = "JSON".parse::<ScanFormat>().unwrap_err().to_string();
    assert_eq!(refused, "must be bincode or json");
}

fn any_scan() -> impl Strategy<Value = Scan> {
    let ids = (
        any::<u128>(),
        any::<u64>(),
        any::<Option<u128>>(),
        any::<Option<u128>>(),
        any::<u64>(),
    );
    let site = prop::option::of((0..4_usize, any::<u32>()));
    let names = (
        0..6_usize,
        0..16_usize,
        0..3_usize,
        0..3_usize,
        0..3_usize,
        0..3_usize,
        0..4_usize,
    );
    let numbers = (
        any::<u16>(),
        any::<u32>(),
        any::<Option<i16>>(),
        any::<u8>(),
        any::<u16>(),
        any::<u16>(),
    );
    let rest = (
        any::<Option<u16>>(),
        any::<i64>(),
        any::<i64>(),
        any::<bool>(),
    );
    (ids, site, names, numbers, rest).prop_map(|(ids, site, names, numbers, rest)| {
        use SiteKind::{Compound, Grid, Institution, Venue};
        Scan {
            scan_id: ScanId(ids.0),
            person: PersonId(ids.1),
            kind: ScanKind::ALL[names.0],
            site: site.map(|(kind, id)| SiteRef {
                kind: [Venue, Grid, Compound, Institution][kind],
                id: SiteId(id),
            }),
            checkpoint: numbers.0,
            region: numbers.1,
            venue_type: VenueType::ALL[names.1],
            direction: [Direction::Unknown, Direction::In, Direction::Out][names.2],
            band: [
                TemperatureBand::NotTaken,
                TemperatureBand::Normal,
                TemperatureBand::Fever,
            ][names.3],
            decidegrees: numbers.2,
            shown: ShownStatus {
                colour: Colour(numbers.3),
                categories: CategorySet(numbers.4),
                version: numbers.5,
            },
            disposition: [
                Disposition::Admitted,
                Disposition::Refused,
                Disposition::Referred,
            ][names.4],
            sex: [Sex::Unknown, Sex::Male, Sex::Female][names.5],
            birth_year: rest.0,
            carrier: [
                Carrier::AppCode,
                Carrier::RotatingCode,
                Carrier::PaperCode,
                Carrier::Document,
            ][names.6],
            operator: ids.4,
            event_time: Timestamp(rest.1),
            received_at: Timestamp(rest.2),
            corrects: ids.2.map(ScanId),
            party: ids.3,
            synthetic: rest.3,
        }
    })
}

proptest! {
    #[test]
    fn any_scan_reads_back_from_either_form(scan in any_scan()) {
        for format in [ScanFormat::Json, ScanFormat::Bincode] {
            let bytes = format.encode(&scan).unwrap();
            prop_assert_eq!(&codec::decode::<Scan>(&bytes).unwrap(), &scan);
        }
    }

    #[test]
    fn an_altered_object_never_makes_decoding_panic(at: prop::sample::Index, value: u8) {
        let mut bytes = FULL.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = codec::decode::<Scan>(&bytes);
    }
}
