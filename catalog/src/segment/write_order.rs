//! Which of two rows of one series and time counts: the one that was written later.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::Int64Type;

use super::field_array::FieldArray;
use crate::model::{Column, ColumnType, TableKind};

/// The column that has the write order of each row, where rows of one source lie between those of
/// another. It is in rows and in files, but in no table.
pub const ORDER_COLUMN: &str = "__write_order";

/// The column of orders, for a reader or writer that asks for it.
pub fn order_column() -> Column {
    Column {
        name: ORDER_COLUMN.into(),
        kind: ColumnType::Integer,
    }
}

/// Whether rows keep their orders: those with these fields do.
pub fn has_orders(fields: &[Column]) -> bool {
    fields.iter().any(|field| &*field.name == ORDER_COLUMN)
}

/// Where the rows of a source stand among all writes: see `FORMAT.md`, "Write order".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteOrder {
    /// The highest order of a row; that of all rows, if they have none of their own.
    pub last: u64,
    /// The lowest.
    pub first: u64,
    /// Orders sources of the same orders: parts of what was written together.
    pub part: u64,
}

impl WriteOrder {
    /// Of a source whose orders are these, lowest and highest.
    pub fn of((first, last): (u64, u64)) -> Self {
        Self {
            last,
            first,
            part: 0,
        }
    }

    /// The same for a part of what was written together.
    pub fn part(self, part: u64) -> Self {
        Self { part, ..self }
    }

    /// Of both.
    pub fn union(self, other: Self) -> Self {
        Self {
            last: self.last.max(other.last),
            first: self.first.min(other.first),
            part: self.part.max(other.part),
        }
    }
}

/// The orders of the rows of an input.
#[derive(Debug, Clone)]
pub enum RowOrders {
    /// All have this.
    Same(u64),
    /// Each has its own.
    Each(ScalarBuffer<i64>),
}

impl RowOrders {
    /// From a column of orders; the rows of a source without one all have the same. `None` if it
    /// holds something else.
    pub fn of(column: Option<&FieldArray>, order: WriteOrder) -> Option<Self> {
        let Some(column) = column else {
            return Some(Self::Same(order.last));
        };
        let array = column.to_array();
        let orders = array.as_primitive_opt::<Int64Type>()?;
        let is_whole = orders.null_count() == 0;
        is_whole.then(|| Self::Each(orders.values().clone()))
    }

    /// The order of a row.
    pub fn at(&self, row: usize) -> u64 {
        match self {
            Self::Same(order) => *order,
            Self::Each(orders) => orders.get(row).map_or(0, |order| *order as u64),
        }
    }

    /// As a column of so many rows.
    pub fn to_column(&self, rows: usize) -> FieldArray {
        let orders = match self {
            Self::Same(order) => Int64Array::from_value(*order as i64, rows),
            Self::Each(orders) => Int64Array::new(orders.clone(), None),
        };
        FieldArray::Dense(Arc::new(orders))
    }

    /// Whether a series may have several rows of one time, each with some of the fields.
    pub fn has_versions(&self, kind: TableKind) -> bool {
        kind == TableKind::Wide && matches!(self, Self::Each(_))
    }
}
