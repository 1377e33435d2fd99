//! What histograms of a series say about counter resets when a query reads them.
//!
//! A sender's word is not taken: a sample that it knew to follow a reset may no longer follow the
//! sample that it was compared with. As in Prometheus, only "gauge" stays, and whoever needs to
//! know compares.
//!
//! Where only counts and sums matter (`histogram_count(rate(x[5m]))`), samples go without their
//! buckets, and resets, which are seen in buckets only, are noted in them before.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, ResetHint, is_stale};

use super::super::histogram::reset;
use super::super::source::SeriesSamples;

/// Forgets what the sender said about resets.
pub(crate) fn forget(samples: &mut SeriesSamples) {
    for (_, histogram) in &mut samples.histograms {
        if matches!(histogram.reset_hint, ResetHint::Yes | ResetHint::No) {
            Arc::make_mut(histogram).reset_hint = ResetHint::Unknown;
        }
    }
}

/// Leaves the buckets out and says of each histogram whether it follows a reset. That it does is
/// only said if the one before it is not older than `since`, the first that the query is about.
pub(crate) fn without_buckets(samples: &mut SeriesSamples, since: i64) {
    forget(samples);
    let mut previous: Option<(i64, Arc<Histogram>)> = None;
    for (position, histogram) in &mut samples.histograms {
        let time = samples
            .times
            .get(*position as usize)
            .copied()
            .unwrap_or(i64::MIN);
        let mut bare = Histogram {
            schema: histogram.schema,
            count: histogram.count,
            sum: histogram.sum,
            reset_hint: histogram.reset_hint,
            ..Histogram::default()
        };
        if !is_stale(histogram.sum) {
            if let (ResetHint::Unknown, Some((before, previous))) =
                (histogram.reset_hint, &previous)
            {
                bare.reset_hint = match reset::detect(histogram, previous) {
                    false => ResetHint::No,
                    true if *before >= since => ResetHint::Yes,
                    true => ResetHint::Unknown,
                };
            }
            previous = Some((time, Arc::clone(histogram)));
        }
        *histogram = Arc::new(bare);
    }
}
