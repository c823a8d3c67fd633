//! The wire form of registry commands never changes under a version: these bytes are written, and read, for ever.
#![allow(clippy::unwrap_used)]

use registry::Site;
use registry::command::{Body, Command};
use scan_model::codec::{self, CodecError, WireRecord};
use scan_model::{SiteId, SiteKind, SiteRef, Timestamp, VenueType};

fn command(body: Body) -> Command {
    Command {
        id: 0x019A_A5B0_0000_7000_8000_0000_0000_0001,
        time: Timestamp(1_763_000_000_000),
        rule_version: 1,
        body,
    }
}

fn import() -> Command {
    command(Body::ImportSites(vec![Site {
        site: SiteRef {
            kind: SiteKind::Grid,
            id: SiteId(7),
        },
        name: "网格".into(),
        region: 440_106_003,
        venue_type: VenueType::Unspecified,
        address: String::new(),
        checkpoints: vec!["A".into()],
        synthetic: true,
    }]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn commands_are_written_as_ever() {
    let cases = [
        (
            import(),
            "01fe010000000000008000700000b0a59a01fd003cfaf534030000010001010706e7bd91e6a0bcfc137c3b1a000001014101",
        ),
        (
            command(Body::DissolveGrid(SiteId(7))),
            "02fe010000000000008000700000b0a59a01fd003cfaf534030000010107",
        ),
    ];
    for (command, golden) in cases {
        let bytes = codec::encode(&command).unwrap();
        assert_eq!(hex(&bytes), golden);
        assert_eq!(codec::decode::<Command>(&bytes).unwrap(), command);
    }
}

#[test]
fn inv10_only_a_command_that_an_older_build_cannot_know_makes_it_pause() {
    let version = |command: &Command| codec::encode(command).unwrap()[0];
    assert_eq!(version(&import()), 1);
    assert_eq!(version(&command(Body::DissolveGrid(SiteId(1)))), 2);
    let mut newer = codec::encode(&import()).unwrap();
    newer[0] = Command::VERSION + 1;
    let refused = codec::decode::<Command>(&newer);
    assert!(matches!(refused, Err(CodecError::NewerVersion { .. })));
}
