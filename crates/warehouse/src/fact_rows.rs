//! Changes of facts as rows of `fact_history`, in RowBinary: the columns of `migrations/0010_fact_history.sql`, in their order.

use bytes::BufMut;
use scan_model::Fact;
use serde::Deserialize;

use crate::store::{Store, StoreError};

/// The table.
pub const TABLE: &str = "fact_history";

/// The statement that goes with [`encode`]. What was left for weeks is of many table partitions.
pub const INSERT: &str =
    "INSERT INTO fact_history SETTINGS max_partitions_per_insert_block = 0 FORMAT RowBinary";

/// Appends one row: the fact of a record at a place in the log.
pub fn encode(rows: &mut Vec<u8>, log_partition: u32, log_offset: u64, fact: &Fact) {
    rows.put_u16_le(log_partition as u16);
    rows.put_u64_le(log_offset);
    rows.put_u64_le(fact.person.0);
    put_text(rows, fact.category.name());
    put_text(rows, &fact.source);
    put_text(rows, &fact.reference);
    rows.put_i64_le(fact.effective.0);
    match fact.expiry {
        Some(expiry) => {
            rows.put_u8(0);
            rows.put_i64_le(expiry.0);
        }
        None => rows.put_u8(1),
    }
    rows.put_i64_le(fact.recorded_at.0);
    rows.put_u64_le(fact.supplied_by);
    put_text(rows, &fact.note);
    rows.put_u16_le(fact.change);
}

/// The offset behind the last row of a log partition; nothing where there is none.
pub async fn end(store: &Store, log_partition: u32) -> Result<Option<u64>, StoreError> {
    #[derive(Deserialize)]
    struct End {
        end: u64,
    }
    let ends: Vec<End> = store
        .rows(
            "SELECT max(log_offset) + 1 AS end FROM fact_history
             WHERE log_partition = {partition:UInt16} HAVING count() > 0",
            &[("partition", log_partition.to_string())],
        )
        .await?;
    Ok(ends.first().map(|end| end.end))
}

/// A text with its length before it, seven bits a byte, the lowest first.
fn put_text(rows: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        rows.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    rows.put_u8(length as u8);
    rows.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_has_a_length_of_two_bytes() {
        let mut rows = Vec::new();
        put_text(&mut rows, &"a".repeat(200));
        assert_eq!((&rows[..2], rows.len()), (&[0xC8, 0x01][..], 202));
    }
}
