//! Floats that are decimals, as mantissa and scale: the decimal layout of the metrics table's
//! files.
//!
//! A float such as 12345.67 uses all 52 bits of its fraction, and its neighbour in time differs in
//! most of them; 1234567 hundredths differ by a small number. A value is split only if `mantissa /
//! 10^scale` is the same float to the last bit, and only where both are floats without rounding:
//! the division is then the one that IEEE 754 rounds correctly, in any program that reads it.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int8Array, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Float64Type, Int8Type, Int64Type};
use serde::{Deserialize, Serialize};

/// The column of values that are not split.
pub const VALUE: &str = "value";
/// The column of mantissas.
pub const MANTISSA: &str = "mantissa";
/// The column of scales.
pub const SCALE: &str = "scale";

/// How merged files of the metrics table hold values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueLayout {
    /// As DOUBLE: any engine reads `value` as it is.
    #[default]
    Plain,
    /// As mantissa and scale where that takes fewer bytes: an engine must put them together.
    Decimal,
}

impl FromStr for ValueLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "plain" => Ok(Self::Plain),
            "decimal" => Ok(Self::Decimal),
            _ => Err(format!("{text:?} is neither \"plain\" nor \"decimal\"")),
        }
    }
}

/// The powers of ten that are floats without rounding.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Whole numbers below it are floats without rounding.
const MANTISSA_END: u64 = 1 << 53;

/// A run is split if so many of its values in a hundred are decimals of its scale; others would cut
/// it to pieces.
const MOSTLY: usize = 94;

/// Values of a run that may turn out not to be decimals before it is given up.
const PATIENCE: usize = 8;

/// The two columns.
pub(super) fn fields() -> [Field; 2] {
    [
        Field::new(MANTISSA, DataType::Int64, true),
        Field::new(SCALE, DataType::Int8, true),
    ]
}

/// Values in the decimal layout, row by row.
#[derive(Debug, Clone)]
pub(crate) struct Decimals {
    /// Null where a value is split or there is none.
    pub rest: Float64Array,
    /// Null where a value is not split.
    pub mantissa: Int64Array,
    /// Null where a value is not split.
    pub scale: Int8Array,
}

impl Decimals {
    /// Splits what can be split; each run of rows has one scale.
    pub fn split(values: &Float64Array, runs: impl IntoIterator<Item = Range<usize>>) -> Self {
        let mut mantissa = vec![0i64; values.len()];
        let mut scale = vec![0i8; values.len()];
        let mut is_split = vec![false; values.len()];
        for run in runs {
            let given = run.filter(|row| values.is_valid(*row));
            let Some(of_run) = scale_of(given.clone().map(|row| values.value(row))) else {
                continue;
            };
            for row in given {
                if let Some(found) = mantissa_of(values.value(row), of_run) {
                    (mantissa[row], scale[row], is_split[row]) = (found, of_run as i8, true);
                }
            }
        }
        Self::new(values, mantissa, scale, BooleanBuffer::from(is_split))
    }

    fn new(
        values: &Float64Array,
        mantissa: Vec<i64>,
        scale: Vec<i8>,
        is_split: BooleanBuffer,
    ) -> Self {
        let rest = match values.nulls() {
            Some(nulls) => nulls.inner() & &!&is_split,
            None => !&is_split,
        };
        Self {
            rest: Float64Array::new(values.values().clone(), Some(NullBuffer::new(rest))),
            mantissa: Int64Array::new(mantissa.into(), Some(NullBuffer::new(is_split.clone()))),
            scale: Int8Array::new(scale.into(), Some(NullBuffer::new(is_split))),
        }
    }

    /// The columns of a batch, if they are of the right types.
    pub fn of(rest: &ArrayRef, mantissa: &ArrayRef, scale: &ArrayRef) -> Option<Self> {
        Some(Self {
            rest: rest.as_primitive_opt::<Float64Type>()?.clone(),
            mantissa: mantissa.as_primitive_opt::<Int64Type>()?.clone(),
            scale: scale.as_primitive_opt::<Int8Type>()?.clone(),
        })
    }

    /// The columns, in their order.
    pub fn columns(self) -> [ArrayRef; 3] {
        [
            Arc::new(self.rest),
            Arc::new(self.mantissa),
            Arc::new(self.scale),
        ]
    }

    /// Whether the columns say of each row what its value is: mantissa and scale together and
    /// within their bounds, and no value beside them.
    pub fn check(&self) -> Result<(), String> {
        let is_split = validity(&self.mantissa);
        if is_split != validity(&self.scale) {
            return Err(
                "a row has a mantissa without a scale, or a scale without a mantissa".to_owned(),
            );
        }
        if (&validity(&self.rest) & &is_split).count_set_bits() > 0 {
            return Err("a row has both a value and a mantissa".to_owned());
        }
        // What is under a null may be anything: only where all together are not within bounds is
        // looked at each.
        let mantissas = self
            .mantissa
            .values()
            .iter()
            .fold(0, |max, mantissa| mantissa.unsigned_abs().max(max));
        let scales = self
            .scale
            .values()
            .iter()
            .fold(0, |all, scale| *scale as u8 | all);
        if mantissas < MANTISSA_END && usize::from(scales) < POWERS.len() {
            return Ok(());
        }
        let is_wrong = |mantissa: i64, scale: i8| {
            mantissa.unsigned_abs() >= MANTISSA_END || power(scale).is_none()
        };
        let mut splits = self
            .mantissa
            .iter()
            .zip(&self.scale)
            .filter_map(|(mantissa, scale)| Some((mantissa?, scale?)));
        match splits.find(|(mantissa, scale)| is_wrong(*mantissa, *scale)) {
            Some((mantissa, scale)) => Err(format!(
                "a row has the mantissa {mantissa} with the scale {scale}"
            )),
            None => Ok(()),
        }
    }

    /// One column of values again; an error says what cannot be.
    pub fn join(self) -> Result<Float64Array, String> {
        self.check()?;
        let splits = self.mantissa.len() - self.mantissa.null_count();
        if splits == 0 {
            return Ok(self.rest);
        }
        let (mantissa, scale) = (self.mantissa.values(), self.scale.values());
        let value = |row: usize| mantissa[row] as f64 / POWERS[scale[row].clamp(0, 22) as usize];
        if splits == mantissa.len() {
            return Ok(Float64Array::from_iter_values((0..splits).map(value)));
        }
        let is_split = validity(&self.mantissa);
        let mut values = self.rest.values().to_vec();
        for (from, to) in is_split.set_slices() {
            values[from..to]
                .iter_mut()
                .zip(from..)
                .for_each(|(slot, row)| *slot = value(row));
        }
        let nulls = NullBuffer::new(&validity(&self.rest) | &is_split);
        Ok(Float64Array::new(
            values.into(),
            Some(nulls).filter(|nulls| nulls.null_count() > 0),
        ))
    }

    /// The same with whole numbers as floats again.
    pub fn with_whole_as_floats(self) -> Result<Self, String> {
        let is_split = BooleanBuffer::collect_bool(self.scale.len(), |row| {
            self.scale.is_valid(row) && self.scale.value(row) > 0
        });
        let (mantissa, scale) = (
            self.mantissa.values().to_vec(),
            self.scale.values().to_vec(),
        );
        Ok(Self::new(&self.join()?, mantissa, scale, is_split))
    }

    /// The same with all values as floats again.
    pub fn with_all_as_floats(self) -> Result<Self, String> {
        let (mantissa, scale) = (vec![0; self.mantissa.len()], vec![0; self.scale.len()]);
        let is_split = BooleanBuffer::new_unset(mantissa.len());
        Ok(Self::new(&self.join()?, mantissa, scale, is_split))
    }

    /// Whether any split value has digits after the point.
    pub fn has_fractions(&self) -> bool {
        self.scale.iter().flatten().any(|scale| scale > 0)
    }

    /// Whether any split value is of a run of whole numbers.
    pub fn has_whole(&self) -> bool {
        self.scale.iter().flatten().any(|scale| scale == 0)
    }
}

fn validity(array: &dyn Array) -> BooleanBuffer {
    array.nulls().map_or_else(
        || BooleanBuffer::new_set(array.len()),
        |nulls| nulls.inner().clone(),
    )
}

fn power(scale: i8) -> Option<f64> {
    POWERS.get(usize::try_from(scale).ok()?).copied()
}

/// The mantissa of a value at a scale, if it gives back the value's bits.
fn mantissa_of(value: f64, scale: usize) -> Option<i64> {
    let power = POWERS[scale];
    let scaled = value * power;
    // False of NaN and infinities, too.
    let is_bounded = scaled.abs() < MANTISSA_END as f64;
    if !is_bounded {
        return None;
    }
    let cut = scaled as i64;
    // Rounds without a call; half a unit more or less does not matter, for the quotient is
    // compared.
    let mantissa = cut + ((scaled - cut as f64) * 2.0) as i64;
    (mantissa.unsigned_abs() < MANTISSA_END
        && (mantissa as f64 / power).to_bits() == value.to_bits())
    .then_some(mantissa)
}

/// The smallest scale at which nearly all of the values are decimals.
fn scale_of(values: impl Iterator<Item = f64>) -> Option<usize> {
    // With more digits a decimal stays one: the quotient is the same number, and so is what it is
    // rounded to.
    let mut needing = [0usize; POWERS.len()];
    let (mut total, mut misses) = (0, 0);
    for value in values {
        if !value.is_finite() {
            continue;
        }
        total += 1;
        match (0..POWERS.len()).find(|&scale| mantissa_of(value, scale).is_some()) {
            Some(scale) => needing[scale] += 1,
            None => {
                misses += 1;
                if misses > PATIENCE && (total - misses) * 100 < total * MOSTLY {
                    return None;
                }
            }
        }
    }
    let mut held = 0;
    (0..POWERS.len()).find(|&scale| {
        held += needing[scale];
        held > 0 && held * 100 >= total * MOSTLY
    })
}

#[cfg(test)]
mod tests;
