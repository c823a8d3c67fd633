//! Request bodies as the engine needs them: decompressed, out of ClickHouse's own blocks, out of multipart.

use std::io::Read;

use bytes::{Buf, Bytes};

/// Largest body after decompression, in bytes (INV-6).
pub(super) const MAX_BODY: usize = 1 << 30;

/// Bytes of checksum ahead of each ClickHouse block.
const CHECKSUM: usize = 16;
/// Method, compressed size, raw size.
const BLOCK_HEADER: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodingError {
    #[error("Content-Encoding {0} is not supported; send lz4, gzip, deflate or none")]
    Unsupported(String),
    #[error("the body does not decompress: {0}")]
    Corrupt(String),
    #[error("the body is larger than {MAX_BODY} bytes after decompression")]
    TooLarge,
}

/// Undoes the Content-Encoding.
pub(super) fn content(encoding: Option<&str>, body: Bytes) -> Result<Bytes, DecodingError> {
    match encoding.unwrap_or("identity") {
        "identity" | "" => Ok(body),
        "lz4" => read_all(lz4_flex::frame::FrameDecoder::new(body.reader())),
        "gzip" => read_all(flate2::read::MultiGzDecoder::new(body.reader())),
        "deflate" => read_all(flate2::read::ZlibDecoder::new(body.reader())),
        other => Err(DecodingError::Unsupported(other.to_owned())),
    }
}

fn read_all(reader: impl Read) -> Result<Bytes, DecodingError> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_BODY as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| DecodingError::Corrupt(error.to_string()))?;
    if bytes.len() > MAX_BODY {
        Err(DecodingError::TooLarge)
    } else {
        Ok(bytes.into())
    }
}

/// Undoes `decompress=1`: a row of blocks, each checksum, method, sizes, payload.
pub(super) fn clickhouse_blocks(mut body: Bytes) -> Result<Bytes, DecodingError> {
    let corrupt = |reason: &str| DecodingError::Corrupt(reason.to_owned());
    let mut raw = Vec::new();
    while !body.is_empty() {
        if body.len() < CHECKSUM + BLOCK_HEADER {
            return Err(corrupt("a block ends early"));
        }
        let checksum = body.split_to(CHECKSUM);
        let mut header = body.slice(..BLOCK_HEADER);
        let method = header.get_u8();
        let size = header.get_u32_le() as usize;
        let raw_size = header.get_u32_le() as usize;
        if size < BLOCK_HEADER || size > body.len() {
            return Err(corrupt("a block's size is impossible"));
        }
        if raw.len() + raw_size > MAX_BODY {
            return Err(DecodingError::TooLarge);
        }
        let block = body.split_to(size);
        // ClickHouse writes the low half first, rotated against the number's own order.
        let expected = cityhash_rs::cityhash_102_128(&block)
            .rotate_left(64)
            .to_le_bytes();
        if expected != checksum[..] {
            return Err(corrupt("a block's checksum does not match"));
        }
        let payload = &block[BLOCK_HEADER..];
        match method {
            METHOD_LZ4 => {
                let decoded = lz4_flex::block::decompress(payload, raw_size)
                    .map_err(|error| DecodingError::Corrupt(error.to_string()))?;
                raw.extend_from_slice(&decoded);
            }
            METHOD_NONE => raw.extend_from_slice(payload),
            other => {
                return Err(DecodingError::Unsupported(format!(
                    "block method {other:#x}"
                )));
            }
        }
    }
    Ok(raw.into())
}

/// The named fields of a multipart body.
pub(super) async fn multipart(
    content_type: &str,
    body: Bytes,
) -> Result<Vec<(String, Bytes)>, DecodingError> {
    let corrupt = |error: multer::Error| DecodingError::Corrupt(error.to_string());
    let boundary = multer::parse_boundary(content_type).map_err(corrupt)?;
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(corrupt)? {
        let name = part.name().unwrap_or_default().to_owned();
        fields.push((name, part.bytes().await.map_err(corrupt)?));
    }
    Ok(fields)
}
