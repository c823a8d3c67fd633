//! A row of CSV as a struct: each cell is read as what its field wants.

use std::cell::OnceCell;
use std::marker::PhantomData;

use http_service::refusal;
use serde::de::value::MapDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::rows::Items;
use crate::problem::Problem;

/// The columns of rows that are each one of the items `T`.
pub(super) struct Columns<T> {
    names: Vec<String>,
    /// The place of each column among the fields of a row, nothing where it has none: found out once, and not by name with each row.
    places: OnceCell<Vec<Option<u64>>>,
    items: PhantomData<fn() -> T>,
}

impl<T: Items> Columns<T> {
    /// The columns that a header names.
    pub(super) fn new<'h>(header: impl Iterator<Item = &'h str>) -> Self {
        Self {
            names: header.map(str::to_owned).collect(),
            places: OnceCell::new(),
            items: PhantomData,
        }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.names.len()
    }

    /// Reads a row of as many cells. A refusal names the field and the rule, and repeats nothing of what was sent (INV-3).
    pub(super) fn read<'de>(&self, cells: &[&'de str]) -> Result<T::Row<'de>, Problem> {
        // Keeping track of the path costs as much again, so it is kept only where there is something to say.
        T::Row::deserialize(Row {
            columns: self,
            cells,
        })
        .or_else(|_| {
            let named = MapDeserializer::new(self.named(cells));
            serde_path_to_error::deserialize(named)
                .map_err(|error| refusal(&error.path().to_string(), &error.inner().to_string()))
        })
    }

    fn named<'r, 'de>(
        &'r self,
        cells: &'r [&'de str],
    ) -> impl Iterator<Item = (&'r str, Cell<'de>)> {
        self.names
            .iter()
            .map(String::as_str)
            .zip(cells.iter().copied().map(Cell))
    }

    fn places(&self, fields: &[&str]) -> &[Option<u64>] {
        self.places.get_or_init(|| {
            let place = |name: &String| fields.iter().position(|field| field == name);
            let place = |name| place(name).and_then(|place| u64::try_from(place).ok());
            self.names.iter().map(place).collect()
        })
    }
}

type CellError = serde::de::value::Error;

struct Row<'r, 'de, T> {
    columns: &'r Columns<T>,
    cells: &'r [&'de str],
}

impl<'de, T: Items> Deserializer<'de> for Row<'_, 'de, T> {
    type Error = CellError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CellError> {
        visitor.visit_map(MapDeserializer::new(self.columns.named(self.cells)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CellError> {
        let places = self.columns.places(fields).iter().copied();
        visitor.visit_map(Fields {
            columns: self.columns.names.iter().zip(places).zip(self.cells.iter()),
            value: "",
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The cells of a row by their fields' places.
struct Fields<'de, I> {
    columns: I,
    /// The cell whose field was named last.
    value: &'de str,
}

impl<'r, 'de: 'r, I> MapAccess<'de> for Fields<'de, I>
where
    I: Iterator<Item = ((&'r String, Option<u64>), &'r &'de str)>,
{
    type Error = CellError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, CellError> {
        let Some(((name, place), cell)) = self.columns.next() else {
            return Ok(None);
        };
        self.value = cell;
        match place {
            Some(place) => seed.deserialize(place.into_deserializer()),
            None => seed.deserialize(name.as_str().into_deserializer()),
        }
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CellError> {
        seed.deserialize(Cell(self.value))
    }
}

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
