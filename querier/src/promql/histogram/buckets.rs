//! Walks over the buckets of a histogram.

use tidelake_catalog::model::{Histogram, Span};

use super::bounds::{coarser, upper};

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub count: f64,
}

impl Bucket {
    /// Which share of the bucket's width lies below a value inside its finite bounds: on a linear
    /// scale, or on the logarithmic one on which all exponential buckets are equally wide.
    pub fn share_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, value_log) = (
            self.lower.abs().log2(),
            self.upper.abs().log2(),
            value.abs().log2(),
        );
        if value > 0.0 {
            (value_log - lower) / (upper - lower)
        } else {
            1.0 - (value_log - upper) / (lower - upper)
        }
    }
}

/// Numbers and counts of the buckets on one side of zero, outwards; backwards from the outermost.
#[derive(Debug, Clone)]
pub(crate) struct Cells<'a> {
    counts: &'a [f64],
    ahead: &'a [Span],
    next: i64,
    left_in_span: u32,
    behind: &'a [Span],
    end: i64,
    gap_before_end: i64,
    left_in_last_span: u32,
}

impl<'a> Cells<'a> {
    pub fn new(spans: &'a [Span], counts: &'a [f64]) -> Self {
        let end = spans
            .iter()
            .map(|span| i64::from(span.offset) + i64::from(span.length))
            .sum();
        Self {
            counts,
            ahead: spans,
            next: 0,
            left_in_span: 0,
            behind: spans,
            end,
            gap_before_end: 0,
            left_in_last_span: 0,
        }
    }

    /// The buckets above zero.
    pub fn positive(histogram: &'a Histogram) -> Self {
        Self::new(&histogram.positive_spans, &histogram.positive_counts)
    }

    /// The buckets below zero.
    pub fn negative(histogram: &'a Histogram) -> Self {
        Self::new(&histogram.negative_spans, &histogram.negative_counts)
    }
}

impl Iterator for Cells<'_> {
    type Item = (i64, f64);

    fn next(&mut self) -> Option<(i64, f64)> {
        let (count, counts) = self.counts.split_first()?;
        while self.left_in_span == 0 {
            let (span, ahead) = self.ahead.split_first()?;
            self.next += i64::from(span.offset);
            self.left_in_span = span.length;
            self.ahead = ahead;
        }
        self.counts = counts;
        self.left_in_span -= 1;
        self.next += 1;
        Some((self.next - 1, *count))
    }
}

impl DoubleEndedIterator for Cells<'_> {
    fn next_back(&mut self) -> Option<(i64, f64)> {
        let (count, counts) = self.counts.split_last()?;
        while self.left_in_last_span == 0 {
            let (span, behind) = self.behind.split_last()?;
            self.end -= self.gap_before_end;
            self.gap_before_end = i64::from(span.offset);
            self.left_in_last_span = span.length;
            self.behind = behind;
        }
        self.counts = counts;
        self.left_in_last_span -= 1;
        self.end -= 1;
        Some((self.end, *count))
    }
}

/// The cells in a resolution that is lower by `shift` schemas.
pub(crate) fn reduced(cells: Cells<'_>, shift: u32) -> impl Iterator<Item = (i64, f64)> {
    let mut cells = cells
        .map(move |(index, count)| (coarser(index, shift), count))
        .peekable();
    std::iter::from_fn(move || {
        let (index, mut total) = cells.next()?;
        while let Some((_, count)) = cells.next_if(|(next, _)| *next == index) {
            total += count;
        }
        Some((index, total))
    })
}

/// The buckets above zero, upwards.
pub(crate) fn positive(histogram: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> {
    Cells::positive(histogram).map(|(index, count)| Bucket {
        lower: upper(histogram, index - 1),
        upper: upper(histogram, index),
        count,
    })
}

/// The buckets below zero, downwards.
pub(crate) fn negative(histogram: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> {
    Cells::negative(histogram).map(|(index, count)| Bucket {
        lower: -upper(histogram, index),
        upper: -upper(histogram, index - 1),
        count,
    })
}

/// The zero bucket.
pub(crate) fn zero(histogram: &Histogram) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        count: histogram.zero_count,
    }
}

/// All buckets from the lowest to the highest; the zero bucket cuts what reaches into it.
pub(crate) fn ascending(histogram: &Histogram) -> impl Iterator<Item = Bucket> {
    let cut = |bucket| outside_zero(bucket, histogram.zero_threshold);
    negative(histogram)
        .rev()
        .map(cut)
        .chain(populated_zero(histogram))
        .chain(positive(histogram).map(cut))
}

/// All buckets from the highest to the lowest, cut like those of [`ascending`].
pub(crate) fn descending(histogram: &Histogram) -> impl Iterator<Item = Bucket> {
    let cut = |bucket| outside_zero(bucket, histogram.zero_threshold);
    positive(histogram)
        .rev()
        .map(cut)
        .chain(populated_zero(histogram))
        .chain(negative(histogram).map(cut))
}

fn populated_zero(histogram: &Histogram) -> Option<Bucket> {
    (histogram.zero_count > 0.0).then(|| zero(histogram))
}

fn outside_zero(mut bucket: Bucket, threshold: f64) -> Bucket {
    if bucket.upper < 0.0 && bucket.upper > -threshold {
        bucket.upper = -threshold;
    } else if bucket.lower > 0.0 && bucket.lower < threshold {
        bucket.lower = threshold;
    }
    bucket
}

/// Bounds of a zero bucket, or of whatever holds zero: a histogram with buckets on one side only
/// has no values on the other.
pub(crate) fn one_sided(histogram: &Histogram, mut bucket: Bucket) -> Bucket {
    match (
        histogram.negative_counts.is_empty(),
        histogram.positive_counts.is_empty(),
    ) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
    bucket
}
