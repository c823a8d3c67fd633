//! The wire form: one version byte, then bincode (little-endian, variable-length integers).
//!
//! A scan may also stand in the log as JSON ([`scan_json`]), which its first byte tells: `{` is no record's version byte. Readers take
//! both, in any mixture.
//!
//! Golden vectors in `tests/golden_vectors.rs` hold the form still. A record of a newer version is told apart from a
//! damaged one, so that a reader can pause on it (INV-10). Decoding never reads past [`MAX_RECORD`] and never panics.

use crate::alias::{self, Alias};
use crate::declaration::Declaration;
use crate::enrolment::Enrolment;
use crate::fact::{CodeRevocation, Fact};
use crate::packing::{Body, Packed};
use crate::scan::Scan;
use crate::scan_json;

/// Largest record, in bytes, that decodes.
pub const MAX_RECORD: usize = 64 * 1024;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer build: pause, alarm, never drop (INV-10).
    #[error("record version {found} is newer than version {known}, which this build knows")]
    NewerVersion {
        /// The version byte found.
        found: u32,
        /// The newest version that this build reads.
        known: u32,
    },
    /// Not a record of any version: a dead letter.
    #[error("record is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

/// Reads a JSON form.
pub type FromJson<R> = fn(&[u8]) -> Result<R, CodecError>;

/// A type with a wire form.
///
/// A version that a build brings is read by it from its first start, and written only where it is told to (see
/// [`encode_as`]): every reader comes before the first writer.
pub trait WireRecord: bincode::Encode + bincode::Decode<()> {
    /// The newest version that this build reads and can write.
    const VERSION: u8;

    /// The version that this build writes unless it is told otherwise: one that the build before it reads.
    const WRITTEN: u8 = Self::VERSION;

    /// The version that this record is written under: the oldest whose readers know all of it, so that an older build pauses
    /// only at what it cannot know (INV-10).
    fn version(&self) -> u8 {
        Self::WRITTEN
    }

    /// Reads the type's JSON form, where it has one.
    const FROM_JSON: Option<FromJson<Self>> = None;

    /// Writes what a version newer than 1 has beyond the one before it.
    fn write_further_fields(&self, _version: u8, _bytes: &mut Vec<u8>) {}

    /// The body without those fields; nothing where they are not there.
    fn skip_further_fields(_version: u8, body: &[u8]) -> Option<&[u8]> {
        Some(body)
    }

    /// Appends the body as bincode writes it, quicker than bincode does; `false` where it is left to bincode.
    fn pack(&self, _bytes: &mut Vec<u8>) -> bool {
        false
    }

    /// The record of a whole body, read quicker than bincode does; nothing where it is left to bincode.
    fn unpack(_body: &[u8]) -> Option<Self> {
        None
    }
}

#[cfg(not(feature = "next-version"))]
impl WireRecord for Scan {
    const VERSION: u8 = 1;
    const FROM_JSON: Option<FromJson<Self>> = Some(scan_json::decode);
}

/// The build after this one: version 2 has one further field, which nobody uses yet.
#[cfg(feature = "next-version")]
impl WireRecord for Scan {
    const VERSION: u8 = 2;
    const WRITTEN: u8 = 1;
    const FROM_JSON: Option<FromJson<Self>> = Some(scan_json::decode);

    fn skip_further_fields(version: u8, body: &[u8]) -> Option<&[u8]> {
        match version {
            1 => Some(body),
            _ => body.strip_suffix(&[0]),
        }
    }

    fn write_further_fields(&self, version: u8, bytes: &mut Vec<u8>) {
        if version > 1 {
            bytes.push(0);
        }
    }
}

impl WireRecord for Fact {
    const VERSION: u8 = 1;
}

impl WireRecord for CodeRevocation {
    const VERSION: u8 = 1;
}

impl WireRecord for Enrolment {
    const VERSION: u8 = 1;

    fn pack(&self, bytes: &mut Vec<u8>) -> bool {
        let mut body = Body::new();
        let is_packed = Packed::pack(self, &mut body).is_some();
        if is_packed {
            bytes.extend_from_slice(&body);
        }
        is_packed
    }

    fn unpack(mut body: &[u8]) -> Option<Self> {
        <Self as Packed>::unpack(&mut body).filter(|_| body.is_empty())
    }
}

impl WireRecord for Declaration {
    const VERSION: u8 = 1;
}

impl WireRecord for Alias {
    const VERSION: u8 = alias::FIRST_VERSION;
}

/// How scans are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScanFormat {
    /// A version byte and bincode: the smallest and quickest.
    #[default]
    Bincode,
    /// One JSON object, for topics that others read.
    Json,
}

/// No format has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be bincode or json")]
pub struct UnknownFormat;

impl std::str::FromStr for ScanFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "bincode" => Ok(Self::Bincode),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

impl ScanFormat {
    /// The wire form of a scan.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn encode(self, scan: &Scan) -> Result<Vec<u8>, CodecError> {
        self.encode_as(scan, scan.version())
    }

    /// The wire form of a scan in a version. JSON has versions of its own, in its fields.
    ///
    /// # Errors
    /// As [`encode_as`].
    pub fn encode_as(self, scan: &Scan, version: u8) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Bincode => encode_as(scan, version),
            Self::Json => scan_json::encode(scan),
        }
    }
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_RECORD>()
}

/// A part of a record's body, and how many bytes it takes.
pub(crate) fn decode_part<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<(T, usize), String> {
    bincode::decode_from_slice(bytes, configuration()).map_err(|error| error.to_string())
}

/// The wire form of a record.
///
/// # Errors
/// [`CodecError::Malformed`] where the record is larger than [`MAX_RECORD`].
pub fn encode<R: WireRecord>(record: &R) -> Result<Vec<u8>, CodecError> {
    encode_as(record, record.version())
}

/// The wire form of a record in a version up to [`WireRecord::VERSION`] that knows all of it.
///
/// # Errors
/// [`CodecError::Malformed`] where the record is larger than [`MAX_RECORD`], or this build does not know the version.
pub fn encode_as<R: WireRecord>(record: &R, version: u8) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(128);
    append_as(record, version, &mut bytes)?;
    Ok(bytes)
}

/// Appends the wire form of a record; where that fails, what was appended before it stays, and nothing else.
///
/// # Errors
/// As [`encode`].
pub fn append<R: WireRecord>(record: &R, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = bytes.len();
    append_as(record, record.version(), bytes).inspect_err(|_| bytes.truncate(before))
}

fn append_as<R: WireRecord>(
    record: &R,
    version: u8,
    bytes: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let before = bytes.len();
    if version > R::VERSION {
        let reason = format!("this build does not write version {version}");
        return Err(CodecError::Malformed { reason });
    }
    bytes.push(version);
    if !record.pack(bytes) {
        bincode::encode_into_std_write(record, bytes, configuration()).map_err(|error| {
            CodecError::Malformed {
                reason: error.to_string(),
            }
        })?;
    }
    record.write_further_fields(version, bytes);
    let length = bytes.len() - before;
    if length > MAX_RECORD {
        let reason = format!("{length} bytes are more than {MAX_RECORD}");
        return Err(CodecError::Malformed { reason });
    }
    Ok(())
}

/// The record of a wire form. Every byte must belong to it.
pub fn decode<R: WireRecord>(bytes: &[u8]) -> Result<R, CodecError> {
    let malformed = |reason: String| CodecError::Malformed { reason };
    let (&version, body) = bytes
        .split_first()
        .ok_or_else(|| malformed("no version byte".into()))?;
    if let Some(from_json) = R::FROM_JSON
        && version == scan_json::FIRST_BYTE
    {
        if bytes.len() > MAX_RECORD {
            return Err(malformed(format!(
                "{} bytes are more than {MAX_RECORD}",
                bytes.len()
            )));
        }
        return from_json(bytes);
    }
    if version > R::VERSION {
        return Err(CodecError::NewerVersion {
            found: u32::from(version),
            known: u32::from(R::VERSION),
        });
    }
    if version == 0 {
        return Err(malformed("version 0 was never written".into()));
    }
    let body = R::skip_further_fields(version, body)
        .ok_or_else(|| malformed("a field of its version is missing".into()))?;
    if let Some(record) = R::unpack(body) {
        return Ok(record);
    }
    let (record, read) = bincode::decode_from_slice(body, configuration())
        .map_err(|error| malformed(error.to_string()))?;
    if read != body.len() {
        return Err(malformed(format!(
            "{} bytes follow the record",
            body.len() - read
        )));
    }
    Ok(record)
}
