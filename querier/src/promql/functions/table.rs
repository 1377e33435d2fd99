//! The functions there are.

use std::f64::consts::PI;

use super::super::exec::number;
use super::super::histogram::variance::variance;
use super::super::parse::ast::ValueType::{
    InstantVector as V, RangeVector as M, Scalar as S, String as T,
};
use super::call::Call;
use super::range::{Extent, floats, windows};
use super::{
    Function, Histograms, Kernel, Steps, date, field, fixed, map, math, over, over_time, rate,
    regression, seconds, time,
};

/// All functions, sorted by name: those of Prometheus 3.14, experimental ones included.
pub static FUNCTIONS: &[Function] = &[
    fixed("abs", &[V], V, map(f64::abs)),
    fixed("absent", &[V], V, Kernel::Call(Call::Absent)),
    fixed(
        "absent_over_time",
        &[M],
        V,
        over(windows(over_time::present).of_absence()),
    ),
    fixed("acos", &[V], V, map(f64::acos)),
    fixed("acosh", &[V], V, map(math::area_cosine)),
    fixed("asin", &[V], V, map(f64::asin)),
    fixed("asinh", &[V], V, map(math::area_sine)),
    fixed("atan", &[V], V, map(f64::atan)),
    fixed("atanh", &[V], V, map(f64::atanh)),
    fixed(
        "avg_over_time",
        &[M],
        V,
        over(windows(over_time::mean).several(over_time::avgs)),
    ),
    fixed("ceil", &[V], V, map(f64::ceil)),
    fixed(
        "changes",
        &[M],
        V,
        over(
            windows(rate::changes)
                .with_changes()
                .reaching(Extent::Anchored),
        ),
    ),
    fixed("clamp", &[V, S, S], V, Kernel::Call(Call::Clamp)),
    fixed("clamp_max", &[V, S], V, Kernel::Call(Call::ClampMax)),
    fixed("clamp_min", &[V, S], V, Kernel::Call(Call::ClampMin)),
    fixed("cos", &[V], V, map(f64::cos)),
    fixed("cosh", &[V], V, map(f64::cosh)),
    fixed("count_over_time", &[M], V, over(windows(over_time::count))),
    fixed("day_of_month", &[V], V, date(time::day_of_month))
        .repeating(1)
        .timed(),
    fixed("day_of_week", &[V], V, date(time::day_of_week))
        .repeating(1)
        .timed(),
    fixed("day_of_year", &[V], V, date(time::day_of_year))
        .repeating(1)
        .timed(),
    fixed("days_in_month", &[V], V, date(time::days_of_month))
        .repeating(1)
        .timed(),
    fixed("deg", &[V], V, map(math::degrees)),
    fixed(
        "delta",
        &[M],
        V,
        over(windows(rate::delta).reaching(Extent::Smoothed)),
    ),
    fixed("deriv", &[M], V, over(windows(regression::deriv))),
    fixed(
        "double_exponential_smoothing",
        &[M, S, S],
        V,
        over(windows(regression::double_exponential)),
    )
    .experimental(),
    fixed("end", &[], S, Kernel::Constant(|steps| seconds(steps.end))).experimental(),
    fixed("exp", &[V], V, map(f64::exp)),
    fixed(
        "first_over_time",
        &[M],
        V,
        over(windows(over_time::first).keeping_name()),
    ),
    fixed("floor", &[V], V, map(f64::floor)),
    fixed("histogram_avg", &[V], V, field(|h| h.sum / h.count)).of(Histograms::Counts),
    fixed("histogram_count", &[V], V, field(|h| h.count)).of(Histograms::Counts),
    fixed(
        "histogram_fraction",
        &[S, S, V],
        V,
        Kernel::Call(Call::HistogramFraction),
    )
    .of(Histograms::Buckets),
    fixed(
        "histogram_quantile",
        &[S, V],
        V,
        Kernel::Call(Call::HistogramQuantile),
    )
    .of(Histograms::Buckets),
    fixed(
        "histogram_quantiles",
        &[V, T, S, S],
        V,
        Kernel::Call(Call::HistogramQuantiles),
    )
    .repeating(9)
    .experimental()
    .of(Histograms::Buckets),
    fixed("histogram_stddev", &[V], V, field(|h| variance(h).sqrt())),
    fixed("histogram_stdvar", &[V], V, field(variance)),
    fixed("histogram_sum", &[V], V, field(|h| h.sum)).of(Histograms::Counts),
    fixed("hour", &[V], V, date(time::hour))
        .repeating(1)
        .timed(),
    fixed("idelta", &[M], V, over(windows(rate::idelta))),
    fixed(
        "increase",
        &[M],
        V,
        over(
            windows(rate::increase)
                .of_counters()
                .reaching(Extent::Smoothed),
        ),
    ),
    fixed("info", &[V, V], V, Kernel::Call(Call::Info))
        .repeating(1)
        .experimental(),
    fixed("irate", &[M], V, over(windows(rate::irate))),
    fixed(
        "label_join",
        &[V, T, T, T],
        V,
        Kernel::Call(Call::LabelJoin),
    )
    .repeating(-1),
    fixed(
        "label_replace",
        &[V, T, T, T, T],
        V,
        Kernel::Call(Call::LabelReplace),
    ),
    fixed(
        "last_over_time",
        &[M],
        V,
        over(windows(over_time::last).keeping_name()),
    ),
    fixed("ln", &[V], V, map(f64::ln)),
    fixed("log10", &[V], V, map(f64::log10)),
    fixed("log2", &[V], V, map(f64::log2)),
    fixed(
        "mad_over_time",
        &[M],
        V,
        over(floats(over_time::median_deviation)),
    )
    .experimental(),
    fixed("max_of", &[S, S], S, Kernel::Call(Call::Fold(number::max))).experimental(),
    fixed("max_over_time", &[M], V, over(floats(over_time::max))),
    fixed("min_of", &[S, S], S, Kernel::Call(Call::Fold(number::min))).experimental(),
    fixed("min_over_time", &[M], V, over(floats(over_time::min))),
    fixed("minute", &[V], V, date(time::minute))
        .repeating(1)
        .timed(),
    fixed("month", &[V], V, date(time::month))
        .repeating(1)
        .timed(),
    fixed("pi", &[], S, Kernel::Constant(|_| PI)),
    fixed(
        "predict_linear",
        &[M, S],
        V,
        over(windows(regression::predict)),
    )
    .timed(),
    fixed(
        "present_over_time",
        &[M],
        V,
        over(windows(over_time::present)),
    ),
    fixed(
        "quantile_over_time",
        &[S, M],
        V,
        over(floats(over_time::quantiles)),
    ),
    fixed("rad", &[V], V, map(math::radians)),
    fixed(
        "range",
        &[],
        S,
        Kernel::Constant(|steps| seconds(steps.end.saturating_sub(steps.start))),
    )
    .experimental(),
    fixed(
        "rate",
        &[M],
        V,
        over(windows(rate::rate).of_counters().reaching(Extent::Smoothed)),
    ),
    fixed(
        "resets",
        &[M],
        V,
        over(
            windows(rate::resets)
                .with_resets()
                .reaching(Extent::Anchored),
        ),
    ),
    fixed("round", &[V, S], V, Kernel::Call(Call::Round)).repeating(1),
    fixed("scalar", &[V], S, Kernel::Call(Call::Scalar)),
    fixed("sgn", &[V], V, map(math::sign)),
    fixed("sin", &[V], V, map(f64::sin)),
    fixed("sinh", &[V], V, map(f64::sinh)),
    fixed(
        "sort",
        &[V],
        V,
        Kernel::Call(Call::Sort { descending: false }),
    ),
    fixed(
        "sort_by_label",
        &[V, T],
        V,
        Kernel::Call(Call::SortByLabel { descending: false }),
    )
    .repeating(-1)
    .experimental(),
    fixed(
        "sort_by_label_desc",
        &[V, T],
        V,
        Kernel::Call(Call::SortByLabel { descending: true }),
    )
    .repeating(-1)
    .experimental(),
    fixed(
        "sort_desc",
        &[V],
        V,
        Kernel::Call(Call::Sort { descending: true }),
    ),
    fixed("sqrt", &[V], V, map(f64::sqrt)),
    fixed(
        "start",
        &[],
        S,
        Kernel::Constant(|steps| seconds(steps.start)),
    )
    .experimental(),
    fixed(
        "start_timestamp",
        &[V],
        V,
        Kernel::Call(Call::StartTimestamp),
    )
    .experimental(),
    fixed(
        "stddev_over_time",
        &[M],
        V,
        over(floats(over_time::deviation)),
    ),
    fixed(
        "stdvar_over_time",
        &[M],
        V,
        over(floats(over_time::variances)),
    ),
    fixed("step", &[], S, Kernel::Constant(Steps::distance)).experimental(),
    fixed(
        "sum_over_time",
        &[M],
        V,
        over(windows(over_time::total).several(over_time::sums)),
    ),
    fixed("tan", &[V], V, map(f64::tan)),
    fixed("tanh", &[V], V, map(f64::tanh)),
    fixed("time", &[], S, Kernel::Time).timed(),
    fixed("timestamp", &[V], V, Kernel::Call(Call::Timestamp)).timed(),
    fixed(
        "ts_of_first_over_time",
        &[M],
        V,
        over(windows(over_time::time_of_first)),
    )
    .experimental(),
    fixed(
        "ts_of_last_over_time",
        &[M],
        V,
        over(windows(over_time::time_of_last)),
    )
    .experimental(),
    fixed(
        "ts_of_max_over_time",
        &[M],
        V,
        over(floats(over_time::time_of_max)),
    )
    .experimental(),
    fixed(
        "ts_of_min_over_time",
        &[M],
        V,
        over(floats(over_time::time_of_min)),
    )
    .experimental(),
    fixed("vector", &[S], V, Kernel::Call(Call::Vector)),
    fixed("year", &[V], V, date(time::year))
        .repeating(1)
        .timed(),
];
