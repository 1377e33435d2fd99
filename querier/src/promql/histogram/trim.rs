//! `</` and `>/`: only the observations below, or above, a value.
//!
//! A bucket that the value cuts keeps a share of its observations. Sum and count are estimated anew
//! from what is left of the buckets, unless nothing was cut off.

use tidelake_catalog::model::Histogram;

use super::bounds::is_custom;
use super::buckets::{Bucket, negative, positive, zero};
use super::compact::compact;

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Below,
    Above,
}

/// The observations of a histogram on one side of `value`.
pub(crate) fn trim(histogram: &Histogram, keep: Keep, value: f64) -> Histogram {
    let cut = Cut {
        keep,
        value,
        custom: is_custom(histogram),
    };
    let mut left = Remainder::default();
    let above_zero: Vec<f64> = positive(histogram)
        .map(|bucket| left.take(bucket, |b| cut.bucket(b, true)))
        .collect();
    let below_zero: Vec<f64> = negative(histogram)
        .map(|bucket| left.take(bucket, |b| cut.bucket(b, false)))
        .collect();
    let has = |counts: &[f64]| counts.iter().any(|count| *count != 0.0);
    let sides = (
        has(&histogram.negative_counts),
        has(&histogram.positive_counts),
    );
    let mut zero_count = histogram.zero_count;
    if zero_count > 0.0 {
        zero_count = left.take(zero(histogram), |bucket| cut.zero(bucket, sides));
    }
    let mut trimmed = histogram.clone();
    if left.changed {
        // Walks stop where spans or counts end, whichever is first.
        trimmed.positive_counts = above_zero;
        trimmed.negative_counts = below_zero;
        trimmed.zero_count = zero_count;
        (trimmed.count, trimmed.sum) = (left.count, left.sum);
        compact(&mut trimmed);
    }
    trimmed
}

/// What is left, added up.
#[derive(Debug, Default)]
struct Remainder {
    count: f64,
    sum: f64,
    changed: bool,
}

impl Remainder {
    /// Counts what is left of a bucket: a number of observations around a value.
    fn take(&mut self, bucket: Bucket, cut: impl Fn(Bucket) -> (f64, f64)) -> f64 {
        if bucket.count == 0.0 {
            return 0.0;
        }
        let (count, middle) = cut(bucket);
        self.count += count;
        self.sum += middle * count;
        self.changed |= count != bucket.count;
        count
    }
}

struct Cut {
    keep: Keep,
    value: f64,
    custom: bool,
}

impl Cut {
    /// How many observations of a bucket stay, and around which value they lie.
    fn bucket(&self, bucket: Bucket, above_zero: bool) -> (f64, f64) {
        let Bucket {
            lower,
            upper,
            count,
        } = bucket;
        let (whole, partly) = match self.keep {
            Keep::Below => (upper <= self.value, lower < self.value),
            Keep::Above => (lower >= self.value, upper > self.value),
        };
        if whole {
            return (count, self.middle(lower, upper, above_zero));
        }
        if !partly {
            return (0.0, 0.0);
        }
        if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
            return self.unbounded(bucket);
        }
        let below = if self.value <= lower {
            0.0
        } else if self.value >= upper {
            count
        } else {
            count * bucket.share_below(self.value, self.custom)
        };
        match self.keep {
            Keep::Below => (below, self.middle(lower, self.value, above_zero)),
            Keep::Above => (count - below, self.middle(self.value, upper, above_zero)),
        }
    }

    /// A bucket that the value cuts and that has no end: where its observations lie is known only
    /// if they can be taken for positive.
    fn unbounded(
        &self,
        Bucket {
            lower,
            upper,
            count,
        }: Bucket,
    ) -> (f64, f64) {
        let value = self.value;
        if lower == f64::NEG_INFINITY {
            let bounded = upper > 0.0 && upper.is_finite();
            return match self.keep {
                Keep::Below if value >= upper => (count, 0.0),
                Keep::Below if value > 0.0 && bounded => (count * value / upper, value / 2.0),
                Keep::Below if upper <= 0.0 => (count, value),
                Keep::Above if value <= lower => (count, 0.0),
                Keep::Above if value >= 0.0 && upper > value && upper.is_finite() => {
                    (count * (1.0 - value / upper), (value + upper) / 2.0)
                }
                _ => (0.0, finite(upper)),
            };
        }
        match self.keep {
            Keep::Above if value >= lower => (count, value),
            _ => (0.0, finite(lower)),
        }
    }

    /// The zero bucket; `sides` tells whether there are observations below and above it.
    fn zero(&self, bucket: Bucket, sides: (bool, bool)) -> (f64, f64) {
        let Bucket {
            mut lower,
            mut upper,
            count,
        } = bucket;
        match sides {
            (true, false) => upper = 0.0,
            (false, true) => lower = 0.0,
            _ => {}
        }
        let value = self.value;
        let (none, all) = match self.keep {
            Keep::Below => (value <= lower, value >= upper),
            Keep::Above => (value >= upper, value <= lower),
        };
        match (self.keep, none, all) {
            // At an edge that is both, nothing lies below and everything above.
            (Keep::Below, true, _) | (Keep::Above, true, false) => (0.0, 0.0),
            (_, _, true) => (count, (lower + upper) / 2.0),
            (Keep::Below, ..) => (
                count * ((value - lower) / (upper - lower)),
                (lower + value) / 2.0,
            ),
            (Keep::Above, ..) => (
                count * ((upper - value) / (upper - lower)),
                (value + upper) / 2.0,
            ),
        }
    }

    /// The value that stands for all observations between two bounds.
    fn middle(&self, lower: f64, upper: f64, above_zero: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.custom => (lower + upper) / 2.0,
            (false, false) => {
                let middle = (lower * upper).abs().sqrt();
                if above_zero { middle } else { -middle }
            }
        }
    }
}

fn finite(bound: f64) -> f64 {
    if bound.is_infinite() { 0.0 } else { bound }
}
