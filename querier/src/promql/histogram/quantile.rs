//! Quantiles.

use tidelake_catalog::model::Histogram;

use super::bounds::is_custom;
use super::buckets::{Bucket, ascending, descending, one_sided};

/// What NaN observations, which are in no bucket, did to a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NanEffect {
    /// The quantile lies among them.
    Result,
    /// It is higher than it would be without them.
    Skew,
}

/// The quantile, interpolated within its bucket: on a logarithmic scale in exponential buckets, on
/// a linear one in custom buckets and the zero bucket.
pub(crate) fn quantile(q: f64, histogram: &Histogram) -> (f64, Option<NanEffect>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // Observations of NaN count as the highest, so only counting from below leaves them out. The
    // sum shows them.
    if histogram.sum.is_nan() || q < 0.5 {
        search(
            q * histogram.count,
            true,
            histogram,
            &mut ascending(histogram),
        )
    } else {
        search(
            (1.0 - q) * histogram.count,
            false,
            histogram,
            &mut descending(histogram),
        )
    }
}

/// Walks buckets until they hold `rank` observations.
fn search(
    mut rank: f64,
    upwards: bool,
    histogram: &Histogram,
    buckets: &mut dyn Iterator<Item = Bucket>,
) -> (f64, Option<NanEffect>) {
    let custom = is_custom(histogram);
    let has_nan = histogram.sum.is_nan();
    let mut bucket = Bucket::default();
    let mut count = 0.0;
    for next in &mut *buckets {
        bucket = next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if custom {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = one_sided(histogram, bucket);
    }
    count = if count > histogram.count {
        histogram.count
    } else {
        count
    };
    if count < rank {
        return if has_nan {
            (f64::NAN, Some(NanEffect::Result))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if upwards {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let mut effect = None;
    if has_nan {
        // Prometheus goes on with the bucket that it ends with here, and so it interpolates in the
        // highest one.
        for next in buckets {
            bucket = next;
            count += bucket.count;
        }
        effect = (count < histogram.count).then_some(NanEffect::Skew);
    }
    (interpolate(bucket, rank / bucket.count, custom), effect)
}

fn interpolate(bucket: Bucket, fraction: f64, custom: bool) -> f64 {
    if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}
