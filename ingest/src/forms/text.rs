//! Text of a form, as it stands in the request's body where it can.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Text that is copied out of the body only where an escape in it has to be resolved.
///
/// `Cow` itself is always copied where it is optional.
#[derive(Default)]
pub struct Text<'a>(Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_copied_only_where_it_has_an_escape() {
        let read = |json| {
            serde_json::from_str::<Option<Text<'_>>>(json)
                .unwrap()
                .unwrap()
        };
        assert!(matches!(read("\"张伟\""), Text(Cow::Borrowed("张伟"))));
        let escaped = read(r#""\u5f20伟""#);
        assert!(matches!(escaped, Text(Cow::Owned(_))));
        assert_eq!(escaped.as_ref(), "张伟");
    }
}
