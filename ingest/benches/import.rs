//! What a bulk import of persons costs ingest on one core: reading lines, validating documents, hashing, masking, encoding the record, and
//! applying it to the status table as the feed does. What the log's disk and the network take is not in it.
//!
//! usage: `import [persons]`, 2,000,000 by default

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use ingest::bulk;
use ingest::forms::{PersonForm, Persons};
use scan_model::document::check_digit;
use scan_model::{Enrolment, PersonKey, Timestamp, codec};
use scheduling::Breather;
use status_cache::StatusCache;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: u64 = 5000;

fn main() -> anyhow::Result<()> {
    let persons: u64 = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(2_000_000);
    for media_type in ["application/x-ndjson", "text/csv"] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        let key = PersonKey::new(&[7; 32]);
        let cache = StatusCache::new(persons as usize)?;
        let (mut reading, mut applying) = (0.0, 0.0);
        for first in (0..persons).step_by(BATCH as usize) {
            let body = lines(media_type, first..(first + BATCH).min(persons));
            let began = Instant::now();
            let records = read(&headers, &body, &key)?;
            reading += began.elapsed().as_secs_f64();
            let began = Instant::now();
            apply(&cache, &records)?;
            applying += began.elapsed().as_secs_f64();
        }
        let each = |seconds: f64| seconds * 1e9 / persons as f64;
        println!(
            "{media_type}: {:.0} persons/s on one core; {:.0} ns to read, validate, hash and encode, {:.0} ns to decode and apply ({} in the table)",
            persons as f64 / (reading + applying),
            each(reading),
            each(applying),
            cache.table().len()
        );
    }
    Ok(())
}

fn read(headers: &HeaderMap, body: &Bytes, key: &PersonKey) -> anyhow::Result<Vec<Vec<u8>>> {
    let now = Timestamp::now();
    let mut hashing = Persons::hashing(key, body);
    let read = |form: PersonForm<'_>| form.into_draft(&mut hashing, now);
    let batch = bulk::read_import::<Persons, _>(headers, body, Breather::every(64), read)
        .map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
    let hashes = hashing.finish();
    let mut records = Vec::with_capacity(batch.items.len());
    for item in batch.items {
        let mut draft = item.map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
        draft.complete(&hashes);
        records.push(codec::encode(&draft.enrolment)?);
    }
    Ok(records)
}

fn apply(cache: &StatusCache, records: &[Vec<u8>]) -> anyhow::Result<()> {
    for records in records.chunks(64) {
        let decoded: Result<Vec<Enrolment>, _> = records.iter().map(|r| codec::decode(r)).collect();
        let decoded = decoded?;
        let mut turn = cache.turn();
        turn.expect(decoded.iter().map(|enrolment| enrolment.identity.person));
        for enrolment in &decoded {
            black_box(turn.apply_enrolment(enrolment)?);
        }
    }
    Ok(())
}

fn lines(media_type: &str, numbers: std::ops::Range<u64>) -> Bytes {
    let is_csv = media_type == "text/csv";
    let mut text = String::new();
    if is_csv {
        text.push_str("kind,number,name,phone,residence\n");
    }
    for n in numbers {
        let (year, rest) = (1940 + n % 80, n / 80);
        let (month, day) = (1 + rest % 12, 1 + rest / 12 % 28);
        let (sequence, county) = (1 + rest / 336 % 999, 440_103 + rest / 335_664 % 4);
        let body = format!("{county}{year}{month:02}{day:02}{sequence:03}");
        let number = format!("{body}{}", check_digit(body.as_bytes()) as char);
        let phone = 13_000_000_000 + n % 1_000_000_000;
        // Writing to a string cannot fail.
        let _ = if is_csv {
            writeln!(text, "resident_id,{number},张伟,{phone},440106")
        } else {
            writeln!(
                text,
                r#"{{"document":{{"kind":"resident_id","number":"{number}"}},"name":"张伟","phone":"{phone}","residence":440106}}"#
            )
        };
    }
    text.into()
}
