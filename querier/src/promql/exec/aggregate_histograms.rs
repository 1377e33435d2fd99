//! `sum` and `avg` of histograms, beside the floats that `aggregate` adds up.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, ResetHint};

use super::super::histogram::compact::compact;
use super::super::histogram::compensated::{Mean, Total};
use super::super::histogram::{Incompatible, Merged, bytes as histogram_bytes};
use super::super::parse::ast::AggregateOp;
use super::QueryError;
use super::annotations::{Collector, Operation};
use super::engine::Engine;
use super::group::Groups;
use super::limits::Charge;
use super::plan::Aggregate;
use super::row::{ABSENT, Point, Row, Rows, is_absent};

/// A sum or a mean that is being made.
#[derive(Debug)]
pub(crate) enum Accumulator {
    Sum(Total),
    Mean(Mean),
}

impl Accumulator {
    pub fn new(is_mean: bool, first: &Histogram) -> Self {
        if is_mean {
            Self::Mean(Mean::new(first))
        } else {
            Self::Sum(Total::new(first))
        }
    }

    pub fn add(&mut self, histogram: &Histogram) -> Result<Merged, Incompatible> {
        match self {
            Self::Sum(total) => total.add(histogram, 1.0),
            Self::Mean(mean) => mean.add(histogram),
        }
    }

    /// Bytes of the lists of buckets.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Sum(total) => total.heap_bytes(),
            Self::Mean(mean) => mean.heap_bytes(),
        }
    }

    pub fn finish(self) -> Histogram {
        match self {
            Self::Sum(total) => total.finish(),
            Self::Mean(mean) => mean.finish(),
        }
    }
}

/// What histograms that are added up said about resets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SeenHints {
    reset: bool,
    no_reset: bool,
}

impl SeenHints {
    pub fn see(&mut self, hint: ResetHint) {
        self.reset |= hint == ResetHint::Yes;
        self.no_reset |= hint == ResetHint::No;
    }

    /// Whether they contradict each other.
    pub fn conflict(self) -> bool {
        self.reset && self.no_reset
    }
}

/// One group at one step.
#[derive(Debug, Default)]
struct State {
    has_float: bool,
    has_histogram: bool,
    /// Exponential and custom buckets met; nothing after that counts.
    broken: bool,
    hints: SeenHints,
    total: Option<Accumulator>,
}

/// Puts histograms into the rows of the groups, which hold the results of the floats. Groups that
/// have both at a step have no result there.
pub(crate) fn evaluate(
    engine: &Engine,
    node: &Aggregate,
    rows: &Rows,
    groups: &Groups,
    out: &mut [Row],
    charge: &mut Charge,
) -> Result<(), QueryError> {
    let is_mean = node.op == AggregateOp::Avg;
    let mut states: Vec<Option<Vec<State>>> = Vec::new();
    states.resize_with(groups.len(), || None);
    for (row, group) in rows
        .list
        .iter()
        .zip(&groups.of_row)
        .filter(|(row, _)| row.has_histograms())
    {
        if states[*group].is_none() {
            // The states, and the places of the results.
            let step_bytes = size_of::<State>() + size_of::<Option<Arc<Histogram>>>();
            charge.take(row.values.len().saturating_mul(step_bytes))?;
            let all = std::iter::repeat_with(State::default).take(row.values.len());
            states[*group] = Some(all.collect());
        }
    }
    let mut remarks = Collector::default();
    for (row, group) in rows.list.iter().zip(&groups.of_row) {
        engine.limits.check()?;
        let Some(states) = &mut states[*group] else {
            continue;
        };
        for (step, state) in states
            .iter_mut()
            .enumerate()
            .filter(|(_, state)| !state.broken)
        {
            match row.histogram(step) {
                Some(histogram) => {
                    let before = state.heap_bytes();
                    // What one adds at most, before it is known what both have.
                    charge.reserve(4 * histogram_bytes(histogram) + before)?;
                    state.add(histogram, is_mean, row, node, &mut remarks);
                    charge.take(state.heap_bytes().saturating_sub(before))?;
                }
                None => state.has_float |= !is_absent(row.values[step]),
            }
        }
    }
    for (row, states) in out.iter_mut().zip(states) {
        for (step, state) in states
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, state)| state.has_histogram)
        {
            row.values[step] = ABSENT;
            if state.has_float {
                remarks.mixed_aggregation(node.expr_span);
            } else if let (false, Some(total)) = (state.broken, state.total) {
                charge.reserve(total.heap_bytes())?;
                let mut histogram = total.finish();
                compact(&mut histogram);
                charge.take(histogram_bytes(&histogram))?;
                row.set(step, Point::Histogram(Arc::new(histogram)));
                if state.hints.conflict() {
                    remarks.conflicting_resets(Operation::Aggregation, node.expr_span);
                }
            }
        }
    }
    engine.annotate(|all| all.merge(remarks));
    Ok(())
}

impl State {
    fn heap_bytes(&self) -> usize {
        self.total.as_ref().map_or(0, Accumulator::heap_bytes)
    }

    fn add(
        &mut self,
        histogram: &Histogram,
        is_mean: bool,
        row: &Row,
        node: &Aggregate,
        remarks: &mut Collector,
    ) {
        self.has_histogram = true;
        let Some(total) = &mut self.total else {
            // After a float there will be no result, whatever follows.
            if !self.has_float {
                self.hints.see(histogram.reset_hint);
                self.total = Some(Accumulator::new(is_mean, histogram));
            }
            return;
        };
        self.hints.see(histogram.reset_hint);
        match total.add(histogram) {
            Ok(merged) if merged.reconciled => {
                remarks.reconciled_bounds(Operation::Aggregation, node.expr_span)
            }
            Ok(_) => {}
            Err(Incompatible) => {
                self.broken = true;
                remarks.mixed_exponential_custom(row.labels.metric_name(), node.expr_span);
            }
        }
    }
}
