//! Columns of rows -> row groups of a Parquet file, each column in whichever encoding makes it
//! smallest.
//!
//! Which of the ways there are for a column ([`Way`]) suits the data is found out anew for each row
//! group: sorted by metric one holds mostly one sort of values. A sample rules out most of them; of
//! what is left the smallest result is kept. Any reader reads any of them.
//!
//! With the decimal layout ([`super::decimal`]) it is also found out for each row group whether it
//! is smaller with decimals split, with only those that are not whole numbers split, or without.

mod decimals;

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory,
    compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use self::decimals::Split;
use super::decimal::VALUE;
use super::encoding::{Effort, Way};
use super::field_array::FieldArray;

/// Rows of a row group: one range request then serves a point query, and a writer holds no more
/// than this.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// A sample is so many slices of so many rows: a few series from different places.
const SAMPLE_SLICES: usize = 4;
const SAMPLE_SLICE_ROWS: usize = 4096;

/// A way that makes the sample larger than the best by so much in a hundred is not tried on all
/// rows. Transposing gains this much from sample to page.
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
    pending: Vec<Vec<FieldArray>>,
    pending_rows: usize,
    pending_bytes: usize,
    /// Where the columns of values, mantissas and scales begin, if the file has the decimal
    /// layout.
    decimals: Option<usize>,
}

/// A way to encode one column.
struct Trial {
    usual: ArrowRowGroupWriterFactory,
    slow: Option<ArrowRowGroupWriterFactory>,
    beyond: Option<usize>,
}

impl<W: Write + Send> RowGroups<W> {
    /// A file with these properties; for columns that pass `is_tried` the best encoding is searched
    /// as far as the effort allows.
    pub fn new(
        to: W,
        schema: SchemaRef,
        properties: WriterProperties,
        effort: Effort,
        is_tried: impl Fn(&str) -> bool,
    ) -> Result<Self, ParquetError> {
        let (file, usual) = ArrowWriter::try_new(to, Arc::clone(&schema), Some(properties))?
            .into_serialized_writer()?;
        let ways = |field: &FieldRef| {
            let ways = if is_tried(field.name()) {
                Way::of(field.data_type(), effort)
            } else {
                &[]
            };
            ways.iter()
                .map(|way| Trial::new(way, field, effort))
                .collect()
        };
        let ways = schema.fields().iter().map(ways).collect::<Result<_, _>>()?;
        Ok(Self {
            file,
            schema,
            usual,
            ways,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            decimals: None,
        })
    }

    /// The same for a file with the decimal layout, which is given decimals split.
    pub fn with_decimals(mut self) -> Self {
        self.decimals = self.schema.index_of(VALUE).ok();
        self
    }

    /// Appends rows: a column for each of the schema.
    pub fn write(&mut self, columns: &[FieldArray], len: usize) -> Result<(), ParquetError> {
        let mut from = 0;
        while from < len {
            let rows = (len - from).min(ROW_GROUP_ROWS - self.pending_rows);
            let slice = columns.iter().map(|column| column.slice(from, rows));
            self.pending.push(slice.collect());
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
        let mut decimals = self
            .decimals
            .map(|first| self.decimals(first, &batches))
            .transpose()?;
        for (at, (field, ways)) in self.schema.fields().iter().zip(&self.ways).enumerate() {
            let split = decimals.as_mut().and_then(|decimals| decimals.take(at));
            let arrays: Vec<ArrayRef> = match &split {
                Some(split) => split.arrays().to_vec(),
                // Sparse columns become arrays here, one column at a time.
                None => batches.iter().map(|batch| batch[at].to_array()).collect(),
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
            chunks.push(usual.slower(ways, field));
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
            Ok::<_, ParquetError>(
                ArrowWriter::try_new(io::sink(), Arc::clone(&schema), Some(properties))?
                    .into_serialized_writer()?
                    .1,
            )
        };
        let is_time = matches!(field.data_type(), DataType::Timestamp(..));
        Ok(Self {
            usual: factory(way.properties(is_time))?,
            slow: way
                .slow_properties(effort, is_time)
                .map(factory)
                .transpose()?,
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
            for (trial, size_of_sample) in trials
                .iter()
                .zip(&mut sizes)
                .filter(|(trial, _)| trial.beyond.is_none())
            {
                *size_of_sample = Some(size(&encode_numbers(&trial.usual, field, &sample)?));
            }
        }
        Ok(Self {
            arrays,
            sample,
            sizes,
        })
    }

    /// Of the sample, in the best way.
    fn size(&self) -> Option<usize> {
        self.sizes.iter().flatten().min().copied()
    }

    fn encode(self, trials: &[Trial], field: &Field) -> Result<Encoded, ParquetError> {
        let rows: usize = self.arrays.iter().map(|array| array.len()).sum();
        let bound = self
            .size()
            .map_or(usize::MAX, |min| min * (100 + SAMPLE_ERROR) / 100);
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
        let (way, chunk) = best.ok_or_else(|| {
            ParquetError::General(format!("column {} has no encoding", field.name()))
        })?;
        Ok(Encoded {
            of: self,
            way,
            chunk,
        })
    }
}

impl Encoded {
    /// With a slow level of zstd, if that is smaller. It needs tens of megabytes in one piece;
    /// where these cannot be had, what is encoded already is kept.
    fn slower(self, trials: &[Trial], field: &Field) -> ArrowColumnChunk {
        match self.slow(trials, field) {
            Ok(Some(slow)) if size(&slow) < size(&self.chunk) => slow,
            Ok(_) => self.chunk,
            Err(error) => {
                tracing::debug!(column = field.name(), %error, "compressed less than it could be");
                self.chunk
            }
        }
    }

    fn slow(
        &self,
        trials: &[Trial],
        field: &Field,
    ) -> Result<Option<ArrowColumnChunk>, ParquetError> {
        let Self { of, way, chunk } = self;
        let Some(slow) = trials[*way].slow.as_ref().filter(|_| size(chunk) > SMALL) else {
            return Ok(None);
        };
        if let Some(usual) = of.sizes[*way]
            && size(&encode_numbers(slow, field, &of.sample)?) * 100 > usual * (100 - SLOW_GAIN)
        {
            return Ok(None);
        }
        encode_numbers(slow, field, &of.arrays).map(Some)
    }
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
fn leaves_of(
    field: &Field,
    arrays: &[ArrayRef],
) -> Result<Vec<Vec<ArrowLeafColumn>>, ParquetError> {
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

fn encode_numbers(
    way: &ArrowRowGroupWriterFactory,
    field: &Field,
    arrays: &[ArrayRef],
) -> Result<ArrowColumnChunk, ParquetError> {
    let writer = way.create_column_writers(0)?.into_iter().next();
    let writer = writer
        .ok_or_else(|| ParquetError::General(format!("column {} has no writer", field.name())))?;
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
mod tests;
