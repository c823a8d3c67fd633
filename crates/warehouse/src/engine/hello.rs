//! The one query that clickhouse-go (Grafana's driver) sends first, answered in the form that it expects.
//!
//! The driver asks for Native with block info at its own protocol revision, which the engine's library does not speak.
//! Told that the server's revision is 0, it reads plain Native from then on, which the library writes.

/// The driver's first query.
pub(super) const QUERY: &str = "SELECT displayName(), version(), revision(), timezone()";

/// From this protocol revision on, a column carries a byte for custom serialisation.
const CUSTOM_SERIALISATION_REVISION: u32 = 54_454;

/// A Native block of one row for a client of the given revision.
pub(super) fn answer(client_revision: u32, version: &str, timezone: &str) -> Vec<u8> {
    // Block info: is_overflows = 0, bucket_num = -1; then 4 columns, 1 row.
    let mut bytes = vec![1, 0, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4, 1];
    let mut column = |name: &str, kind: &str, value: &[u8]| {
        put_text(&mut bytes, name);
        put_text(&mut bytes, kind);
        if client_revision >= CUSTOM_SERIALISATION_REVISION {
            bytes.push(0);
        }
        bytes.extend_from_slice(value);
    };
    column("displayName()", "String", &text("tongxing"));
    column("version()", "String", &text(version));
    column("revision()", "UInt32", &0_u32.to_le_bytes());
    column("timezone()", "String", &text(timezone));
    bytes
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_text(&mut bytes, value);
    bytes
}

/// A length below 128 and the text.
fn put_text(bytes: &mut Vec<u8>, value: &str) {
    let value = &value.as_bytes()[..value.len().min(127)];
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value);
}
