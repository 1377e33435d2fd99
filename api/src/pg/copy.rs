//! `COPY (..) TO STDOUT`: rows as text, CSV or in binary.

use arrow::array::RecordBatch;
use arrow::array::timezone::Tz;

use super::error::{PgError, code};
use super::rows::{Column, Format};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

/// What a statement says about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyOptions {
    pub format: CopyFormat,
    has_header: bool,
    delimiter: Option<u8>,
    null: Option<String>,
    quote: Option<u8>,
    escape: Option<u8>,
    quotes_all: bool,
}

fn invalid(message: impl Into<String>) -> PgError {
    PgError::new(code::INVALID_PARAMETER, message)
}

fn one_byte(name: &str, value: &str) -> Result<Option<u8>, PgError> {
    match value.as_bytes() {
        [byte] if *byte != b'\n' && *byte != b'\r' => Ok(Some(*byte)),
        _ => Err(invalid(format!(
            "COPY {name} must be one character of one byte"
        ))),
    }
}

impl CopyOptions {
    /// Reads an option.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        match name {
            "format" => {
                self.format = match value.to_ascii_lowercase().as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    _ => return Err(invalid("COPY format must be text, csv or binary")),
                }
            }
            "header" => {
                self.has_header = match value.to_ascii_lowercase().as_str() {
                    "true" | "on" | "1" => true,
                    "false" | "off" | "0" => false,
                    _ => return Err(invalid("COPY header must be true or false")),
                }
            }
            "delimiter" | "delimiters" => self.delimiter = one_byte(name, value)?,
            "quote" => self.quote = one_byte(name, value)?,
            "escape" => self.escape = one_byte(name, value)?,
            "null" => self.null = Some(value.to_owned()),
            "force_quote" => self.quotes_all = true,
            "encoding" => {
                let plain = value.to_ascii_lowercase().replace(['-', '_'], "");
                if plain != "utf8" {
                    return Err(invalid("COPY encoding must be UTF8"));
                }
            }
            _ => {
                return Err(PgError::new(
                    code::SYNTAX,
                    format!("COPY has no option {name:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Checks the options together.
    pub fn check(&self) -> Result<(), PgError> {
        let is_csv = self.format == CopyFormat::Csv;
        if !is_csv && (self.quote.is_some() || self.escape.is_some() || self.quotes_all) {
            return Err(invalid("COPY quote, escape and force_quote are for csv"));
        }
        if self.format == CopyFormat::Binary
            && (self.delimiter.is_some() || self.null.is_some() || self.has_header)
        {
            return Err(invalid("COPY in binary has no delimiter, null or header"));
        }
        if self.delimiter.is_some() && self.delimiter == Some(self.quote()) && is_csv {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        // After a backslash, these mean something else in a text.
        let delimiter = self.delimiter();
        let is_ambiguous = delimiter.is_ascii_lowercase()
            || delimiter.is_ascii_digit()
            || b"\\.".contains(&delimiter);
        if self.format == CopyFormat::Text && is_ambiguous {
            let shown = char::from(delimiter);
            return Err(invalid(format!("COPY delimiter cannot be {shown:?}")));
        }
        let null = self.null().as_bytes();
        if null.iter().any(|byte| b"\n\r".contains(byte)) {
            return Err(invalid("COPY null must be on one line"));
        }
        if !self.is_binary() && null.contains(&delimiter) || is_csv && null.contains(&self.quote())
        {
            return Err(invalid("COPY delimiter and quote must not appear in null"));
        }
        Ok(())
    }

    pub fn is_binary(&self) -> bool {
        self.format == CopyFormat::Binary
    }

    fn delimiter(&self) -> u8 {
        let usual = match self.format {
            CopyFormat::Csv => b',',
            _ => b'\t',
        };
        self.delimiter.unwrap_or(usual)
    }

    fn quote(&self) -> u8 {
        self.quote.unwrap_or(b'"')
    }

    fn null(&self) -> &str {
        let usual = match self.format {
            CopyFormat::Csv => "",
            _ => "\\N",
        };
        self.null.as_deref().unwrap_or(usual)
    }

    /// What comes before the first row.
    pub fn head<'a>(&self, names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
        if self.is_binary() {
            out.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
            // No flags, no more header.
            out.extend_from_slice(&[0; 8]);
        } else if self.has_header {
            for (at, name) in names.enumerate() {
                if at > 0 {
                    out.push(self.delimiter());
                }
                let from = out.len();
                out.extend_from_slice(name.as_bytes());
                self.finish_cell(from, false, out);
            }
            out.push(b'\n');
        }
    }

    /// What comes after the last row.
    pub fn tail(&self, out: &mut Vec<u8>) {
        if self.is_binary() {
            out.extend_from_slice(&(-1i16).to_be_bytes());
        }
    }

    /// The columns of a batch.
    pub fn columns<'a>(
        &self,
        batch: &'a RecordBatch,
        zone: Tz,
    ) -> Result<Vec<Column<'a>>, PgError> {
        let format = match self.is_binary() {
            true => Format::Binary,
            false => Format::Text,
        };
        let arrays = batch.columns().iter();
        arrays
            .map(|array| Column::new(array.as_ref(), format, zone))
            .collect()
    }

    /// Appends a row.
    pub fn row(
        &self,
        columns: &[Column<'_>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), PgError> {
        if self.is_binary() {
            let count = u16::try_from(columns.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            let mut columns = columns.iter();
            return columns.try_for_each(|column| column.write_sized(row, out));
        }
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(self.delimiter());
            }
            if column.is_null(row) {
                out.extend_from_slice(self.null().as_bytes());
                continue;
            }
            let from = out.len();
            column.write(row, out)?;
            self.finish_cell(from, self.quotes_all, out);
        }
        out.push(b'\n');
        Ok(())
    }

    /// Escapes or quotes the cell that begins at `from`, if it needs that.
    fn finish_cell(&self, from: usize, is_quoted: bool, out: &mut Vec<u8>) {
        let cell = out.get(from..).unwrap_or_default();
        let delimiter = self.delimiter();
        match self.format {
            CopyFormat::Binary => {}
            CopyFormat::Text => {
                let is_special = |byte: &u8| {
                    *byte == delimiter || *byte == b'\\' || (0x08..=0x0d).contains(byte)
                };
                if !cell.iter().any(is_special) {
                    return;
                }
                for byte in out.split_off(from) {
                    let escape = match byte {
                        0x08 => b'b',
                        b'\t' => b't',
                        b'\n' => b'n',
                        0x0b => b'v',
                        0x0c => b'f',
                        b'\r' => b'r',
                        byte if byte == b'\\' || byte == delimiter => byte,
                        byte => {
                            out.push(byte);
                            continue;
                        }
                    };
                    out.extend_from_slice(&[b'\\', escape]);
                }
            }
            CopyFormat::Csv => {
                let quote = self.quote();
                let escape = self.escape.unwrap_or(quote);
                let is_special =
                    |byte: &u8| *byte == delimiter || *byte == quote || b"\n\r".contains(byte);
                let is_plain = !is_quoted
                    && cell != self.null().as_bytes()
                    && cell != b"\\."
                    && !cell.iter().any(is_special);
                if is_plain {
                    return;
                }
                let cell = out.split_off(from);
                out.push(quote);
                for byte in cell {
                    if byte == quote || byte == escape {
                        out.push(escape);
                    }
                    out.push(byte);
                }
                out.push(quote);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn copied(options: &[(&str, &str)]) -> Vec<u8> {
        let texts = vec![Some("a\tb\\\n"), Some(""), None, Some("q\",x"), Some("\\N")];
        let columns: [(&str, ArrayRef); 2] = [
            ("a,b", Arc::new(StringArray::from(texts))),
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut all = CopyOptions::default();
        options
            .iter()
            .for_each(|(name, value)| all.set(name, value).unwrap());
        all.check().unwrap();
        let mut out = Vec::new();
        all.head(["a,b", "n"].into_iter(), &mut out);
        let columns = all.columns(&batch, "+00:00".parse().unwrap()).unwrap();
        for row in 0..5 {
            all.row(&columns, row, &mut out).unwrap();
        }
        all.tail(&mut out);
        out
    }

    #[test]
    fn forms() {
        let check = |options: &[(&str, &str)], expected: &str| {
            assert_eq!(String::from_utf8(copied(options)).unwrap(), expected);
        };
        check(&[], "a\\tb\\\\\\n\t1\n\t2\n\\N\t3\nq\",x\t4\n\\\\N\t5\n");
        check(
            &[("format", "csv"), ("header", "on")],
            "\"a,b\",n\n\"a\tb\\\n\",1\n\"\",2\n,3\n\"q\"\",x\",4\n\\N,5\n",
        );
        check(
            &[
                ("format", "csv"),
                ("delimiter", "|"),
                ("null", "-"),
                ("escape", "\\"),
            ],
            "\"a\tb\\\\\n\"|1\n|2\n-|3\n\"q\\\",x\"|4\n\\N|5\n",
        );
        let binary = copied(&[("format", "binary")]);
        assert!(binary.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x05a\tb\\\n"));
        assert!(binary.ends_with(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff]));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let mut options = CopyOptions::default();
        options.set("quote", "'").unwrap();
        assert!(options.check().is_err());
        let mut options = CopyOptions::default();
        options.set("format", "binary").unwrap();
        options.set("header", "true").unwrap();
        assert!(options.check().is_err());
        assert!(options.set("delimiter", "ab").is_err());
        // What a reader would take for another thing.
        let bad: [&[(&str, &str)]; 6] = [
            &[("delimiter", "n")],
            &[("delimiter", "\\")],
            &[("delimiter", "-"), ("null", "a-b")],
            &[("format", "csv"), ("null", "a\"b")],
            &[("format", "csv"), ("null", "a,b")],
            &[("format", "csv"), ("delimiter", "|"), ("null", "|")],
        ];
        for given in bad {
            let mut options = CopyOptions::default();
            for (name, value) in given {
                options.set(name, value).unwrap();
            }
            assert!(options.check().is_err(), "{given:?}");
        }
        assert!(options.set("nothing", "x").is_err());
    }
}
