//! How many decimals of a row group are split: as many as make it smallest.

use std::io::Write;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use parquet::errors::ParquetError;

use super::super::decimal::Decimals;
use super::super::field_array::FieldArray;
use super::{Encoded, RowGroups, SAMPLE_ERROR, Sampled, Trial, size};

/// The columns of the decimal layout for a row group; each is taken once.
pub(super) struct Columns {
    first: usize,
    columns: [Option<Split>; 3],
}

pub(super) enum Split {
    Encoded(Box<Encoded>),
    Arrays(Vec<ArrayRef>),
}

impl Columns {
    pub fn take(&mut self, at: usize) -> Option<Split> {
        self.columns.get_mut(at.checked_sub(self.first)?)?.take()
    }
}

impl Split {
    pub fn arrays(&self) -> &[ArrayRef] {
        match self {
            Split::Encoded(encoded) => &encoded.of.arrays,
            Split::Arrays(arrays) => arrays,
        }
    }
}

impl<W: Write + Send> RowGroups<W> {
    /// The columns of the decimal layout, which begin at `first`, with as many decimals split as
    /// makes them smallest.
    pub(super) fn decimals(
        &self,
        first: usize,
        batches: &[Vec<FieldArray>],
    ) -> Result<Columns, ParquetError> {
        let internal = |message: String| {
            ParquetError::General(format!("values could not be split: {message}"))
        };
        let (Some([value, mantissa]), Some([value_ways, mantissa_ways])) = (
            self.schema
                .fields()
                .get(first..first + 2)
                .and_then(|f| <&[FieldRef; 2]>::try_from(f).ok()),
            self.ways
                .get(first..first + 2)
                .and_then(|w| <&[Vec<Trial>; 2]>::try_from(w).ok()),
        ) else {
            return Err(internal("the columns are missing".to_owned()));
        };
        let mut candidates = Vec::with_capacity(3);
        for decimals in candidate_splits(first, batches).map_err(internal)? {
            let mut columns: [Vec<ArrayRef>; 3] = Default::default();
            for column in decimals.into_iter().map(Decimals::columns) {
                columns
                    .iter_mut()
                    .zip(column)
                    .for_each(|(arrays, array)| arrays.push(array));
            }
            let [rest, mantissas, scales] = columns;
            candidates.push((
                Sampled::new(value_ways, value, rest)?,
                Sampled::new(mantissa_ways, mantissa, mantissas)?,
                scales,
            ));
        }
        let size_of_sample =
            |(rest, mantissas, _): &(Sampled, Sampled, _)| Some(rest.size()? + mantissas.size()?);
        let bound = candidates
            .iter()
            .filter_map(size_of_sample)
            .min()
            .map_or(usize::MAX, |min| min * (100 + SAMPLE_ERROR) / 100);
        let mut best: Option<(Encoded, Encoded, Vec<ArrayRef>)> = None;
        for candidate in candidates {
            if size_of_sample(&candidate).is_some_and(|size| size > bound) {
                continue;
            }
            let (rest, mantissas, scales) = candidate;
            let (rest, mantissas) = (
                rest.encode(value_ways, value)?,
                mantissas.encode(mantissa_ways, mantissa)?,
            );
            let total = |a: &Encoded, b: &Encoded| size(&a.chunk) + size(&b.chunk);
            if best
                .as_ref()
                .is_none_or(|(a, b, _)| total(&rest, &mantissas) < total(a, b))
            {
                best = Some((rest, mantissas, scales));
            }
        }
        let (rest, mantissas, scales) =
            best.ok_or_else(|| internal("nothing was tried".to_owned()))?;
        let encoded = |of: Encoded| Some(Split::Encoded(Box::new(of)));
        Ok(Columns {
            first,
            columns: [
                encoded(rest),
                encoded(mantissas),
                Some(Split::Arrays(scales)),
            ],
        })
    }
}

/// The values of a row group with all decimals split, with those that have digits after the point
/// split, and with none; each only if it differs from the others.
fn candidate_splits(
    first: usize,
    batches: &[Vec<FieldArray>],
) -> Result<Vec<Vec<Decimals>>, String> {
    let split = |batch: &Vec<FieldArray>| match batch.get(first..first + 3)? {
        [rest, mantissa, scale] => {
            Decimals::of(&rest.to_array(), &mantissa.to_array(), &scale.to_array())
        }
        _ => None,
    };
    let all = batches
        .iter()
        .map(split)
        .collect::<Option<Vec<_>>>()
        .ok_or("the columns are of other types")?;
    let each = |how: fn(Decimals) -> Result<Decimals, String>| {
        all.iter().cloned().map(how).collect::<Result<Vec<_>, _>>()
    };
    let (fractions, whole) = (
        all.iter().any(Decimals::has_fractions),
        all.iter().any(Decimals::has_whole),
    );
    let mut candidates = vec![each(Decimals::with_all_as_floats)?];
    if fractions && whole {
        candidates.push(each(Decimals::with_whole_as_floats)?);
    }
    if fractions || whole {
        candidates.push(all);
    }
    Ok(candidates)
}
