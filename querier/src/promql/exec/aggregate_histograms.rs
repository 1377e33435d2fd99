//! `sum` and `avg` of histograms, beside the floats that `fold` adds up.

use std::sync::Arc;

use tidelake_catalog::model::{Histogram, ResetHint};

use super::super::histogram::compact::compact;
use super::super::histogram::compensated::{Mean, Total};
use super::super::histogram::{Incompatible, Merged, bytes as histogram_bytes};
use super::super::parse::ast::AggregateOp;
use super::QueryError;
use super::aggregate::Aggregate;
use super::annotations::{Collector, Operation};
use super::limits::Charge;
use super::row::{ABSENT, Point, Row, is_absent};

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

/// The histograms of one group.
#[derive(Debug)]
pub(crate) struct HistogramFold {
    states: Vec<State>,
}

impl HistogramFold {
    /// Bytes of the states of so many steps, and of the places of the results.
    pub fn bytes_of(steps: usize) -> usize {
        steps.saturating_mul(size_of::<State>() + size_of::<Option<Arc<Histogram>>>())
    }

    /// Nothing yet, at so many steps.
    pub fn new(steps: usize) -> Self {
        Self {
            states: std::iter::repeat_with(State::default).take(steps).collect(),
        }
    }

    /// Notes that there is a float at a step.
    pub fn see_float(&mut self, step: usize) {
        let state = &mut self.states[step];
        state.has_float |= !state.broken;
    }

    /// Adds the histograms of a row, and notes its floats.
    pub fn add(
        &mut self,
        row: &Row,
        spec: &Aggregate,
        remarks: &mut Collector,
        charge: &mut Charge,
    ) -> Result<(), QueryError> {
        let states = self.states.iter_mut().enumerate();
        for (step, state) in states.filter(|(_, state)| !state.broken) {
            match row.histogram(step) {
                Some(histogram) => {
                    let before = state.heap_bytes();
                    // What one adds at most, before it is known what both have.
                    charge.reserve(4 * histogram_bytes(histogram) + before)?;
                    state.add(histogram, row, spec, remarks);
                    charge.take(state.heap_bytes().saturating_sub(before))?;
                }
                None => state.has_float |= !is_absent(row.values[step]),
            }
        }
        Ok(())
    }

    /// Puts the results into a row with those of the floats. A group that has both at a step has no
    /// result there.
    pub fn finish(
        self,
        row: &mut Row,
        spec: &Aggregate,
        remarks: &mut Collector,
        charge: &mut Charge,
    ) -> Result<(), QueryError> {
        let states = self.states.into_iter().enumerate();
        for (step, state) in states.filter(|(_, state)| state.has_histogram) {
            row.values[step] = ABSENT;
            if state.has_float {
                remarks.mixed_aggregation(spec.expr_span);
            } else if let (false, Some(total)) = (state.broken, state.total) {
                charge.reserve(total.heap_bytes())?;
                let mut histogram = total.finish();
                compact(&mut histogram);
                charge.take(histogram_bytes(&histogram))?;
                row.set(step, Point::Histogram(Arc::new(histogram)));
                if state.hints.conflict() {
                    remarks.conflicting_resets(Operation::Aggregation, spec.expr_span);
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn heap_bytes(&self) -> usize {
        self.total.as_ref().map_or(0, Accumulator::heap_bytes)
    }

    fn add(&mut self, histogram: &Histogram, row: &Row, spec: &Aggregate, remarks: &mut Collector) {
        self.has_histogram = true;
        let Some(total) = &mut self.total else {
            // After a float there will be no result, whatever follows.
            if !self.has_float {
                self.hints.see(histogram.reset_hint);
                self.total = Some(Accumulator::new(spec.op == AggregateOp::Avg, histogram));
            }
            return;
        };
        self.hints.see(histogram.reset_hint);
        match total.add(histogram) {
            Ok(merged) if merged.reconciled => {
                remarks.reconciled_bounds(Operation::Aggregation, spec.expr_span)
            }
            Ok(_) => {}
            Err(Incompatible) => {
                self.broken = true;
                remarks.mixed_exponential_custom(row.labels.metric_name(), spec.expr_span);
            }
        }
    }
}
