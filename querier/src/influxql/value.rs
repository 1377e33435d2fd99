//! Values of one cell, and the types that columns have.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType as ArrowType, Float64Type, Int64Type, TimestampNanosecondType, UInt64Type,
};
use tidelake_catalog::model::ColumnType;

use super::ast::{Cast, Literal};

/// The type of a field; a tag is one of its own.
///
/// Where several measurements have a field of different types, the first of them in this order
/// is the type of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataType {
    /// A float.
    Float,
    /// A signed integer.
    Integer,
    /// An unsigned integer.
    Unsigned,
    /// A text.
    String,
    /// A boolean.
    Boolean,
    /// The value of a tag.
    Tag,
}

impl DataType {
    /// The type of a column; `None` if InfluxQL has none like it.
    pub fn of(kind: ColumnType) -> Option<Self> {
        Some(match kind {
            ColumnType::Float => Self::Float,
            ColumnType::Integer => Self::Integer,
            ColumnType::Unsigned => Self::Unsigned,
            ColumnType::String => Self::String,
            ColumnType::Boolean => Self::Boolean,
            ColumnType::Tag => Self::Tag,
            ColumnType::Histogram | ColumnType::Labels | ColumnType::Timestamp => return None,
        })
    }

    /// The type that a cast to a value asks for.
    pub fn of_cast(cast: Cast) -> Option<Self> {
        match cast {
            Cast::Float => Some(Self::Float),
            Cast::Integer => Some(Self::Integer),
            Cast::Unsigned => Some(Self::Unsigned),
            Cast::String => Some(Self::String),
            Cast::Boolean => Some(Self::Boolean),
            Cast::Tag => Some(Self::Tag),
            Cast::Field => None,
        }
    }

    /// Whether it counts or measures.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Float | Self::Integer | Self::Unsigned)
    }

    /// As `SHOW FIELD KEYS` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Tag => "tag",
        }
    }
}

/// The value of a cell, which lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// None.
    Null,
    /// A float.
    Float(f64),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A boolean.
    Boolean(bool),
    /// A text.
    String(&'a str),
}

impl<'a> ValueRef<'a> {
    /// A row of an array of a field.
    pub fn of(array: &'a dyn Array, row: usize) -> Self {
        if array.is_null(row) {
            return Self::Null;
        }
        match array.data_type() {
            ArrowType::Float64 => Self::Float(array.as_primitive::<Float64Type>().value(row)),
            ArrowType::Int64 => Self::Integer(array.as_primitive::<Int64Type>().value(row)),
            ArrowType::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().value(row)),
            ArrowType::Boolean => Self::Boolean(array.as_boolean().value(row)),
            ArrowType::Utf8 => Self::String(array.as_string::<i32>().value(row)),
            ArrowType::Timestamp(..) => {
                Self::Integer(array.as_primitive::<TimestampNanosecondType>().value(row))
            }
            _ => Self::Null,
        }
    }

    /// The number, if it is one.
    pub fn as_float(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Integer(value) => Some(value as f64),
            Self::Unsigned(value) => Some(value as f64),
            Self::Null | Self::Boolean(_) | Self::String(_) => None,
        }
    }

    /// Whether there is none.
    pub fn is_null(self) -> bool {
        self == Self::Null
    }

    /// The same as another type: numbers become numbers, all else stays itself or is lost.
    pub fn cast(self, to: DataType) -> Self {
        match (to, self) {
            (DataType::Float, value) => value.as_float().map_or(Self::Null, Self::Float),
            (DataType::Integer, Self::Float(value)) => Self::Integer(value as i64),
            (DataType::Integer, Self::Unsigned(value)) => Self::Integer(value as i64),
            (DataType::Integer, value @ Self::Integer(_)) => value,
            (DataType::Unsigned, Self::Float(value)) => Self::Unsigned(value as u64),
            (DataType::Unsigned, Self::Integer(value)) => Self::Unsigned(value as u64),
            (DataType::Unsigned, value @ Self::Unsigned(_)) => value,
            (DataType::String | DataType::Tag, value @ Self::String(_)) => value,
            (DataType::Boolean, value @ Self::Boolean(_)) => value,
            _ => Self::Null,
        }
    }

    /// The value by itself.
    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Float(value) => Value::Float(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Unsigned(value) => Value::Unsigned(value),
            Self::Boolean(value) => Value::Boolean(value),
            Self::String(value) => Value::String(value.into()),
        }
    }

    /// The order of values of one type; floats by IEEE, where what has no order is equal.
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(&b),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.cmp(&b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(&b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (a, b) => match (a.as_float(), b.as_float()) {
                (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                _ => Ordering::Equal,
            },
        }
    }
}

/// The value of a cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// None.
    #[default]
    Null,
    /// A float.
    Float(f64),
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A boolean.
    Boolean(bool),
    /// A text.
    String(Arc<str>),
}

impl Value {
    /// It, as something that lies here.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Float(value) => ValueRef::Float(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Unsigned(value) => ValueRef::Unsigned(*value),
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::String(value) => ValueRef::String(value),
        }
    }

    /// The value of a constant.
    pub fn of(literal: &Literal) -> Self {
        match literal {
            Literal::Integer(value) | Literal::Duration(value) | Literal::Time(value) => {
                Self::Integer(*value)
            }
            Literal::Unsigned(value) => Self::Unsigned(*value),
            Literal::Number(value) => Self::Float(*value),
            Literal::String(value) => Self::String(value.as_str().into()),
            Literal::Boolean(value) => Self::Boolean(*value),
            Literal::Regex(_) => Self::Null,
        }
    }

    /// Bytes beside those of the type itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::String(value) => value.len() + 16,
            _ => 0,
        }
    }
}

/// One column of some rows.
#[derive(Debug, Clone)]
pub enum Column {
    /// No row has a value.
    Absent,
    /// A value or null for each row.
    Array(ArrayRef),
    /// Each row has the same: the value of a tag.
    Text(Arc<str>),
    /// Each row has one of some texts, or none: the values of a tag, and which it is.
    Texts(Arc<[Option<Arc<str>>]>, Arc<[u32]>),
    /// A value for each row.
    Values(Vec<Value>),
}

impl Column {
    /// The value of a row.
    pub fn get(&self, row: usize) -> ValueRef<'_> {
        match self {
            Self::Absent => ValueRef::Null,
            Self::Array(array) => ValueRef::of(array, row),
            Self::Text(text) => ValueRef::String(text),
            Self::Texts(texts, which) => {
                let text = which
                    .get(row)
                    .and_then(|at| texts.get(*at as usize)?.as_ref());
                text.map_or(ValueRef::Null, |text| ValueRef::String(text))
            }
            Self::Values(values) => values.get(row).map_or(ValueRef::Null, Value::as_ref),
        }
    }

    /// Its rows from one on.
    pub fn from(&self, start: usize) -> Self {
        match self {
            Self::Absent | Self::Text(_) => self.clone(),
            Self::Array(array) => Self::Array(array.slice(start, array.len() - start)),
            Self::Texts(texts, which) => Self::Texts(Arc::clone(texts), which[start..].into()),
            Self::Values(values) => Self::Values(values[start..].to_vec()),
        }
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        match self {
            Self::Absent | Self::Text(_) => 0,
            Self::Texts(texts, which) => texts.len() * 24 + which.len() * 4,
            // That of the slice, not of what it is a slice of.
            Self::Array(array) => {
                let size = array.to_data().get_slice_memory_size();
                size.unwrap_or_else(|_| array.get_array_memory_size())
            }
            Self::Values(values) => {
                let texts: usize = values.iter().map(Value::heap_bytes).sum();
                texts + values.len() * size_of::<Value>()
            }
        }
    }
}
