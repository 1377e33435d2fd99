//! What the number of a bucket means.
//!
//! Exponential bucket `i` reaches from the bound `i - 1`, excluded, to the bound `i`, included;
//! buckets below zero mirror that. Custom bucket `i` reaches to the bound `i`, the one after the
//! last bound to +Inf.

use tidelake_catalog::model::Histogram;
use tidelake_catalog::model::histogram::CUSTOM_BUCKETS_SCHEMA;
pub(crate) use tidelake_catalog::model::histogram::exponential_bound as exponential;

/// Whether the buckets of a histogram have bounds of their own instead of exponential ones.
pub(crate) fn is_custom(histogram: &Histogram) -> bool {
    histogram.schema == CUSTOM_BUCKETS_SCHEMA
}

/// The upper bound of a bucket above zero.
pub(crate) fn upper(histogram: &Histogram, index: i64) -> f64 {
    if !is_custom(histogram) {
        return exponential(histogram.schema, index);
    }
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => histogram
            .custom_values
            .get(index)
            .copied()
            .unwrap_or(f64::INFINITY),
    }
}

/// The number that a bucket has in a resolution that is lower by `shift` schemas.
pub(crate) fn coarser(index: i64, shift: u32) -> i64 {
    ((index - 1) >> shift.min(62)) + 1
}

/// How many schemas lie between a resolution and a lower one.
pub(crate) fn shift(from: i32, to: i32) -> u32 {
    u32::try_from(i64::from(from) - i64::from(to)).unwrap_or(0)
}
