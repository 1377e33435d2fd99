//! Record batches -> row groups of a Parquet file, each column in whichever encoding makes it smallest.
//!
//! Which of the ways there are for a column ([`Way`]) suits the data is found out anew for each row group: sorted by metric one holds
//! mostly one sort of values. A sample rules out most of them; of what is left the smallest result is kept. Any reader reads
//! any of them.
//!
//! With the decimal layout ([`super::decimal`]) it is also found out for each row group whether it is smaller with decimals split,
//! with only those that are not whole numbers split, or without.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::decimal::{Decimals, VALUE};
use super::encoding::{Effort, Way};

/// Rows of a row group: one range request then serves a point query, and a writer holds no more than this.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// A sample is so many slices of so many rows: a few series from different places.
const SAMPLE_SLICES: usize = 4;
const SAMPLE_SLICE_ROWS: usize = 4096;

/// A way that makes the sample larger than the best by so much in a hundred is not tried on all rows. Transposing gains this much
/// from sample to page.
const SAMPLE_ERROR: usize = 25;

/// The slow levels of zstd must save so much in a hundred of a sample.
const SLOW_GAIN: usize = 3;

/// A column of a row group with fewer bytes is not worth a slow level, which needs a lot of memory.
const SMALL: usize = 1024;

/// Writes the row groups of one file.
pub(super) struct RowGroups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: SchemaRef,
    /// Encodes columns that there is but one way for.
    usual: ArrowRowGroupWriterFactory,
    /// For each column of the schema, what is worth trying; empty if nothing is.
    ways: Vec<Vec<Trial>>,
    /// Rows of the row group that is being collected.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
    /// Where the columns of values, mantissas and scales begin, if the file has the decimal layout.
    decimals: Option<usize>,
}

/// A way to encode one column.
struct Trial {
    usual: ArrowRowGroupWriterFactory,
    slow: Option<ArrowRowGroupWriterFactory>,
    beyond: Option<usize>,
}

impl<W: Write + Send> RowGroups<W> {
    /// A file with these properties; for columns that pass `is_tried` the best encoding is searched as far as the effort allows.
    pub fn new(
        to: W,
        schema: SchemaRef,
        properties: WriterProperties,
        effort: Effort,
        is_tried: impl Fn(&str) -> bool,
    ) -> Result<Self, ParquetError> {
        let (file, usual) = ArrowWriter::try_new(to, Arc::clone(&schema), Some(properties))?.into_serialized_writer()?;
        let ways = |field: &FieldRef| {
            let ways = if is_tried(field.name()) { Way::of(field.data_type(), effort) } else { &[] };
            ways.iter().map(|way| Trial::new(way, field, effort)).collect()
        };
        let ways = schema.fields().iter().map(ways).collect::<Result<_, _>>()?;
        Ok(Self { file, schema, usual, ways, pending: Vec::new(), pending_rows: 0, pending_bytes: 0, decimals: None })
    }

    /// The same for a file with the decimal layout, which is given decimals split.
    pub fn with_decimals(mut self) -> Self {
        self.decimals = self.schema.index_of(VALUE).ok();
        self
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
        let mut writers = self.usual.create_column_writers(number)?.into_iter();
        let mut chunks: Vec<ArrowColumnChunk> = Vec::new();
        let mut decimals = self.decimals.map(|first| self.decimals(first, &batches)).transpose()?;
        for (at, (field, ways)) in self.schema.fields().iter().zip(&self.ways).enumerate() {
            let split = decimals.as_mut().and_then(|decimals| decimals.take(at));
            let arrays: Vec<ArrayRef> = match &split {
                Some(split) => split.arrays().to_vec(),
                None => batches.iter().map(|batch| Arc::clone(batch.column(at))).collect(),
            };
            let leaves = leaves_of(field, &arrays)?;
            let mut writers = writers.by_ref().take(leaves.len());
            if ways.is_empty() {
                for (writer, leaf) in writers.zip(&leaves) {
                    chunks.push(encode(writer, leaf)?);
                }
                continue;
            }
            // Drawn in any case: writers come in the order of the columns.
            writers.by_ref().for_each(drop);
            let usual = match split {
                Some(Split::Encoded(usual)) => *usual,
                _ => Sampled::new(ways, field, arrays)?.encode(ways, field)?,
            };
            chunks.push(usual.slower(ways, field)?);
        }
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close().map(|_| ())
    }
}

impl Trial {
    fn new(way: &Way, field: &FieldRef, effort: Effort) -> Result<Self, ParquetError> {
        let schema = Arc::new(Schema::new(vec![Arc::clone(field)]));
        let factory = |properties: WriterProperties| {
            Ok::<_, ParquetError>(ArrowWriter::try_new(io::sink(), Arc::clone(&schema), Some(properties))?.into_serialized_writer()?.1)
        };
        let is_time = matches!(field.data_type(), DataType::Timestamp(..));
        Ok(Self {
            usual: factory(way.properties(is_time))?,
            slow: way.slow_properties(effort, is_time).map(factory).transpose()?,
            beyond: way.beyond,
        })
    }
}

/// A column of numbers of a row group, of which a sample was encoded in every way.
struct Sampled {
    arrays: Vec<ArrayRef>,
    sample: Vec<ArrayRef>,
    /// For each way how large the sample became, if it was tried.
    sizes: Vec<Option<usize>>,
}

/// The same in the usual way that made it smallest.
struct Encoded {
    of: Sampled,
    way: usize,
    chunk: ArrowColumnChunk,
}

impl Sampled {
    fn new(trials: &[Trial], field: &Field, arrays: Vec<ArrayRef>) -> Result<Self, ParquetError> {
        let sample = sample(&arrays, arrays.iter().map(|array| array.len()).sum());
        let mut sizes: Vec<Option<usize>> = vec![None; trials.len()];
        if trials.iter().filter(|trial| trial.beyond.is_none()).count() > 1 {
            for (trial, size_of_sample) in trials.iter().zip(&mut sizes).filter(|(trial, _)| trial.beyond.is_none()) {
                *size_of_sample = Some(size(&encode_numbers(&trial.usual, field, &sample)?));
            }
        }
        Ok(Self { arrays, sample, sizes })
    }

    /// Of the sample, in the best way.
    fn size(&self) -> Option<usize> {
        self.sizes.iter().flatten().min().copied()
    }

    fn encode(self, trials: &[Trial], field: &Field) -> Result<Encoded, ParquetError> {
        let rows: usize = self.arrays.iter().map(|array| array.len()).sum();
        let bound = self.size().map_or(usize::MAX, |min| min * (100 + SAMPLE_ERROR) / 100);
        let mut best: Option<(usize, ArrowColumnChunk)> = None;
        for (number, trial) in trials.iter().enumerate() {
            let so_far = best.as_ref().map(|(_, chunk)| size(chunk));
            let is_worth_it = match (trial.beyond, so_far) {
                (Some(beyond), Some(so_far)) => so_far * 100 > rows * beyond,
                _ => self.sizes[number].is_none_or(|size| size <= bound),
            };
            if !is_worth_it {
                continue;
            }
            let chunk = encode_numbers(&trial.usual, field, &self.arrays)?;
            if so_far.is_none_or(|so_far| size(&chunk) < so_far) {
                best = Some((number, chunk));
            }
        }
        let (way, chunk) = best.ok_or_else(|| ParquetError::General(format!("column {} has no encoding", field.name())))?;
        Ok(Encoded { of: self, way, chunk })
    }
}

impl Encoded {
    /// With a slow level of zstd, if that is smaller.
    fn slower(self, trials: &[Trial], field: &Field) -> Result<ArrowColumnChunk, ParquetError> {
        let Self { of, way, chunk } = self;
        let Some(slow) = trials[way].slow.as_ref().filter(|_| size(&chunk) > SMALL) else { return Ok(chunk) };
        if let Some(usual) = of.sizes[way]
            && size(&encode_numbers(slow, field, &of.sample)?) * 100 > usual * (100 - SLOW_GAIN)
        {
            return Ok(chunk);
        }
        let slow = encode_numbers(slow, field, &of.arrays)?;
        Ok(if size(&slow) < size(&chunk) { slow } else { chunk })
    }
}

/// The columns of the decimal layout for a row group; each is taken once.
struct Columns {
    first: usize,
    columns: [Option<Split>; 3],
}

enum Split {
    Encoded(Box<Encoded>),
    Arrays(Vec<ArrayRef>),
}

impl Columns {
    fn take(&mut self, at: usize) -> Option<Split> {
        self.columns.get_mut(at.checked_sub(self.first)?)?.take()
    }
}

impl Split {
    fn arrays(&self) -> &[ArrayRef] {
        match self {
            Split::Encoded(encoded) => &encoded.of.arrays,
            Split::Arrays(arrays) => arrays,
        }
    }
}

impl<W: Write + Send> RowGroups<W> {
    /// The columns of the decimal layout, which begin at `first`, with as many decimals split as makes them smallest.
    fn decimals(&self, first: usize, batches: &[RecordBatch]) -> Result<Columns, ParquetError> {
        let internal = |message: String| ParquetError::General(format!("values could not be split: {message}"));
        let (Some([value, mantissa]), Some([value_ways, mantissa_ways])) = (
            self.schema.fields().get(first..first + 2).and_then(|f| <&[FieldRef; 2]>::try_from(f).ok()),
            self.ways.get(first..first + 2).and_then(|w| <&[Vec<Trial>; 2]>::try_from(w).ok()),
        ) else {
            return Err(internal("the columns are missing".to_owned()));
        };
        let mut candidates = Vec::with_capacity(3);
        for decimals in candidate_splits(first, batches).map_err(internal)? {
            let mut columns: [Vec<ArrayRef>; 3] = Default::default();
            for column in decimals.into_iter().map(Decimals::columns) {
                columns.iter_mut().zip(column).for_each(|(arrays, array)| arrays.push(array));
            }
            let [rest, mantissas, scales] = columns;
            candidates.push((Sampled::new(value_ways, value, rest)?, Sampled::new(mantissa_ways, mantissa, mantissas)?, scales));
        }
        let size_of_sample = |(rest, mantissas, _): &(Sampled, Sampled, _)| Some(rest.size()? + mantissas.size()?);
        let bound = candidates.iter().filter_map(size_of_sample).min().map_or(usize::MAX, |min| min * (100 + SAMPLE_ERROR) / 100);
        let mut best: Option<(Encoded, Encoded, Vec<ArrayRef>)> = None;
        for candidate in candidates {
            if size_of_sample(&candidate).is_some_and(|size| size > bound) {
                continue;
            }
            let (rest, mantissas, scales) = candidate;
            let (rest, mantissas) = (rest.encode(value_ways, value)?, mantissas.encode(mantissa_ways, mantissa)?);
            let total = |a: &Encoded, b: &Encoded| size(&a.chunk) + size(&b.chunk);
            if best.as_ref().is_none_or(|(a, b, _)| total(&rest, &mantissas) < total(a, b)) {
                best = Some((rest, mantissas, scales));
            }
        }
        let (rest, mantissas, scales) = best.ok_or_else(|| internal("nothing was tried".to_owned()))?;
        let encoded = |of: Encoded| Some(Split::Encoded(Box::new(of)));
        Ok(Columns { first, columns: [encoded(rest), encoded(mantissas), Some(Split::Arrays(scales))] })
    }
}

/// The values of a row group with all decimals split, with those that have digits after the point split, and with none; each only
/// if it differs from the others.
fn candidate_splits(first: usize, batches: &[RecordBatch]) -> Result<Vec<Vec<Decimals>>, String> {
    let split = |batch: &RecordBatch| match batch.columns().get(first..first + 3)? {
        [rest, mantissa, scale] => Decimals::of(rest, mantissa, scale),
        _ => None,
    };
    let all = batches.iter().map(split).collect::<Option<Vec<_>>>().ok_or("the columns are of other types")?;
    let each = |how: fn(Decimals) -> Result<Decimals, String>| all.iter().cloned().map(how).collect::<Result<Vec<_>, _>>();
    let (fractions, whole) = (all.iter().any(Decimals::has_fractions), all.iter().any(Decimals::has_whole));
    let mut candidates = vec![each(Decimals::with_all_as_floats)?];
    if fractions && whole {
        candidates.push(each(Decimals::with_whole_as_floats)?);
    }
    if fractions || whole {
        candidates.push(all);
    }
    Ok(candidates)
}

fn size(chunk: &ArrowColumnChunk) -> usize {
    usize::try_from(chunk.close().bytes_written).unwrap_or(usize::MAX)
}

/// A few slices from all over; all rows if there are few.
fn sample(arrays: &[ArrayRef], rows: usize) -> Vec<ArrayRef> {
    if rows <= 2 * SAMPLE_SLICES * SAMPLE_SLICE_ROWS {
        return arrays.to_vec();
    }
    let mut slices = Vec::with_capacity(SAMPLE_SLICES);
    let mut start = 0;
    for array in arrays {
        let end = start + array.len();
        for number in 0..SAMPLE_SLICES {
            let wanted = (2 * number + 1) * rows / (2 * SAMPLE_SLICES);
            if (start..end).contains(&wanted) {
                slices.push(array.slice(wanted - start, SAMPLE_SLICE_ROWS.min(end - wanted)));
            }
        }
        start = end;
    }
    slices
}

/// The leaves of a column, each of all arrays.
fn leaves_of(field: &Field, arrays: &[ArrayRef]) -> Result<Vec<Vec<ArrowLeafColumn>>, ParquetError> {
    let mut leaves: Vec<Vec<ArrowLeafColumn>> = Vec::new();
    for array in arrays {
        for (number, leaf) in compute_leaves(field, array)?.into_iter().enumerate() {
            match leaves.get_mut(number) {
                Some(leaves) => leaves.push(leaf),
                None => leaves.push(vec![leaf]),
            }
        }
    }
    Ok(leaves)
}

fn encode_numbers(way: &ArrowRowGroupWriterFactory, field: &Field, arrays: &[ArrayRef]) -> Result<ArrowColumnChunk, ParquetError> {
    let writer = way.create_column_writers(0)?.into_iter().next();
    let writer = writer.ok_or_else(|| ParquetError::General(format!("column {} has no writer", field.name())))?;
    let leaves = leaves_of(field, arrays)?;
    encode(writer, leaves.iter().flatten())
}

fn encode<'a>(
    mut writer: ArrowColumnWriter,
    leaves: impl IntoIterator<Item = &'a ArrowLeafColumn>,
) -> Result<ArrowColumnChunk, ParquetError> {
    for leaf in leaves {
        writer.write(leaf)?;
    }
    writer.close()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Float64Array};
    use arrow::datatypes::{Field, Float64Type, Schema};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::Encoding;

    use super::super::encoding::file_properties;
    use super::*;

    fn written(values: &[f64], effort: Effort, batch_rows: usize) -> Bytes {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true)]));
        let mut bytes = Vec::new();
        let mut groups = RowGroups::new(&mut bytes, Arc::clone(&schema), file_properties(&[], effort, &[]), effort, |_| true).unwrap();
        for values in values.chunks(batch_rows) {
            let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
            groups.write(&RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()).unwrap();
        }
        groups.finish().unwrap();
        bytes.into()
    }

    #[test]
    fn each_row_group_has_its_smallest_encoding_and_all_values_come_back() {
        // A row group of few values in no order, one that climbs in whole numbers, one in hundredths of which each comes again soon.
        let chance = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let few = (0..ROW_GROUP_ROWS).map(|i| [0.1, 17.33, 1e9, -4.0][chance(i) as usize % 4]);
        let whole = (0..ROW_GROUP_ROWS).map(|i| (1_000_000_000 + i as u64 * 5_000 + chance(i) % 5_000) as f64);
        let hundredths = (0..ROW_GROUP_ROWS).map(|i| (1_000_000 + (i as u64 / 4 + chance(i) % 8) * 37) as f64 / 100.0);
        let values: Vec<f64> = few.chain(whole).chain(hundredths).chain([f64::NAN, 1.0]).collect();
        let sizes = [Effort::Fresh, Effort::Compacted, Effort::Settled].map(|effort| written(&values, effort, 30_000).len());
        assert!(sizes[1] < sizes[0] * 9 / 10 && sizes[2] <= sizes[1], "{sizes:?}");

        let reader = ParquetRecordBatchReaderBuilder::try_new(written(&values, Effort::Settled, 30_000)).unwrap();
        let groups = reader.metadata().row_groups();
        let full = ROW_GROUP_ROWS as i64;
        assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [full, full, full, 2]);
        let encodings = groups[..3].iter().map(|group| {
            let has = |encoding| group.column(0).encodings().any(|e| e == encoding);
            (has(Encoding::RLE_DICTIONARY), has(Encoding::BYTE_STREAM_SPLIT))
        });
        assert_eq!(encodings.collect::<Vec<_>>(), [(true, false), (false, true), (false, false)]);
        let read = reader.build().unwrap().flat_map(|batch| batch.unwrap().column(0).as_primitive::<Float64Type>().values().to_vec());
        assert!(read.map(f64::to_bits).eq(values.iter().map(|value| value.to_bits())));
    }
}
