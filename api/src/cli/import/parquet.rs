//! Parquet files: each row is a line of line protocol.

use std::fs::File;

use anyhow::Context;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::csv::CsvArgs;
use super::{Batch, BodyKind, Position, Precision, Source};
use crate::sql::lines::Lines;

/// Rows that are read at once.
const BATCH_ROWS: usize = 8192;
/// The column of times, as lines have it.
const TIME: &str = "time";

/// Rows of a Parquet file as lines.
pub(super) struct ParquetLines {
    reader: ParquetRecordBatchReader,
    /// As [`Lines`] takes them: the time has its name and type, and views are plain text.
    schema: SchemaRef,
    lines: Lines,
    batch_bytes: usize,
    /// Rows that were read, and those of them that were imported before.
    position: u64,
    skipped: u64,
}

/// Rows of a file.
pub(super) fn rows(file: &File) -> anyhow::Result<u64> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.try_clone()?)
        .context("it is no Parquet file")?;
    Ok(builder.metadata().file_metadata().num_rows().unsigned_abs())
}

impl ParquetLines {
    pub(super) fn new(
        file: File,
        args: &CsvArgs,
        batch_bytes: usize,
        start: Position,
    ) -> anyhow::Result<Self> {
        let table = args.table.as_deref().context("Parquet needs --table")?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)
            .context("it is no Parquet file")?
            .with_batch_size(BATCH_ROWS);
        let column = |field: &arrow::datatypes::FieldRef| {
            let is_time = *field.name() == args.time_column;
            let name = if is_time { TIME } else { field.name() };
            let kind = match field.data_type() {
                kind if is_time => time_type(kind, args.time_unit),
                DataType::Utf8View => DataType::Utf8,
                kind => kind.clone(),
            };
            Field::new(name, kind, true)
        };
        let columns: Vec<Field> = builder.schema().fields().iter().map(column).collect();
        for wanted in args.tags.iter().chain([&args.time_column]) {
            let has = builder.schema().column_with_name(wanted).is_some();
            anyhow::ensure!(has, "there is no column {wanted:?}");
        }
        let schema = SchemaRef::new(Schema::new(columns));
        let tags = (!args.tags.is_empty()).then_some(&args.tags[..]);
        Ok(Self {
            lines: Lines::new(table, tags, &schema)?,
            reader: builder.build()?,
            schema,
            batch_bytes,
            position: 0,
            skipped: start.offset,
        })
    }

    fn converted(&self, batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        Ok(RecordBatch::try_new(
            SchemaRef::clone(&self.schema),
            columns,
        )?)
    }
}

/// Timestamps stay what they are; numbers have a unit.
fn time_type(kind: &DataType, unit: Precision) -> DataType {
    match kind {
        DataType::Timestamp(_, _) => kind.clone(),
        _ => DataType::Timestamp(
            match unit {
                Precision::Ns => TimeUnit::Nanosecond,
                Precision::Us => TimeUnit::Microsecond,
                Precision::Ms => TimeUnit::Millisecond,
                Precision::S => TimeUnit::Second,
            },
            None,
        ),
    }
}

impl Source for ParquetLines {
    fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut body = Vec::new();
        let before = self.position;
        while body.len() < self.batch_bytes {
            let Some(rows) = self.reader.next() else {
                break;
            };
            let rows = rows.context("cannot read its rows")?;
            let first = self.position;
            self.position += rows.num_rows() as u64;
            if self.position <= self.skipped {
                continue;
            }
            let place = || format!("rows {} to {}", first + 1, self.position);
            let rows = self.converted(&rows).with_context(place)?;
            self.lines.write(&rows, &mut body).with_context(place)?;
        }
        if self.position == before {
            return Ok(None);
        }
        let end = Position {
            offset: self.position,
            line: self.position,
        };
        Ok(Some(Batch {
            body,
            kind: BodyKind::LineProtocol(Precision::Ns),
            lines_before: before,
            lines: None,
            bad: Vec::new(),
            end,
        }))
    }
}
