//! Small operations on columns that may be absent.

use arrow::array::{ArrayRef, new_null_array};

use crate::model::Column;
use crate::model::schema::arrow_type;

/// The arrays of `fields` out of what is there; a field that is not there is null in every row.
pub fn project(
    available: &[Column],
    columns: &[ArrayRef],
    fields: &[Column],
    rows: usize,
) -> Vec<ArrayRef> {
    let find = |field: &Column| {
        available
            .iter()
            .position(|c| c.name == field.name)
            .and_then(|i| columns.get(i))
            .cloned()
    };
    fields
        .iter()
        .map(|field| find(field).unwrap_or_else(|| new_null_array(&arrow_type(field.kind), rows)))
        .collect()
}
