//! Reads CSV (RFC 4180) as items: a header with the fields' names, then an item a line.
//!
//! A row that cannot be read is refused by itself. As with JSON, a refusal names the field and the rule, and repeats nothing of what was
//! sent (INV-3).

use bytes::Bytes;
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use http_service::refusal;
use scheduling::Breather;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{Import, MAX_ITEMS, Shape};
use crate::problem::Problem;

/// The media type of CSV.
pub const CSV: &str = "text/csv";

/// An item that can be a row of CSV.
pub trait FromRow: Sized {
    /// The row: flat, named as the header's columns.
    type Row: DeserializeOwned;

    /// The item of a row.
    fn from_row(row: Self::Row) -> Self;
}

/// Reads the items of a CSV body, and makes each into what is wanted of it.
///
/// # Errors
/// Where there is no header, or more rows than one request takes.
pub fn read_rows<T: FromRow, U>(
    body: &Bytes,
    mut breather: Breather,
    mut make: impl FnMut(T) -> Result<U, Problem>,
) -> Result<Import<U>, Problem> {
    let mut reader = ReaderBuilder::new().from_reader(body.as_ref());
    let header = reader
        .headers()
        .map_err(|_| Problem::malformed("the first line must name the columns, in UTF-8"))?
        .clone();
    let mut items = Vec::new();
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                let row = read_row::<T::Row>(&header, &record);
                items.push(row.and_then(|row| make(T::from_row(row))));
            }
            Err(error) => items.push(Err(refuse(&error))),
        }
        breather.item();
        if items.len() > MAX_ITEMS {
            return Err(Problem::too_many_items(MAX_ITEMS));
        }
    }
    Ok(Import {
        shape: Shape::Lines,
        items,
    })
}

fn refuse(error: &csv::Error) -> Problem {
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => Problem::malformed(format!(
            "the line has {len} columns, and the header {expected_len}"
        )),
        _ => Problem::malformed("the line is no CSV in UTF-8"),
    }
}

fn read_row<R: DeserializeOwned>(
    header: &StringRecord,
    record: &StringRecord,
) -> Result<R, Problem> {
    let row = || MapDeserializer::<_, CellError>::new(header.iter().zip(record.iter().map(Cell)));
    // Keeping track of the path costs as much again, so it is kept only where there is something to say.
    R::deserialize(row()).or_else(|_| {
        serde_path_to_error::deserialize(row())
            .map_err(|error| refusal(&error.path().to_string(), &error.inner().to_string()))
    })
}

type CellError = serde::de::value::Error;

/// A cell: text, or what its field reads out of the text. Empty where an optional field is left out.
struct Cell<'a>(&'a str);

impl<'a> IntoDeserializer<'a, CellError> for Cell<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident, $visit:ident, $of:ty);*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
            match self.0.parse::<$of>() {
                Ok(value) => visitor.$visit(value),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Cell<'de> {
    type Error = CellError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        if self.0.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CellError> {
        let text: serde::de::value::StrDeserializer<'_, CellError> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    parsed! {
        deserialize_bool, visit_bool, bool;
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::PersonForm;
    use scan_model::{PersonKey, Timestamp};

    const HEADER: &str = "kind,number,name,phone,sex,birth_year,synthetic";

    fn refused(line: &str) -> serde_json::Value {
        let body = Bytes::from(format!("{HEADER}\n{line}\n"));
        let batch = read_rows::<PersonForm, _>(&body, Breather::every(1), Ok).unwrap();
        let item = batch.items.into_iter().next().unwrap();
        serde_json::to_value(item.err().unwrap()).unwrap()
    }

    #[test]
    fn p8_a_row_is_the_person_that_the_json_form_is() {
        let csv = format!("{HEADER}\nresident_id,11010519491231002X,张伟,13812345678,,,true\n");
        let json = r#"{"document":{"kind":"resident_id","number":"11010519491231002X"},"name":"张伟","phone":"13812345678","synthetic":true}"#;
        let (key, now) = (PersonKey::new(&[7; 32]), Timestamp::now());
        let of_row = read_rows::<PersonForm, _>(&Bytes::from(csv), Breather::every(1), Ok).unwrap();
        let of_row = of_row.items.into_iter().next().unwrap().unwrap();
        let of_json: PersonForm = serde_json::from_str(json).unwrap();
        let of_row = of_row.into_enrolment(&key, now).unwrap();
        assert_eq!(of_row, of_json.into_enrolment(&key, now).unwrap());
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

    #[test]
    fn a_missing_or_unknown_column_is_refused_by_name() {
        for (header, field) in [
            ("kind,number", "name"),
            ("kind,number,name,colour", "colour"),
        ] {
            let line = vec!["resident_id"; header.split(',').count()].join(",");
            let body = Bytes::from(format!("{header}\n{line}\n"));
            let batch = read_rows::<PersonForm, _>(&body, Breather::every(1), Ok).unwrap();
            let problem = batch.items.into_iter().next().unwrap().err().unwrap();
            let problem = serde_json::to_value(problem).unwrap();
            assert_eq!(problem["field"], field, "{problem}");
        }
    }
}
