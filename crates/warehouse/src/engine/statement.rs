//! Where an INSERT's SQL ends and its data begins.
//!
//! The HTTP interface takes the SQL and the data as one text. The engine's library takes them apart from each other,
//! because data may hold any byte; so the text is split here, outside quotes and comments.

/// An INSERT with data behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InsertParts<'a> {
    /// The statement without its FORMAT clause.
    pub sql: &'a str,
    /// The format's name.
    pub format: &'a str,
    /// The data.
    pub data: &'a [u8],
}

/// Splits `INSERT … FORMAT name data`; `None` for every other statement, among them INSERT … VALUES and … SELECT.
pub(super) fn split_insert(text: &[u8]) -> Option<InsertParts<'_>> {
    let mut words = Words { text, at: 0 };
    if !words.next()?.is("INSERT") {
        return None;
    }
    while let Some(word) = words.next() {
        if word.is("VALUES") || word.is("SELECT") || word.is("WITH") {
            return None;
        }
        if word.is("FORMAT") {
            let format = words.next()?;
            let after = &text[format.end..];
            let blanks = after
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t' | b';' | b'\r'))
                .count();
            let newline = usize::from(after.get(blanks) == Some(&b'\n'));
            return Some(InsertParts {
                sql: std::str::from_utf8(&text[..word.start]).ok()?.trim(),
                format: std::str::from_utf8(&text[format.start..format.end]).ok()?,
                data: &after[blanks + newline..],
            });
        }
    }
    None
}

/// A bare word of a statement.
struct Word<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

impl Word<'_> {
    fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// The bare words of a statement at parenthesis depth zero: no literals, quoted names or comments.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        let mut depth = 0_usize;
        loop {
            let rest = &self.text[self.at..];
            match *rest.first()? {
                quote @ (b'\'' | b'`' | b'"') => self.at += quoted_length(rest, quote)?,
                b'-' if rest.starts_with(b"--") => {
                    self.at += rest.iter().position(|b| *b == b'\n')?;
                }
                b'/' if rest.starts_with(b"/*") => {
                    self.at += rest.windows(2).position(|two| two == b"*/")? + 2;
                }
                b'(' => {
                    depth += 1;
                    self.at += 1;
                }
                b')' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                first if first.is_ascii_alphabetic() || first == b'_' => {
                    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                    let length = rest.iter().take_while(|b| is_word(b)).count();
                    let start = self.at;
                    self.at += length;
                    if depth == 0 {
                        return Some(Word {
                            text: &rest[..length],
                            start,
                            end: self.at,
                        });
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}

/// Bytes of a quoted token, both quotes included.
fn quoted_length(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &[u8]) -> Option<(&str, &str, &[u8])> {
        split_insert(text).map(|parts| (parts.sql, parts.format, parts.data))
    }

    #[test]
    fn binary_data_begins_right_after_the_format_line() {
        assert_eq!(
            split(b"INSERT INTO t (a, `FORMAT`) FORMAT RowBinary\n\n\n\0x"),
            Some(("INSERT INTO t (a, `FORMAT`)", "RowBinary", &b"\n\n\0x"[..]))
        );
        assert_eq!(
            split(b"insert into t format CSV 1,2"),
            Some(("insert into t", "CSV", &b"1,2"[..]))
        );
    }

    #[test]
    fn literals_and_comments_hide_keywords() {
        assert_eq!(
            split(b"INSERT INTO t /* FORMAT A */ SETTINGS x = 'FORMAT B\\'' -- FORMAT C\n FORMAT D\nz"),
            Some((
                "INSERT INTO t /* FORMAT A */ SETTINGS x = 'FORMAT B\\'' -- FORMAT C",
                "D",
                &b"z"[..]
            ))
        );
    }

    #[test]
    fn statements_without_separate_data_are_left_alone() {
        for text in [
            "SELECT 1 FORMAT CSV",
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t SELECT 1",
            "",
        ] {
            assert_eq!(split(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = split_insert(&text);
        }
    }
}
