//! The form of a batch on disk. Integers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `TXB1` |
//! | 4 | CRC-32C of everything after it, up to the end of the body |
//! | 4 | body length |
//! | 4 | record count |
//! | 8 | base offset: where the previous batch ended |
//! | 8 | next offset: where the following batch begins |
//! | 8 | append time, Unix milliseconds |
//! | 8 | durable offset known when the batch was written |
//! | … | body: for each record offset delta u32, key, value (u32 length, `u32::MAX` for none), header count u8, headers (u8 length and name, u32 length and value) |
//!
//! The ranges of successive batches join without a gap, through compaction too: a batch that follows dropped records
//! begins where those began. A missing batch is therefore always seen.

use bytes::{Buf, BufMut, Bytes};

use crate::record::{Offset, Record, StoredRecord};

pub(super) const HEADER_LENGTH: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"TXB1");
const NONE: u32 = u32::MAX;
/// No batch body is larger; a length beyond it is damage.
pub(super) const MAX_BODY: usize = 64 << 20;

/// A batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub crc: u32,
    pub body_length: u32,
    pub count: u32,
    pub base: Offset,
    pub next: Offset,
    pub append_time_ms: i64,
    pub durable_before: Offset,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("the file ends inside a batch")]
    Short,
    #[error("no batch begins here")]
    Magic,
    #[error("the batch length is impossible")]
    Length,
    #[error("the checksum does not match")]
    Checksum,
    #[error("the batch does not join its predecessor")]
    Chain,
    #[error("a record runs past the batch")]
    Body,
}

impl BatchHeader {
    /// Reads a header; the checksum is [`verify`]'s.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_LENGTH {
            return Err(BatchError::Short);
        }
        if bytes.get_u32_le() != MAGIC {
            return Err(BatchError::Magic);
        }
        let header = Self {
            crc: bytes.get_u32_le(),
            body_length: bytes.get_u32_le(),
            count: bytes.get_u32_le(),
            base: bytes.get_u64_le(),
            next: bytes.get_u64_le(),
            append_time_ms: bytes.get_i64_le(),
            durable_before: bytes.get_u64_le(),
        };
        let is_possible = header.body_length as usize <= MAX_BODY && header.base <= header.next;
        is_possible.then_some(header).ok_or(BatchError::Length)
    }

    /// Bytes of the whole batch.
    pub(super) const fn total_length(&self) -> usize {
        HEADER_LENGTH + self.body_length as usize
    }
}

/// Reads the header of the batch at the start of `bytes` and checks that the whole batch is there, unaltered.
pub(super) fn verify(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let whole = bytes
        .get(..header.total_length())
        .ok_or(BatchError::Short)?;
    if crc32c::crc32c(&whole[8..]) != header.crc {
        return Err(BatchError::Checksum);
    }
    Ok(header)
}

/// Builds one batch.
pub(super) struct BatchBuilder {
    bytes: Vec<u8>,
    base: Offset,
    count: u32,
}

impl BatchBuilder {
    pub(super) fn new(base: Offset, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + capacity);
        bytes.resize(HEADER_LENGTH, 0);
        Self {
            bytes,
            base,
            count: 0,
        }
    }

    pub(super) fn push(&mut self, offset: Offset, record: &Record) {
        debug_assert!(offset >= self.base);
        self.count += 1;
        self.bytes.put_u32_le((offset - self.base) as u32);
        put_optional(&mut self.bytes, record.key.as_ref());
        put_optional(&mut self.bytes, record.value.as_ref());
        let headers = &record.headers[..record.headers.len().min(255)];
        self.bytes.put_u8(headers.len() as u8);
        for (name, value) in headers {
            let name = &name.as_bytes()[..name.len().min(255)];
            self.bytes.put_u8(name.len() as u8);
            self.bytes.put_slice(name);
            self.bytes.put_u32_le(value.len() as u32);
            self.bytes.put_slice(value);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn body_length(&self) -> usize {
        self.bytes.len() - HEADER_LENGTH
    }

    /// The batch's header and bytes; `next` is where the following batch begins.
    pub(super) fn finish(
        mut self,
        next: Offset,
        append_time_ms: i64,
        durable_before: Offset,
    ) -> (BatchHeader, Vec<u8>) {
        let mut header = BatchHeader {
            crc: 0,
            body_length: self.body_length() as u32,
            count: self.count,
            base: self.base,
            next,
            append_time_ms,
            durable_before,
        };
        let mut bytes = &mut self.bytes[..HEADER_LENGTH];
        bytes.put_u32_le(MAGIC);
        bytes.put_u32_le(header.crc);
        bytes.put_u32_le(header.body_length);
        bytes.put_u32_le(header.count);
        bytes.put_u64_le(header.base);
        bytes.put_u64_le(header.next);
        bytes.put_i64_le(header.append_time_ms);
        bytes.put_u64_le(header.durable_before);
        header.crc = crc32c::crc32c(&self.bytes[8..]);
        self.bytes[4..8].copy_from_slice(&header.crc.to_le_bytes());
        (header, self.bytes)
    }
}

/// The records of a verified batch; `body` shares its memory with them.
pub(super) fn records(
    header: &BatchHeader,
    mut body: Bytes,
) -> Result<Vec<StoredRecord>, BatchError> {
    let mut records = Vec::with_capacity(header.count as usize);
    for _ in 0..header.count {
        let offset = header.base + u64::from(take_u32(&mut body)?);
        let key = take_optional(&mut body)?;
        let value = take_optional(&mut body)?;
        let mut headers = Vec::new();
        for _ in 0..take_u8(&mut body)? {
            let name_length = usize::from(take_u8(&mut body)?);
            let name = take(&mut body, name_length)?;
            let value_length = take_u32(&mut body)? as usize;
            let value = take(&mut body, value_length)?;
            headers.push((String::from_utf8_lossy(&name).into_owned(), value));
        }
        let record = Record {
            key,
            value,
            headers,
        };
        records.push(StoredRecord {
            offset,
            append_time_ms: header.append_time_ms,
            record,
        });
    }
    Ok(records)
}

/// Visits the records of a body by offset and key, and whether each is a tombstone, and takes them apart no further.
pub(super) fn for_each_key<E: From<BatchError>>(
    header: &BatchHeader,
    mut body: &[u8],
    mut visit: impl FnMut(Offset, Option<&[u8]>, bool) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..header.count {
        let (delta, key, is_tombstone) = skip_record(&mut body)?;
        visit(header.base + u64::from(delta), key, is_tombstone)?;
    }
    Ok(())
}

/// Leaves what follows a record; answers its offset delta, its key, and whether it is a tombstone.
fn skip_record<'b>(body: &mut &'b [u8]) -> Result<(u32, Option<&'b [u8]>, bool), BatchError> {
    let short = |_| BatchError::Body;
    let delta = body.try_get_u32_le().map_err(short)?;
    let key = skip_optional(body)?;
    let is_tombstone = skip_optional(body)?.is_none();
    for _ in 0..body.try_get_u8().map_err(short)? {
        let name_length = body.try_get_u8().map_err(short)?;
        skip(body, usize::from(name_length))?;
        let value_length = body.try_get_u32_le().map_err(short)?;
        skip(body, value_length as usize)?;
    }
    Ok((delta, key, is_tombstone))
}

/// Leaves what follows an optional field; answers its bytes.
fn skip_optional<'b>(body: &mut &'b [u8]) -> Result<Option<&'b [u8]>, BatchError> {
    match body.try_get_u32_le().map_err(|_| BatchError::Body)? {
        NONE => Ok(None),
        length => skip(body, length as usize).map(Some),
    }
}

fn skip<'b>(body: &mut &'b [u8], length: usize) -> Result<&'b [u8], BatchError> {
    body.split_off(..length).ok_or(BatchError::Body)
}

fn put_optional(bytes: &mut Vec<u8>, field: Option<&Bytes>) {
    match field {
        Some(field) => {
            bytes.put_u32_le(field.len() as u32);
            bytes.put_slice(field);
        }
        None => bytes.put_u32_le(NONE),
    }
}

fn take_optional(body: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    match take_u32(body)? {
        NONE => Ok(None),
        length => take(body, length as usize).map(Some),
    }
}

fn take(body: &mut Bytes, length: usize) -> Result<Bytes, BatchError> {
    if body.len() < length {
        return Err(BatchError::Body);
    }
    Ok(body.split_to(length))
}

fn take_u32(body: &mut Bytes) -> Result<u32, BatchError> {
    body.try_get_u32_le().map_err(|_| BatchError::Body)
}

fn take_u8(body: &mut Bytes) -> Result<u8, BatchError> {
    body.try_get_u8().map_err(|_| BatchError::Body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(records: &[Record], base: Offset) -> Vec<u8> {
        let mut builder = BatchBuilder::new(base, 0);
        for (index, record) in records.iter().enumerate() {
            builder.push(base + index as u64, record);
        }
        builder.finish(base + records.len() as u64, 1234, base).1
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let headers = proptest::collection::vec(("[a-z]{0,5}", bytes()), 0..3);
        (
            proptest::option::of(bytes()),
            proptest::option::of(bytes()),
            headers,
        )
            .prop_map(|(key, value, headers)| Record {
                key,
                value,
                headers,
            })
    }

    proptest! {
        #[test]
        fn a_batch_reads_back(input in proptest::collection::vec(any_record(), 1..20), base in 0_u64..1 << 40) {
            let bytes = Bytes::from(build(&input, base));
            let header = verify(&bytes).unwrap();
            prop_assert_eq!((header.base, header.next), (base, base + input.len() as u64));
            let output = records(&header, bytes.slice(HEADER_LENGTH..)).unwrap();
            let mut keys = Vec::new();
            for_each_key(&header, &bytes[HEADER_LENGTH..], |offset, key, is_tombstone| {
                keys.push((offset, key.map(Bytes::copy_from_slice), is_tombstone));
                Ok::<_, BatchError>(())
            }).unwrap();
            let as_keys = |record: &StoredRecord| (record.offset, record.record.key.clone(), record.record.value.is_none());
            prop_assert_eq!(keys, output.iter().map(as_keys).collect::<Vec<_>>());
            prop_assert!(output.iter().map(|r| r.offset).eq(base..base + input.len() as u64));
            prop_assert_eq!(output.into_iter().map(|r| r.record).collect::<Vec<_>>(), input);
        }

        #[test]
        fn a_flipped_bit_is_always_seen(input in proptest::collection::vec(any_record(), 1..5), at: prop::sample::Index, bit in 0_u8..8) {
            let mut bytes = build(&input, 7);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(verify(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = BatchHeader::parse(&bytes) {
                let _ = records(&header, Bytes::from(bytes));
            }
        }
    }
}
