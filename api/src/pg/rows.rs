//! Rows of Arrow arrays as PostgreSQL writes them, as text or in binary.
//!
//! A column has one writer a batch, which appends a cell to what is sent: nothing is allocated for
//! a row. Numbers and texts are exact in both forms. Times have microseconds, so that what is below
//! them is cut off; as `time::bigint` they have all their digits.

mod binary;
mod lists;
mod number;
mod text;
pub mod time;
mod values;

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::backend::Output;
use super::error::{PgError, code};
use super::settings::Settings;
use crate::node::backend::TypeOf;
use crate::sql::cells::cell_writer;
use crate::sql::columns;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

/// Appends the cell of a row, which is not NULL.
type CellWriter<'a> = columns::Writer<'a, PgError>;

/// A column of a batch.
pub struct Column<'a> {
    nulls: Option<NullBuffer>,
    write: CellWriter<'a>,
}

impl<'a> Column<'a> {
    /// The column with its writer.
    pub fn new(array: &'a dyn Array, format: Format, zone: Tz) -> Result<Self, PgError> {
        Ok(Self {
            nulls: array.logical_nulls(),
            write: writer(array, format, zone)?,
        })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the cell of a row, which is not NULL.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), PgError> {
        (self.write)(row, out)
    }

    /// Appends the length of a cell and the cell; -1 if it is NULL.
    pub fn write_sized(&self, row: usize, out: &mut Vec<u8>) -> Result<(), PgError> {
        if self.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        sized(out, |out| self.write(row, out))
    }
}

/// Appends something after its length.
fn sized(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = i32::try_from(out.len() - at - 4);
    let length = length.map_err(|_| PgError::new(code::TOO_COMPLEX, "a value has over 2 GiB"))?;
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// The columns of a batch; `formats` says how each is written.
pub fn columns<'a>(
    batch: &'a RecordBatch,
    formats: &Formats,
    zone: Tz,
) -> Result<Vec<Column<'a>>, PgError> {
    let arrays = batch.columns().iter().enumerate();
    arrays
        .map(|(at, array)| Column::new(array.as_ref(), formats.of(at), zone))
        .collect()
}

/// Appends the message of a row.
pub fn write_row(columns: &[Column<'_>], row: usize, out: &mut Output) -> Result<(), PgError> {
    let open = out.begin(b'D');
    let count = u16::try_from(columns.len()).unwrap_or(u16::MAX);
    out.0.extend_from_slice(&count.to_be_bytes());
    let mut cells = columns.iter();
    match cells.try_for_each(|column| column.write_sized(row, &mut out.0)) {
        Ok(()) => out.end(open),
        Err(error) => {
            out.cancel(open);
            Err(error)
        }
    }
}

/// How the columns of an answer are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formats {
    All(Format),
    Each(Vec<Format>),
}

impl Formats {
    /// From the codes of a Bind message: none is text, one is for all.
    pub fn from_codes(codes: &[i16]) -> Result<Self, PgError> {
        let format = |code: &i16| match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(PgError::new(
                code::PROTOCOL_VIOLATION,
                format!("there is no format {other}: 0 is text, 1 is binary"),
            )),
        };
        match codes {
            [] => Ok(Formats::All(Format::Text)),
            [one] => Ok(Formats::All(format(one)?)),
            each => Ok(Formats::Each(
                each.iter().map(format).collect::<Result<_, _>>()?,
            )),
        }
    }

    /// Of a column.
    pub fn of(&self, column: usize) -> Format {
        match self {
            Formats::All(format) => *format,
            Formats::Each(formats) => formats.get(column).copied().unwrap_or(Format::Text),
        }
    }
}

/// The writer of a column.
fn writer(array: &dyn Array, format: Format, zone: Tz) -> Result<CellWriter<'_>, PgError> {
    let element = match array.data_type() {
        DataType::List(item) | DataType::LargeList(item) => Some(item),
        DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    };
    let of = TypeOf::of(array.data_type());
    if element.is_some() && of.is_array {
        return lists::writer(array, of, format, zone);
    }
    if of.element.name == "json" {
        return json(array);
    }
    match format {
        Format::Text => text::writer(array, zone),
        Format::Binary => binary::writer(array),
    }
}

/// The writer of a column whose values stand in a dictionary.
fn of_keys<'a>(array: &'a dyn Array, write: CellWriter<'a>) -> CellWriter<'a> {
    let keys = array.as_any_dictionary().normalized_keys();
    Box::new(move |row, out| match keys.get(row) {
        Some(key) => write(*key, out),
        None => Ok(()),
    })
}

/// For texts, which have no zone.
fn utc() -> Tz {
    Settings::default().zone()
}

/// JSON is the same in both forms.
fn json(array: &dyn Array) -> Result<CellWriter<'_>, PgError> {
    let write = cell_writer(array).map_err(failure)?;
    Ok(Box::new(move |row, out| write(row, out).map_err(failure)))
}

fn failure(error: ArrowError) -> PgError {
    PgError::new(code::UNSUPPORTED, error.to_string())
}

/// Appends a text, which cannot have a zero in PostgreSQL: clients would see its beginning only.
fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), PgError> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(PgError::new(
            code::NOT_IN_REPERTOIRE,
            "a text has a zero character, which this protocol cannot show; leave it out by \
             replace(column, chr(0), '')",
        ));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// The binary form of a number, for tests of what reads it.
#[cfg(test)]
pub fn numeric_of_text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    number::write_numeric(text.as_bytes(), &mut out);
    out
}

#[cfg(test)]
mod tests;
