//! The share of observations between two values.

use tidelake_catalog::model::Histogram;

use super::bounds::is_custom;
use super::buckets::{Bucket, ascending, one_sided};

/// `histogram_fraction`, and whether NaN observations were left out of it.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let custom = is_custom(histogram);
    let (mut low, mut high) = (Rank::of(lower), Rank::of(upper));
    let (mut below, mut count) = (0.0, 0.0);
    let mut buckets = ascending(histogram);
    for mut bucket in &mut buckets {
        count += bucket.count;
        let holds_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if holds_zero {
            bucket = one_sided(histogram, bucket);
        }
        low.look(bucket, below, custom || holds_zero);
        high.look(bucket, below, custom || holds_zero);
        if low.rank.is_some() && high.rank.is_some() {
            break;
        }
        below += bucket.count;
    }
    let mut has_nan = false;
    if histogram.sum.is_nan() {
        count += buckets.map(|bucket| bucket.count).sum::<f64>();
        has_nan = count < histogram.count;
    } else {
        count = histogram.count;
    }
    (
        (high.within(count) - low.within(count)) / histogram.count,
        has_nan,
    )
}

/// How many observations lie below a value, once it is known.
struct Rank {
    value: f64,
    rank: Option<f64>,
}

impl Rank {
    fn of(value: f64) -> Self {
        Self { value, rank: None }
    }

    /// Looks for the value in or before the next bucket, of which `below` observations lie below.
    fn look(&mut self, bucket: Bucket, below: f64, linear: bool) {
        if self.rank.is_some() {
            return;
        }
        if bucket.lower >= self.value {
            self.rank = Some(below);
        } else if bucket.upper > self.value {
            // Nothing is known about where in an unbounded bucket observations lie.
            let unbounded = linear && bucket.lower == f64::NEG_INFINITY;
            self.rank = Some(if unbounded {
                bucket.count
            } else {
                below + bucket.count * bucket.share_below(self.value, linear)
            });
        }
    }

    fn within(&self, count: f64) -> f64 {
        match self.rank {
            Some(rank) if rank <= count || count.is_nan() || rank.is_nan() => rank,
            _ => count,
        }
    }
}
