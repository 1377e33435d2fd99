//! Signatures of PromQL's functions.

use super::ast::ValueType;
use super::ast::ValueType::{InstantVector as V, RangeVector as M, Scalar as S, String as T};

/// A function's name and types.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// As written in queries.
    pub name: &'static str,
    /// Types of the arguments.
    pub args: &'static [ValueType],
    /// How often the last argument may be given: 0: exactly once; n: up to n times, or not at all;
    /// -1: any number of times, or not at all.
    pub variadic: i32,
    /// Type of the result.
    pub result: ValueType,
    /// Whether Prometheus calls it experimental.
    pub experimental: bool,
}

impl Function {
    /// Fewest arguments of a call.
    pub fn min_args(&self) -> usize {
        self.args
            .len()
            .saturating_sub(usize::from(self.variadic != 0))
    }

    /// Most arguments of a call; `None`: any number.
    pub fn max_args(&self) -> Option<usize> {
        match self.variadic {
            0 => Some(self.args.len()),
            times => usize::try_from(times)
                .ok()
                .map(|times| self.min_args() + times),
        }
    }

    /// Type of an argument, counted from 0; beyond the last that of the last.
    pub fn arg_type(&self, at: usize) -> ValueType {
        self.args
            .get(at)
            .or(self.args.last())
            .copied()
            .unwrap_or(ValueType::Scalar)
    }
}

/// The function of a name; names are case-sensitive.
pub fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .binary_search_by(|function| function.name.cmp(name))
        .ok()
        .and_then(|at| FUNCTIONS.get(at))
}

/// With a fixed number of arguments.
const fn fixed(name: &'static str, args: &'static [ValueType], result: ValueType) -> Function {
    Function {
        name,
        args,
        variadic: 0,
        result,
        experimental: false,
    }
}

/// With a last argument that may be repeated or left out.
const fn variadic(
    name: &'static str,
    args: &'static [ValueType],
    variadic: i32,
    result: ValueType,
) -> Function {
    Function {
        name,
        args,
        variadic,
        result,
        experimental: false,
    }
}

const fn experimental(function: Function) -> Function {
    Function {
        experimental: true,
        ..function
    }
}

/// All functions, sorted by name: those of Prometheus 3.14, experimental ones included.
pub static FUNCTIONS: &[Function] = &[
    fixed("abs", &[V], V),
    fixed("absent", &[V], V),
    fixed("absent_over_time", &[M], V),
    fixed("acos", &[V], V),
    fixed("acosh", &[V], V),
    fixed("asin", &[V], V),
    fixed("asinh", &[V], V),
    fixed("atan", &[V], V),
    fixed("atanh", &[V], V),
    fixed("avg_over_time", &[M], V),
    fixed("ceil", &[V], V),
    fixed("changes", &[M], V),
    fixed("clamp", &[V, S, S], V),
    fixed("clamp_max", &[V, S], V),
    fixed("clamp_min", &[V, S], V),
    fixed("cos", &[V], V),
    fixed("cosh", &[V], V),
    fixed("count_over_time", &[M], V),
    variadic("day_of_month", &[V], 1, V),
    variadic("day_of_week", &[V], 1, V),
    variadic("day_of_year", &[V], 1, V),
    variadic("days_in_month", &[V], 1, V),
    fixed("deg", &[V], V),
    fixed("delta", &[M], V),
    fixed("deriv", &[M], V),
    experimental(fixed("double_exponential_smoothing", &[M, S, S], V)),
    experimental(fixed("end", &[], S)),
    fixed("exp", &[V], V),
    fixed("first_over_time", &[M], V),
    fixed("floor", &[V], V),
    fixed("histogram_avg", &[V], V),
    fixed("histogram_count", &[V], V),
    fixed("histogram_fraction", &[S, S, V], V),
    fixed("histogram_quantile", &[S, V], V),
    experimental(variadic("histogram_quantiles", &[V, T, S, S], 9, V)),
    fixed("histogram_stddev", &[V], V),
    fixed("histogram_stdvar", &[V], V),
    fixed("histogram_sum", &[V], V),
    variadic("hour", &[V], 1, V),
    fixed("idelta", &[M], V),
    fixed("increase", &[M], V),
    experimental(variadic("info", &[V, V], 1, V)),
    fixed("irate", &[M], V),
    variadic("label_join", &[V, T, T, T], -1, V),
    fixed("label_replace", &[V, T, T, T, T], V),
    fixed("last_over_time", &[M], V),
    fixed("ln", &[V], V),
    fixed("log10", &[V], V),
    fixed("log2", &[V], V),
    experimental(fixed("mad_over_time", &[M], V)),
    experimental(fixed("max_of", &[S, S], S)),
    fixed("max_over_time", &[M], V),
    experimental(fixed("min_of", &[S, S], S)),
    fixed("min_over_time", &[M], V),
    variadic("minute", &[V], 1, V),
    variadic("month", &[V], 1, V),
    fixed("pi", &[], S),
    fixed("predict_linear", &[M, S], V),
    fixed("present_over_time", &[M], V),
    fixed("quantile_over_time", &[S, M], V),
    fixed("rad", &[V], V),
    experimental(fixed("range", &[], S)),
    fixed("rate", &[M], V),
    fixed("resets", &[M], V),
    variadic("round", &[V, S], 1, V),
    fixed("scalar", &[V], S),
    fixed("sgn", &[V], V),
    fixed("sin", &[V], V),
    fixed("sinh", &[V], V),
    fixed("sort", &[V], V),
    experimental(variadic("sort_by_label", &[V, T], -1, V)),
    experimental(variadic("sort_by_label_desc", &[V, T], -1, V)),
    fixed("sort_desc", &[V], V),
    fixed("sqrt", &[V], V),
    experimental(fixed("start", &[], S)),
    experimental(fixed("start_timestamp", &[V], V)),
    fixed("stddev_over_time", &[M], V),
    fixed("stdvar_over_time", &[M], V),
    experimental(fixed("step", &[], S)),
    fixed("sum_over_time", &[M], V),
    fixed("tan", &[V], V),
    fixed("tanh", &[V], V),
    fixed("time", &[], S),
    fixed("timestamp", &[V], V),
    experimental(fixed("ts_of_first_over_time", &[M], V)),
    experimental(fixed("ts_of_last_over_time", &[M], V)),
    experimental(fixed("ts_of_max_over_time", &[M], V)),
    experimental(fixed("ts_of_min_over_time", &[M], V)),
    fixed("vector", &[S], V),
    variadic("year", &[V], 1, V),
];
