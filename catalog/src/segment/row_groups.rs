//! Record batches -> row groups of a Parquet file, each column in whichever encoding makes it smallest.
//!
//! Which encoding suits a column depends on the data: counters that grow steadily, gauges with two decimals, flags and noise
//! each have another best one, and sorted by metric a row group holds mostly one sort. So a row group is encoded in every
//! way that is worth trying, and of each column the smallest result is kept. Any reader reads any of them.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

/// Rows of a row group: one range request then serves a point query, and a writer holds no more than this.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Writes the row groups of one file.
pub(super) struct RowGroups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: SchemaRef,
    /// How to encode: the first is for every column, the others are tried on columns of numbers.
    ways: Vec<ArrowRowGroupWriterFactory>,
    /// Rows of the row group that is being collected.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
}

impl<W: Write + Send> RowGroups<W> {
    /// A file with these properties, of which `alternatives` differ in encodings only.
    pub fn new(to: W, schema: SchemaRef, properties: WriterProperties, alternatives: Vec<WriterProperties>) -> Result<Self, ParquetError> {
        let (file, first) = ArrowWriter::try_new(to, Arc::clone(&schema), Some(properties))?.into_serialized_writer()?;
        let mut ways = vec![first];
        for properties in alternatives {
            ways.push(ArrowWriter::try_new(io::sink(), Arc::clone(&schema), Some(properties))?.into_serialized_writer()?.1);
        }
        Ok(Self { file, schema, ways, pending: Vec::new(), pending_rows: 0, pending_bytes: 0 })
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (batch.num_rows() - from).min(ROW_GROUP_ROWS - self.pending_rows);
            self.pending.push(batch.slice(from, rows));
            self.pending_rows += rows;
            // What is pending is a guess: it is not encoded yet.
            self.pending_bytes += rows * self.schema.fields().len();
            from += rows;
            if self.pending_rows == ROW_GROUP_ROWS {
                self.end_group()?;
            }
        }
        Ok(())
    }

    /// Bytes of the file so far, with a guess at those not encoded yet.
    pub fn bytes(&self) -> usize {
        self.file.bytes_written() + self.pending_bytes
    }

    /// Writes what is pending, and the footer.
    pub fn finish(mut self) -> Result<(), ParquetError> {
        self.end_group()?;
        self.file.close().map(|_| ())
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        let batches = std::mem::take(&mut self.pending);
        (self.pending_rows, self.pending_bytes) = (0, 0);
        if batches.is_empty() {
            return Ok(());
        }
        let number = self.file.flushed_row_groups().len();
        let ways = self.ways.iter().map(|way| way.create_column_writers(number).map(Vec::into_iter));
        let mut ways = ways.collect::<Result<Vec<_>, _>>()?;
        let mut chunks: Vec<ArrowColumnChunk> = Vec::new();
        for (at, field) in self.schema.fields().iter().enumerate() {
            let mut leaves = Vec::with_capacity(batches.len());
            for batch in &batches {
                leaves.push(compute_leaves(field, batch.column(at))?);
            }
            let tried = if is_number(field.data_type()) { ways.len() } else { 1 };
            for leaf in 0..leaves.first().map_or(0, Vec::len) {
                let mut smallest: Option<ArrowColumnChunk> = None;
                for (way, writers) in ways.iter_mut().enumerate() {
                    let writer = writers.next().ok_or_else(|| ParquetError::General(format!("column {} has no writer", field.name())))?;
                    if way >= tried {
                        continue;
                    }
                    let chunk = encode(writer, leaves.iter().map(|leaves| &leaves[leaf]))?;
                    if smallest.as_ref().is_none_or(|best| chunk.close().bytes_written < best.close().bytes_written) {
                        smallest = Some(chunk);
                    }
                }
                chunks.extend(smallest);
            }
        }
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close().map(|_| ())
    }
}

fn encode<'a>(
    mut writer: ArrowColumnWriter,
    leaves: impl Iterator<Item = &'a parquet::arrow::arrow_writer::ArrowLeafColumn>,
) -> Result<ArrowColumnChunk, ParquetError> {
    for leaf in leaves {
        writer.write(leaf)?;
    }
    writer.close()
}

/// Whether several encodings are worth trying.
fn is_number(kind: &DataType) -> bool {
    matches!(kind, DataType::Float64 | DataType::Int64 | DataType::UInt64 | DataType::Timestamp(..))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Float64Array};
    use arrow::datatypes::{Field, Float64Type, Schema};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, Encoding, ZstdLevel};

    use super::*;

    fn properties(dictionary: bool, encoding: Encoding) -> WriterProperties {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
        WriterProperties::builder().set_compression(zstd).set_dictionary_enabled(dictionary).set_encoding(encoding).build()
    }

    fn written(values: &[f64], ways: Vec<WriterProperties>, batch_rows: usize) -> Bytes {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true)]));
        let mut bytes = Vec::new();
        let mut ways = ways.into_iter();
        let mut groups = RowGroups::new(&mut bytes, Arc::clone(&schema), ways.next().unwrap(), ways.collect()).unwrap();
        for values in values.chunks(batch_rows) {
            let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
            groups.write(&RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()).unwrap();
        }
        groups.finish().unwrap();
        bytes.into()
    }

    #[test]
    fn each_row_group_has_its_smallest_encoding_and_all_values_come_back() {
        // A row group of few values in no order, and one that climbs smoothly.
        let few = (0..ROW_GROUP_ROWS).map(|i| [0.1, 17.33, 1e9, -4.0][((i * 7919) >> 3) % 4]);
        let climbing = (0..ROW_GROUP_ROWS).map(|i| 1e6 + i as f64 * 4096.0);
        let values: Vec<f64> = few.chain(climbing).chain([f64::NAN, 1.0]).collect();
        let ways =
            || [properties(false, Encoding::BYTE_STREAM_SPLIT), properties(true, Encoding::PLAIN), properties(false, Encoding::PLAIN)];
        let all = written(&values, ways().into(), 30_000);
        let alone: Vec<usize> = ways().into_iter().map(|way| written(&values, vec![way], 30_000).len()).collect();
        assert!(alone.iter().all(|size| all.len() < *size), "{} instead of {alone:?}", all.len());

        let reader = ParquetRecordBatchReaderBuilder::try_new(all).unwrap();
        let rows: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(rows, [ROW_GROUP_ROWS as i64, ROW_GROUP_ROWS as i64, 2]);
        let read = reader.build().unwrap().flat_map(|batch| batch.unwrap().column(0).as_primitive::<Float64Type>().values().to_vec());
        assert!(read.map(f64::to_bits).eq(values.iter().map(|value| value.to_bits())));
    }
}
