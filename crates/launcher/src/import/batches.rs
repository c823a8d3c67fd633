//! A file as batches of whole items, each of which can be found in the file again.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use memchr::memchr;

/// Lines sent at once: as many as one request takes. The log syncs less often for the same lines.
const BATCH_LINES: usize = ingest::bulk::MAX_ITEMS;
/// Bytes sent at once; the item that passes them is the batch's last.
const BATCH_BYTES: usize = 4 << 20;

/// Lines of one row at most: quotes that are never closed would take in the whole file.
const ROW_LINES: usize = 100;

/// Some lines of the file.
pub(super) struct LineBatch {
    pub(super) body: Bytes,
    /// The number of the first line, counted from 1.
    pub(super) first_line: usize,
    /// Lines, those that begin no item among them.
    pub(super) lines: usize,
    /// Of each line that begins no item, its place in the batch: it is blank, or goes on in the quotes of the line before.
    no_items: Vec<usize>,
}

impl LineBatch {
    /// The line of the file at which an item of the batch begins.
    pub(super) fn line_of(&self, item: usize) -> usize {
        let mut place = item;
        for no_item in &self.no_items {
            if *no_item <= place {
                place += 1;
            }
        }
        self.first_line + place
    }
}

/// Reads a file batch by batch.
pub(super) struct Batches {
    reader: BufReader<File>,
    /// The header of CSV, repeated before each batch.
    header: Vec<u8>,
    is_csv: bool,
    next_line: usize,
}

impl Batches {
    pub(super) fn open(file: &Path, is_csv: bool) -> Result<Self> {
        let opened = File::open(file).with_context(|| format!("read {}", file.display()))?;
        let mut reader = BufReader::with_capacity(1 << 20, opened);
        let mut header = Vec::new();
        let mut next_line = 1;
        if is_csv {
            reader.read_until(b'\n', &mut header)?;
            next_line = 2;
        }
        Ok(Self {
            reader,
            header,
            is_csv,
            next_line,
        })
    }

    /// Whether a line is no item. In CSV a line of spaces is a row of one column.
    fn is_blank(&self, line: &[u8]) -> bool {
        if self.is_csv {
            matches!(line, b"\n" | b"\r\n")
        } else {
            line.trim_ascii().is_empty()
        }
    }

    fn read(&mut self) -> io::Result<Option<LineBatch>> {
        let mut body = self.header.clone();
        let first_line = self.next_line;
        let (mut lines, mut no_items) = (0, Vec::new());
        while lines < BATCH_LINES && body.len() < BATCH_BYTES {
            let begin = body.len();
            if self.reader.read_until(b'\n', &mut body)? == 0 {
                break;
            }
            if self.is_blank(&body[begin..]) {
                no_items.push(lines);
            }
            lines += 1;
            if !self.is_csv {
                continue;
            }
            let mut quotes = Quotes::default();
            quotes.read(&body[begin..]);
            for _ in 1..ROW_LINES {
                let begin = body.len();
                let may_go_on = quotes.is_quoted && begin < BATCH_BYTES;
                if !may_go_on || self.reader.read_until(b'\n', &mut body)? == 0 {
                    break;
                }
                quotes.read(&body[begin..]);
                no_items.push(lines);
                lines += 1;
            }
        }
        self.next_line += lines;
        Ok((lines > 0).then(|| LineBatch {
            body: body.into(),
            first_line,
            lines,
            no_items,
        }))
    }
}

/// Where a row of CSV stands after the text that was read of it (RFC 4180).
struct Quotes {
    /// Within a quoted field, so that the next line belongs to it.
    is_quoted: bool,
    /// A quote counts where a field begins with it.
    begins_field: bool,
}

impl Default for Quotes {
    fn default() -> Self {
        Self {
            is_quoted: false,
            begins_field: true,
        }
    }
}

impl Quotes {
    /// Reads a line, the first of the row or one that goes on in its quotes.
    fn read(&mut self, line: &[u8]) {
        if memchr(b'"', line).is_none() {
            return;
        }
        let mut bytes = line.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if self.is_quoted {
                // Two of them are one of the text.
                if byte == b'"' && bytes.next_if_eq(&b'"').is_none() {
                    self.is_quoted = false;
                }
            } else {
                self.is_quoted = byte == b'"' && self.begins_field;
                self.begins_field = matches!(byte, b',' | b'\n' | b'\r');
            }
        }
    }
}

impl Iterator for Batches {
    type Item = io::Result<LineBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn batches(text: &str, is_csv: bool) -> Vec<LineBatch> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let batches = Batches::open(file.path(), is_csv).unwrap();
        batches.map(Result::unwrap).collect()
    }

    #[test]
    fn a_refused_item_is_found_in_the_file_by_its_line_number() {
        let read = batches("{}\n\n\n{}\n{}", false);
        assert_eq!(read.len(), 1);
        let place = |item| read[0].line_of(item);
        assert_eq!([place(0), place(1), place(2)], [1, 4, 5]);
    }

    #[test]
    fn a_line_of_spaces_is_a_row_of_csv() {
        let read = batches("kind,number\n\n  \na,b\n", true);
        let place = |item| read[0].line_of(item);
        assert_eq!([place(0), place(1)], [3, 4]);
    }

    #[test]
    fn each_batch_of_csv_begins_with_the_header() {
        let text = format!("kind,number\n{}", "a,b\n".repeat(BATCH_LINES + 1));
        let read = batches(&text, true);
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].body, "kind,number\na,b\n");
        assert_eq!(
            (read[0].first_line, read[1].first_line),
            (2, BATCH_LINES + 2)
        );
    }

    #[test]
    fn a_row_goes_on_in_its_quotes_and_the_lines_after_it_keep_their_numbers() {
        let read = batches("kind,name\na,\"b\n\"\"c\n\"\nd,5\" e\n\nf,g\n", true);
        assert_eq!(read.len(), 1);
        assert_eq!([0, 1, 2].map(|item| read[0].line_of(item)), [2, 5, 7]);
        assert_eq!(read[0].lines, 6);
    }

    #[test]
    fn quotes_count_where_a_field_begins_with_them() {
        for (row, expected) in [
            ("a,b\n", false),
            ("a,\"b\n", true),
            ("\"a\n", true),
            ("a,\"b\"\n", false),
            ("a,\"b\"\"\n", true),
            ("a,b\"\n", false),
            ("a, \"b\n", false),
        ] {
            let mut quotes = Quotes::default();
            quotes.read(row.as_bytes());
            assert_eq!(quotes.is_quoted, expected, "{row}");
        }
    }
}
