//! Reads CSV (RFC 4180) as items: a header with the fields' names, then an item a line.
//!
//! A row that cannot be read is refused by itself. As with JSON, a refusal names the field and the rule, and repeats nothing of what was
//! sent (INV-3).

use bytes::Bytes;
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use memchr::{memchr_iter, memchr2, memchr2_iter};
use scheduling::Breather;
use serde::de::Deserialize;

use super::row::Columns;
use super::{Import, MAX_ITEMS, Shape};
use crate::problem::Problem;

/// The media type of CSV.
pub const CSV: &str = "text/csv";

/// Items of an import: JSON, or rows of CSV. Both may borrow from the body.
pub trait Items {
    /// An item, as JSON has it.
    type Form<'a>: Deserialize<'a>;
    /// A row: flat, named as the header's columns.
    type Row<'a>: Deserialize<'a>;

    /// The item of a row.
    fn from_row(row: Self::Row<'_>) -> Self::Form<'_>;
}

/// Reads the items of a CSV body, and makes each into what is wanted of it.
///
/// # Errors
/// Where there is no header, or more rows than one request takes.
pub fn read_rows<T: Items, U>(
    body: &Bytes,
    breather: Breather,
    make: impl FnMut(T::Form<'_>) -> Result<U, Problem>,
) -> Result<Import<U>, Problem> {
    let items = match without_quotes(body) {
        Some(text) => read_lines::<T, U>(text, breather, make),
        None => read_records::<T, U>(body, breather, make),
    }?;
    Ok(Import {
        shape: Shape::Lines,
        items,
    })
}

/// The text of a body in which every line feed ends a row and every comma a cell: what a province exports, by the hundred million rows.
fn without_quotes(body: &[u8]) -> Option<&str> {
    if memchr2(b'"', b'\r', body).is_some() {
        return None;
    }
    std::str::from_utf8(body).ok()
}

fn read_lines<T: Items, U>(
    text: &str,
    mut breather: Breather,
    mut make: impl FnMut(T::Form<'_>) -> Result<U, Problem>,
) -> Result<Vec<Result<U, Problem>>, Problem> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let text = text.trim_start_matches('\n');
    let (header, lines) = text.split_once('\n').unwrap_or((text, ""));
    let columns = Columns::<T>::new(header.split(','));
    let line_feeds = memchr_iter(b'\n', lines.as_bytes()).count();
    let mut items = Vec::with_capacity((line_feeds + 1).min(MAX_ITEMS + 1));
    let mut cells = Vec::with_capacity(columns.count());
    let mut begin = 0;
    for end in memchr2_iter(b',', b'\n', lines.as_bytes()).chain([lines.len()]) {
        cells.push(&lines[begin..end]);
        begin = end + 1;
        if lines.as_bytes().get(end) == Some(&b',') {
            continue;
        }
        if cells != [""] {
            items.push(if cells.len() == columns.count() {
                columns.read(&cells).and_then(|row| make(T::from_row(row)))
            } else {
                Err(unequal(cells.len(), columns.count()))
            });
            check_count(&items)?;
            breather.item();
        }
        cells.clear();
    }
    Ok(items)
}

fn read_records<T: Items, U>(
    body: &[u8],
    mut breather: Breather,
    mut make: impl FnMut(T::Form<'_>) -> Result<U, Problem>,
) -> Result<Vec<Result<U, Problem>>, Problem> {
    let mut reader = ReaderBuilder::new().from_reader(body);
    let header = reader
        .headers()
        .map_err(|_| Problem::malformed("the first line must name the columns, in UTF-8"))?;
    let columns = Columns::<T>::new(header.iter());
    let mut items = Vec::new();
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(items),
            Ok(true) => {
                let cells: Vec<&str> = record.iter().collect();
                let row = columns.read(&cells);
                items.push(row.and_then(|row| make(T::from_row(row))));
            }
            Err(error) => items.push(Err(refuse(&error))),
        }
        check_count(&items)?;
        breather.item();
    }
}

fn check_count<U>(items: &[U]) -> Result<(), Problem> {
    if items.len() > MAX_ITEMS {
        return Err(Problem::too_many_items(MAX_ITEMS));
    }
    Ok(())
}

fn refuse(error: &csv::Error) -> Problem {
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => unequal(*len as usize, *expected_len as usize),
        _ => Problem::malformed("the line is no CSV in UTF-8"),
    }
}

fn unequal(cells: usize, columns: usize) -> Problem {
    Problem::malformed(format!(
        "the line has {cells} columns, and the header {columns}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::{PersonForm, Persons};
    use proptest::prelude::*;
    use scan_model::{PersonKey, Timestamp};
    use serde::Deserialize;

    const HEADER: &str = "kind,number,name,phone,sex,birth_year,synthetic";

    fn refused(line: &str) -> serde_json::Value {
        let body = Bytes::from(format!("{HEADER}\n{line}\n"));
        let batch = read_rows::<Persons, _>(&body, Breather::every(1), |_| Ok(())).unwrap();
        let item = batch.items.into_iter().next().unwrap();
        serde_json::to_value(item.err().unwrap()).unwrap()
    }

    #[test]
    fn p8_a_row_is_the_person_that_the_json_form_is() {
        let csv = format!("{HEADER}\nresident_id,11010519491231002X,张伟,13812345678,,,true\n");
        let json = r#"{"document":{"kind":"resident_id","number":"11010519491231002X"},"name":"张伟","phone":"13812345678","synthetic":true}"#;
        let (key, now) = (PersonKey::new(&[7; 32]), Timestamp::now());
        let mut hashing = key.batch(2);
        let mut read = |form: PersonForm<'_>| form.into_draft(&mut hashing, now);
        let of_json = read(serde_json::from_str(json).unwrap());
        let of_row = read_rows::<Persons, _>(&Bytes::from(csv), Breather::every(1), read).unwrap();
        let of_row = of_row.items.into_iter().next().unwrap();
        let hashes = hashing.finish();
        let [of_row, of_json] = [of_row, of_json].map(|read| {
            let mut draft = read.unwrap();
            draft.complete(&hashes);
            draft.enrolment
        });
        assert_eq!(of_row, of_json);
    }

    #[test]
    fn a_refused_row_names_its_column_and_repeats_nothing() {
        let number = "resident_id,11010519491231002X,张伟,,,nineteen,";
        let refusal = refused(number);
        assert_eq!(refusal["field"], "birth_year");
        assert!(!refusal.to_string().contains("nineteen"));
        assert_eq!(refused("id_card,1,张伟,,,,")["field"], "kind");
        let short = refused("resident_id,1,张伟");
        assert_eq!(short["type"], "urn:tongxing:problem:malformed-body");
    }

    /// A row with a field of each sort.
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sorts {
        text: String,
        #[serde(default)]
        left_out: Option<String>,
        #[serde(default)]
        number: Option<u16>,
    }

    impl Items for Sorts {
        type Form<'a> = Self;
        type Row<'a> = Self;

        fn from_row(row: Self::Row<'_>) -> Self::Form<'_> {
            row
        }
    }

    /// What both ways of reading make of a body: the rows, and what is said of refused ones.
    fn both(body: &str) -> [Result<Vec<Result<Sorts, String>>, String>; 2] {
        let told = |problem: Problem| serde_json::to_string(&problem).unwrap();
        let each = |items: Vec<Result<Sorts, Problem>>| {
            let items = items.into_iter().map(|item| item.map_err(told));
            items.collect()
        };
        [
            read_lines::<Sorts, _>(body, Breather::every(1), Ok),
            read_records::<Sorts, _>(body.as_bytes(), Breather::every(1), Ok),
        ]
        .map(|items| items.map(each).map_err(told))
    }

    proptest! {
        #[test]
        fn bodies_without_quotes_are_read_as_any_csv_is(
            header in prop_oneof!["text,number", "number,left_out,text", "text", "text,colour", "left_out", ""],
            lines in "[a,0-9\\n 张]{0,60}",
        ) {
            let [lines, records] = both(&format!("{header}\n{lines}"));
            prop_assert_eq!(lines, records);
        }
    }

    #[test]
    fn a_byte_order_mark_and_empty_lines_are_no_part_of_a_row() {
        for body in ["\u{FEFF}text,number\n\n张,1\n\n", "\n\ntext,number\n张,1"] {
            let [lines, records] = both(body);
            assert_eq!(lines, records);
            assert_eq!(lines.unwrap()[0].as_ref().unwrap().text, "张");
        }
    }

    #[test]
    fn quotes_and_carriage_returns_are_read_as_rfc_4180_has_them() {
        let body = Bytes::from_static("text,number\r\n\"张,\n\"\"伟\"\"\",7\r\nb,8\r\n".as_bytes());
        assert_eq!(without_quotes(&body), None);
        let rows: Vec<Sorts> = read_records::<Sorts, _>(&body, Breather::every(1), Ok)
            .unwrap()
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows[0].text, "张,\n\"伟\"");
        assert_eq!(rows[1].number, Some(8));
    }

    #[test]
    fn a_line_that_is_no_utf_8_is_refused_by_itself() {
        let body = Bytes::from_static(b"text,number\na,1\n\xFF,2\nb,3\n");
        assert_eq!(without_quotes(&body), None);
        let items = read_records::<Sorts, _>(&body, Breather::every(1), Ok).unwrap();
        let read: Vec<bool> = items.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, false, true]);
    }

    #[test]
    fn a_missing_or_unknown_column_is_refused_by_name() {
        for (header, field) in [
            ("kind,number", "name"),
            ("kind,number,name,colour", "colour"),
        ] {
            let line = vec!["resident_id"; header.split(',').count()].join(",");
            let body = Bytes::from(format!("{header}\n{line}\n"));
            let batch = read_rows::<Persons, _>(&body, Breather::every(1), |_| Ok(())).unwrap();
            let problem = batch.items.into_iter().next().unwrap().err().unwrap();
            let problem = serde_json::to_value(problem).unwrap();
            assert_eq!(problem["field"], field, "{problem}");
        }
    }
}
