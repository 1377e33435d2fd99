//! A `SELECT` whose names are resolved: what the engine carries out.

use std::sync::Arc;

use tidelake_catalog::model::TableSchema;

use super::ast::Fill;
use super::eval::Node;
use super::value::DataType;
use super::window::Windows;

/// A measurement of a database.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Its name.
    pub name: Arc<str>,
    /// The database in which its table is.
    pub database: Arc<str>,
    /// The table.
    pub table: Arc<str>,
    /// Its columns.
    pub schema: Arc<TableSchema>,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub enum PlanSource {
    /// A measurement.
    Measure(Measure),
    /// Another query.
    Subquery(Box<Plan>),
}

/// A tag, a field or a column of a subquery.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The type of its values; `None` if no source has it.
    pub kind: Option<DataType>,
    /// Whether the answer has it, and not only the condition.
    pub is_selected: bool,
}

/// What is made of the points of a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    /// How many there are.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The oldest.
    First,
    /// The newest.
    Last,
    /// The greatest less the least.
    Spread,
    /// The standard deviation of a sample.
    Stddev,
    /// The one in the middle.
    Median,
    /// The most frequent.
    Mode,
    /// The one that so many percent are not above.
    Percentile(f64),
    /// Each that is different.
    Distinct,
    /// How many are different.
    CountDistinct,
    /// The area below, per so many ns.
    Integral(i64),
    /// So many of them, by chance.
    Sample(usize),
    /// The greatest, of each set of values of slots one.
    Top(usize, Vec<usize>),
    /// The least, of each set of values of slots one.
    Bottom(usize, Vec<usize>),
}

impl Function {
    /// Whether what is made of parts of the points can be put together.
    pub fn is_mergeable(&self) -> bool {
        matches!(
            self,
            Self::Count
                | Self::Sum
                | Self::Mean
                | Self::Min
                | Self::Max
                | Self::First
                | Self::Last
                | Self::Spread
                | Self::Stddev
        )
    }

    /// Whether it picks points.
    pub fn is_selector(&self) -> bool {
        matches!(
            self,
            Self::Min
                | Self::Max
                | Self::First
                | Self::Last
                | Self::Percentile(_)
                | Self::Sample(_)
                | Self::Top(..)
                | Self::Bottom(..)
        )
    }

    /// Whether its results stand at their windows, and windows without any are filled.
    pub fn is_filled(&self) -> bool {
        !matches!(
            self,
            Self::Distinct | Self::Integral(_) | Self::Sample(_) | Self::Top(..) | Self::Bottom(..)
        )
    }
}

/// What is made of points one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transform {
    /// The change per so many ns.
    Derivative(i64),
    /// The change per so many ns, where it is none below 0.
    NonNegativeDerivative(i64),
    /// The change.
    Difference,
    /// The change, where it is none below 0.
    NonNegativeDifference,
    /// The time since the point before, in so many ns.
    Elapsed(i64),
    /// The sum so far.
    CumulativeSum,
    /// The mean of so many.
    MovingAverage(usize),
    /// So many points of a forecast by Holt and Winters, with a season of so many points, and
    /// whether the fitted points are shown.
    HoltWinters(usize, usize, bool),
}

impl Transform {
    /// Windows before the first one that it looks at.
    pub fn extra_windows(self) -> i64 {
        match self {
            Self::Derivative(_)
            | Self::NonNegativeDerivative(_)
            | Self::Difference
            | Self::NonNegativeDifference
            | Self::MovingAverage(_)
            | Self::Elapsed(_) => 1,
            Self::CumulativeSum | Self::HoltWinters(..) => 0,
        }
    }
}

/// A function of the points of a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Of the points of this slot...
    pub slot: usize,
    /// ...this is made first...
    pub function: Option<Function>,
    /// ...and this of what comes out.
    pub transform: Option<Transform>,
    /// The type of its results; `None` if no source has the slot.
    pub kind: Option<DataType>,
}

/// A column of the answer.
#[derive(Debug, Clone)]
pub struct PlanField {
    /// The name of the column.
    pub column: String,
    /// What another query calls it.
    pub name: String,
    /// Its value over the slots, then the calls.
    pub node: Node,
    /// The type of its values.
    pub kind: Option<DataType>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where rows come from.
    pub sources: Vec<PlanSource>,
    /// First and last time, in ns.
    pub range: (i64, i64),
    /// `GROUP BY time()`, of this query or of the one around.
    pub windows: Option<Windows>,
    /// The zone in which times are shown.
    pub zone: Option<chrono_tz::Tz>,
    /// Whether the oldest rows come first.
    pub ascending: bool,
    /// What stands in windows without points.
    pub fill: Fill,
    /// Most rows of a series; 0 is all.
    pub limit: usize,
    /// Rows of a series that are passed over.
    pub offset: usize,
    /// Most series; 0 is all.
    pub series_limit: usize,
    /// Series that are passed over.
    pub series_offset: usize,
    /// The tags that rows are grouped by, sorted.
    pub dimensions: Vec<String>,
    /// What is read of each row.
    pub slots: Vec<Slot>,
    /// What rows must pass, over the slots.
    pub condition: Option<Node>,
    /// Functions of points.
    pub calls: Vec<Call>,
    /// The columns of the answer, after the time.
    pub fields: Vec<PlanField>,
    /// The name of the column of the time.
    pub time_column: String,
    /// What decides which points `sample()` takes.
    pub seed: u64,
    /// Whether all rows are read, also where the ends of series might do.
    pub reads_all: bool,
}

impl Plan {
    /// The slots that are columns of the answer.
    pub fn selected(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|at| self.slots[*at].is_selected)
    }

    /// Whether rows are answered as they are.
    pub fn is_raw(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether the only call picks points, so that other columns are those of the points.
    pub fn is_selector(&self) -> bool {
        match self.calls.as_slice() {
            [call] => {
                call.transform.is_none()
                    && call.function.as_ref().is_some_and(Function::is_selector)
            }
            _ => false,
        }
    }

    /// Whether all that is asked for of each series is its newest or its oldest point.
    pub fn end_of_series(&self) -> Option<&Function> {
        let mut calls = self.calls.iter();
        let function = calls.next()?.function.as_ref()?;
        let is_same =
            |call: &Call| call.function.as_ref() == Some(function) && call.transform.is_none();
        let is_end = matches!(function, Function::First | Function::Last);
        let is_only = self.windows.is_none() && self.calls.iter().all(is_same);
        (is_end && is_only && !self.reads_all).then_some(function)
    }

    /// Windows before the first one that any call looks at.
    pub fn extra_windows(&self) -> i64 {
        if self.windows.is_none() {
            return 0;
        }
        let extra = |call: &Call| call.transform.map_or(0, Transform::extra_windows);
        self.calls.iter().map(extra).max().unwrap_or(0)
    }
}
