//! Rows as every protocol leaves them: columns of one table, series by index.
//!
//! A row is a series, a time and some fields. Rows keep the order in which they were received,
//! because of two rows with one series and time the later one wins, field by field.

use tidelake_catalog::segment::ORDER_COLUMN;

use crate::column::FieldColumn;

/// Rows of one table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// For each row the index of its series in the table's
    /// [`SeriesRegistry`](crate::series_registry::SeriesRegistry).
    pub series: Vec<u32>,
    /// For each row its time, in the table's unit.
    pub time: Vec<i64>,
    /// The fields that at least one row has.
    pub fields: Vec<FieldColumn>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Gives every row its place in the order of all writes.
    pub fn keep_order(&mut self, order: u64) {
        let orders = vec![order as i64; self.len()];
        self.fields
            .push(FieldColumn::of_integers(ORDER_COLUMN.into(), orders));
    }

    /// Whether they have their places in the order of all writes.
    pub fn has_orders(&self) -> bool {
        let last = self.fields.last();
        last.is_some_and(|field| &*field.name == ORDER_COLUMN)
    }

    /// Bytes of memory that the rows hold, spare capacity included.
    pub fn bytes(&self) -> usize {
        let fields = self
            .fields
            .iter()
            .map(|field| size_of::<FieldColumn>() + field.bytes());
        self.series.capacity() * 4 + self.time.capacity() * 8 + fields.sum::<usize>()
    }

    /// The first rows, and the fields that these have.
    pub fn head(&self, rows: usize) -> Self {
        let rows = rows.min(self.len());
        let fields = self.fields.iter().map(|field| field.head(rows));
        Self {
            series: self.series.iter().take(rows).copied().collect(),
            time: self.time.iter().take(rows).copied().collect(),
            fields: fields.filter(|field| field.count() > 0).collect(),
        }
    }

    /// Leaves out the rows for which `keep` is false, and then the fields that no row has.
    pub fn retain(&mut self, keep: &[bool]) {
        fn filter<T>(values: &mut Vec<T>, keep: &[bool]) {
            let mut at = 0;
            values.retain(|_| {
                at += 1;
                keep.get(at - 1).copied().unwrap_or(false)
            });
        }
        filter(&mut self.series, keep);
        filter(&mut self.time, keep);
        for field in &mut self.fields {
            field.retain(keep);
        }
        self.fields.retain(|field| field.count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidelake_catalog::model::{ColumnType, Histogram};

    use super::*;
    use crate::column::FieldValues;

    #[test]
    fn retain_keeps_rows_of_every_kind_together() {
        let mut gone = FieldColumn::new("g".into(), ColumnType::Boolean);
        if let FieldValues::Boolean(values) = gone.open_row(0) {
            values.push(true);
        }
        let mut histograms = FieldColumn::new("h".into(), ColumnType::Histogram);
        let histogram = Arc::new(Histogram::default());
        for row in [0, 2] {
            if let FieldValues::Histogram(list) = histograms.open_row(row) {
                list.push(Arc::clone(&histogram));
            }
        }
        let mut rows = Rows {
            series: vec![7, 8, 9],
            time: vec![1, 2, 3],
            fields: vec![gone, histograms],
        };
        rows.retain(&[false, true, true]);
        assert_eq!(
            (rows.series.as_slice(), rows.time.as_slice()),
            ([8, 9].as_slice(), [2, 3].as_slice())
        );
        assert_eq!(rows.head(5), rows);
        let head = rows.head(1);
        assert_eq!((head.len(), head.fields.len()), (1, 0));
        let fields: Vec<(&str, Option<usize>)> = rows
            .fields
            .iter()
            .map(|field| (&*field.name, field.position(1)))
            .collect();
        assert_eq!(fields, [("h", Some(0))]);
    }
}
