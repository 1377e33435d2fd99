//! PromQL's functions: one table, which parser, planner, plans and formatter read.
//!
//! An entry of `table` has a function's name and types, what computes it, and what it needs of its
//! input. To add a function is an entry and a kernel in a file below.

pub(crate) mod call;
pub(crate) mod extended;
pub(crate) mod histogram;
pub(crate) mod histogram_rate;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod over_time;
pub(crate) mod range;
pub(crate) mod rate;
pub(crate) mod regression;
mod signature;
pub(crate) mod sort;
mod table;
pub(crate) mod time;

use std::ops::Deref;

use tidelake_catalog::model::Histogram;

use self::call::Call;
use self::range::RangeFunction;
pub use self::signature::Signature;
pub use self::table::FUNCTIONS;
use super::parse::ast::ValueType;

/// What there is to know of a function.
#[derive(Debug)]
pub struct Function {
    /// What the parser needs of it.
    pub signature: Signature,
    /// What computes it.
    pub(crate) kernel: Kernel,
    /// Whether its value depends on the time of evaluation even if its arguments do not.
    pub(crate) is_timed: bool,
    /// What it looks at of native histograms.
    pub(crate) histograms: Histograms,
}

impl Deref for Function {
    type Target = Signature;

    fn deref(&self) -> &Signature {
        &self.signature
    }
}

/// What computes a function.
#[derive(Debug)]
pub(crate) enum Kernel {
    /// A number that is known when the query is planned.
    Constant(fn(&Steps) -> f64),
    /// The time of each step.
    Time,
    /// A value of the window of each step.
    Range(RangeFunction),
    /// An operator above the arguments.
    Call(Call),
}

/// The steps of a query, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub start: i64,
    pub end: i64,
    /// 0 if there is but one.
    pub step: i64,
}

/// What a function looks at of native histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Histograms {
    /// Whatever is asked of its result.
    AsAsked,
    /// Their counts and sums.
    Counts,
    /// Their buckets.
    Buckets,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

/// The function of a name; names are case-sensitive.
pub fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .binary_search_by(|function| function.name.cmp(name))
        .ok()
        .and_then(|at| FUNCTIONS.get(at))
}

/// A function of just these arguments.
const fn fixed(
    name: &'static str,
    args: &'static [ValueType],
    result: ValueType,
    kernel: Kernel,
) -> Function {
    Function {
        signature: Signature {
            name,
            args,
            variadic: 0,
            result,
            experimental: false,
        },
        kernel,
        is_timed: false,
        histograms: Histograms::AsAsked,
    }
}

/// Changes of entries: constants, which take nothing apart.
impl Function {
    /// The last argument may be repeated or left out.
    const fn repeating(mut self, times: i32) -> Self {
        self.signature.variadic = times;
        self
    }

    const fn experimental(mut self) -> Self {
        self.signature.experimental = true;
        self
    }

    const fn timed(mut self) -> Self {
        self.is_timed = true;
        self
    }

    const fn of(mut self, histograms: Histograms) -> Self {
        self.histograms = histograms;
        self
    }
}

/// A value of the window of each step.
const fn over(function: RangeFunction) -> Kernel {
    Kernel::Range(function)
}

/// A float of each float; histograms are left out.
const fn map(function: fn(f64) -> f64) -> Kernel {
    Kernel::Call(Call::Map(function))
}

/// A part of the UTC date of seconds since 1970.
const fn date(part: fn(i128) -> f64) -> Kernel {
    Kernel::Call(Call::Date(part))
}

/// A number that a native histogram holds.
const fn field(of: fn(&Histogram) -> f64) -> Kernel {
    Kernel::Call(Call::HistogramField(of))
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

impl Steps {
    fn distance(&self) -> f64 {
        match self.start == self.end {
            true => 0.0,
            false => seconds(self.step),
        }
    }
}
