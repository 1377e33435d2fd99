//! Functions over instant vectors and scalars: which operator a call becomes.

use tidelake_catalog::model::Histogram;

/// What computes a function over instant vectors and scalars.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    /// Float to float.
    Map(fn(f64) -> f64),
    /// Seconds since 1970 to a part of the UTC date; of the time of evaluation without an argument.
    Date(fn(i128) -> f64),
    /// A number that a native histogram holds.
    HistogramField(fn(&Histogram) -> f64),
    /// One scalar of two.
    Fold(fn(f64, f64) -> f64),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    /// The time of the sample of a selector, and of evaluation where there is a value of anything
    /// else.
    Timestamp,
    /// When what the sample of a selector counts began: only samples say so.
    StartTimestamp,
    Scalar,
    Vector,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    Absent,
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    Info,
}
