//! The variance of the observations, each taken for the middle of its bucket.

use tidelake_catalog::model::Histogram;

use super::super::exec::number::kahan_add;
use super::bounds::is_custom;
use super::buckets::{Bucket, ascending};

/// `histogram_stdvar`
pub(crate) fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let custom = is_custom(histogram);
    let (mut squares, mut lost) = (0.0, 0.0);
    for bucket in ascending(histogram).filter(|bucket| bucket.count != 0.0) {
        let distance = middle(bucket, custom) - mean;
        (squares, lost) = kahan_add(bucket.count * distance * distance, squares, lost);
    }
    (squares + lost) / histogram.count
}

/// The arithmetic mean of custom bounds, the geometric mean of exponential ones, and zero for the
/// zero bucket.
fn middle(bucket: Bucket, custom: bool) -> f64 {
    if custom {
        (bucket.upper + bucket.lower) / 2.0
    } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
        0.0
    } else {
        let middle = (bucket.upper * bucket.lower).sqrt();
        if bucket.upper < 0.0 { -middle } else { middle }
    }
}
