//! Rows as line protocol: tags and fields are told by their types, as in the answers of Flight.
//!
//! What is NULL is left out, and so is a row without fields.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, Schema, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use arrow::error::ArrowError;
use tidelake_ingest::line_protocol::render;

/// The column of times.
const TIME: &str = "time";

/// What a column becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Time,
    Tag,
    Float,
    Integer,
    Unsigned,
    Boolean,
    Text,
}

impl Role {
    fn of(name: &str, kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Timestamp(_, _) if name == TIME => Self::Time,
            DataType::Dictionary(_, value) if value.is_string() => Self::Tag,
            // Tags in batches, see `flight::columns`.
            DataType::Utf8View => Self::Tag,
            DataType::Utf8 | DataType::LargeUtf8 => Self::Text,
            DataType::Boolean => Self::Boolean,
            kind if kind.is_signed_integer() => Self::Integer,
            kind if kind.is_unsigned_integer() => Self::Unsigned,
            kind if kind.is_floating() => Self::Float,
            _ => return None,
        })
    }

    fn kind(self) -> DataType {
        match self {
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::Tag | Self::Text => DataType::Utf8,
            Self::Float => DataType::Float64,
            Self::Integer => DataType::Int64,
            Self::Unsigned => DataType::UInt64,
            Self::Boolean => DataType::Boolean,
        }
    }
}

/// Writes rows of one schema.
#[derive(Debug)]
pub struct Lines {
    /// The name of the table, as a line begins with it.
    table: Vec<u8>,
    /// Place, role and name of the columns as a line has them: tags first, the time last.
    columns: Vec<(usize, Role, Vec<u8>)>,
}

fn invalid(reason: impl ToString) -> ArrowError {
    ArrowError::InvalidArgumentError(reason.to_string())
}

impl Lines {
    /// For rows of a table. Without `tags` those columns are tags whose types say so.
    ///
    /// # Errors
    /// If a column has a type that line protocol has not, or there is no time.
    pub fn new(table: &str, tags: Option<&[String]>, schema: &Schema) -> Result<Self, ArrowError> {
        let mut name = Vec::new();
        render::measurement(&mut name, table).map_err(invalid)?;
        let mut columns = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let role = Role::of(field.name(), field.data_type()).ok_or_else(|| {
                invalid(format!(
                    "the column {:?} has the type {}, which line protocol has not: leave it out of \
                     the query",
                    field.name(),
                    field.data_type()
                ))
            })?;
            let is_text = matches!(role, Role::Tag | Role::Text);
            let role = match tags {
                Some(tags) if is_text && tags.contains(field.name()) => Role::Tag,
                Some(_) if is_text => Role::Text,
                _ => role,
            };
            let mut key = Vec::new();
            if role != Role::Time {
                render::key(&mut key, field.name()).map_err(invalid)?;
            }
            columns.push((place, role, key));
        }
        if !columns.iter().any(|(_, role, _)| *role == Role::Time) {
            return Err(invalid(
                "line protocol needs a column \"time\" of timestamps",
            ));
        }
        columns.sort_by_key(|(_, role, _)| match role {
            Role::Tag => 0,
            Role::Time => 2,
            _ => 1,
        });
        Ok(Self {
            table: name,
            columns,
        })
    }

    /// Appends the rows of a batch.
    ///
    /// # Errors
    /// If a value cannot be written as line protocol.
    pub fn write(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let arrays = self
            .columns
            .iter()
            .map(|(place, role, _)| cast(batch.column(*place), &role.kind()))
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        for row in 0..batch.num_rows() {
            let start = out.len();
            if !self.row(&arrays, row, out).map_err(invalid)? {
                out.truncate(start);
            }
        }
        Ok(())
    }

    /// Whether the row has a field and a time.
    fn row(&self, arrays: &[ArrayRef], row: usize, out: &mut Vec<u8>) -> Result<bool, String> {
        let unwritable = |error: render::Unwritable| error.to_string();
        out.extend_from_slice(&self.table);
        let mut separator = b' ';
        for ((_, role, key), array) in self.columns.iter().zip(arrays) {
            if array.is_null(row) {
                if *role == Role::Time {
                    return Err(
                        "a row has no time, or one beyond nanoseconds of 64 bits".to_owned()
                    );
                }
                continue;
            }
            if *role == Role::Tag {
                let text = array.as_string::<i32>().value(row);
                if !text.is_empty() {
                    out.push(b',');
                    out.extend_from_slice(key);
                    out.push(b'=');
                    render::key(out, text).map_err(unwritable)?;
                }
                continue;
            }
            if *role == Role::Time {
                render::end(
                    out,
                    array.as_primitive::<TimestampNanosecondType>().value(row),
                );
                return Ok(separator == b',');
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(key);
            out.push(b'=');
            match role {
                Role::Float => {
                    let value = array.as_primitive::<Float64Type>().value(row);
                    render::float(out, value).map_err(unwritable)?;
                }
                Role::Integer => render::integer(out, array.as_primitive::<Int64Type>().value(row)),
                Role::Unsigned => {
                    render::unsigned(out, array.as_primitive::<UInt64Type>().value(row));
                }
                Role::Boolean => render::boolean(out, array.as_boolean().value(row)),
                Role::Text | Role::Tag | Role::Time => {
                    render::string(out, array.as_string::<i32>().value(row));
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
        TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap()
    }

    fn lines(table: &str, batch: &RecordBatch) -> Result<String, String> {
        let lines = Lines::new(table, None, &batch.schema()).map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        lines.write(batch, &mut out).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn rows_of_all_kinds() {
        let tags: DictionaryArray<Int32Type> =
            [Some("a b,c=d\\e"), None, Some("é")].into_iter().collect();
        let found = batch(vec![
            ("f", Arc::new(Float64Array::from(vec![-0.0, 5e-324, 1e300]))),
            (
                "time",
                Arc::new(TimestampNanosecondArray::from(vec![-1, i64::MAX, 3])),
            ),
            ("host name", Arc::new(tags)),
            (
                "i",
                Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(1)])),
            ),
            (
                "u",
                Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, None])),
            ),
            (
                "b",
                Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            ),
            (
                "s",
                Arc::new(StringArray::from(vec![Some("q\"\\\n"), Some(""), None])),
            ),
        ]);
        assert_eq!(
            lines("c p,u", &found).unwrap(),
            "c\\ p\\,u,host\\ name=a\\ b\\,c\\=d\\\\e f=-0.0,i=-9223372036854775808i,\
             u=18446744073709551615u,b=true,s=\"q\\\"\\\\\n\" -1\n\
             c\\ p\\,u f=5e-324,b=false,s=\"\" 9223372036854775807\n\
             c\\ p\\,u,host\\ name=é f=1e300,i=1i 3\n"
        );
    }

    #[test]
    fn rows_without_fields_are_left_out_and_times_become_nanoseconds() {
        let found = batch(vec![
            (
                "time",
                Arc::new(TimestampMillisecondArray::from(vec![5, 6])),
            ),
            ("v", Arc::new(Int64Array::from(vec![None, Some(1)]))),
        ]);
        assert_eq!(lines("t", &found).unwrap(), "t v=1i 6000000\n");
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        let check = |column: &str, array: ArrayRef, word: &str| {
            let time = Arc::new(TimestampNanosecondArray::from(vec![1]));
            let error = lines("t", &batch(vec![("time", time), (column, array)])).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        check(
            "v",
            Arc::new(Float64Array::from(vec![f64::NAN])),
            "not finite",
        );
        check("v\\", Arc::new(Int64Array::from(vec![1])), "backslash");
        let list =
            arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([
                Some([Some(1)]),
            ]);
        check("l", Arc::new(list), "leave it out");
        let none = batch(vec![("v", Arc::new(Int64Array::from(vec![1])))]);
        assert!(lines("t", &none).unwrap_err().contains("time"));
        assert!(lines("#t", &none).is_err());
    }
}
