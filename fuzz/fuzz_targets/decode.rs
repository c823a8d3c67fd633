//! Any bytes decode to a record or an error; what decodes encodes to a record that decodes to the same.
//!
//! `cargo +nightly fuzz run decode`

#![no_main]

use libfuzzer_sys::fuzz_target;
use scan_model::codec::{self, WireRecord};
use scan_model::{CodeRevocation, Enrolment, Fact, Scan};

fn check<R: WireRecord + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(record) = codec::decode::<R>(bytes) {
        let encoded = codec::encode(&record).expect("a decoded record encodes");
        assert_eq!(codec::decode::<R>(&encoded).expect("and decodes again"), record);
    }
}

fuzz_target!(|bytes: &[u8]| {
    check::<Scan>(bytes);
    check::<Fact>(bytes);
    check::<Enrolment>(bytes);
    check::<CodeRevocation>(bytes);
});
