//! Small operations on columns that may be absent.

use super::field_array::FieldArray;
use crate::model::Column;
use crate::model::schema::arrow_type;

/// The columns of `fields` out of what is there; a field that is not there is null in every row.
pub fn project(
    available: &[Column],
    columns: &[FieldArray],
    fields: &[Column],
    rows: usize,
) -> Vec<FieldArray> {
    // Fields mostly come in the same order, so the search goes on where the last one ended.
    let mut next = 0;
    fields
        .iter()
        .map(|field| {
            let is_it = |at: &usize| available[*at].name == field.name;
            let found = (next..available.len())
                .chain(0..next.min(available.len()))
                .find(is_it);
            match found.and_then(|at| columns.get(at)) {
                Some(column) => {
                    next = found.unwrap_or(0) + 1;
                    column.clone()
                }
                None => FieldArray::absent(&arrow_type(field.kind), rows),
            }
        })
        .collect()
}
