//! What a query cost: time of its phases, samples that it read, held and looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::histogram::weight;
use super::grid::Grid;
use super::row::Row;

/// The cost of one query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Time to plan it.
    pub preparation: Duration,
    /// Time to read samples and to compute.
    pub evaluation: Duration,
    /// Time to put the answer into its order.
    pub sorting: Duration,
    /// Samples that came from the source, each once for each selector that wanted it.
    pub samples_read: u64,
    /// Most samples held at a time.
    pub peak_samples: u64,
    /// Samples that each step looked at: one per series of an instant selector, all of the window
    /// of a range selector, and so a sample may count at many steps. A histogram counts as
    /// several, by its size. Empty unless asked for (see [`super::EngineOptions::count_samples`]).
    pub samples_per_step: Vec<u64>,
}

/// Counts the samples that the steps of a query look at.
#[derive(Debug)]
pub(crate) struct StepCounts {
    grid: Grid,
    steps: Vec<AtomicU64>,
}

impl StepCounts {
    /// Counts for the steps of a whole query.
    pub fn new(grid: Grid) -> Arc<Self> {
        Arc::new(Self {
            grid,
            steps: (0..grid.count).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The counts of all steps.
    pub fn all(&self) -> Vec<u64> {
        self.steps
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect()
    }
}

/// Counts for one node, which may be evaluated at other steps than the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter {
    counts: Option<Arc<StepCounts>>,
    /// The node is evaluated once for all steps.
    is_invariant: bool,
}

impl Counter {
    /// Counts at the steps of a node; what a subquery does at steps of its own is not counted, but
    /// its result is.
    pub fn new(counts: Option<&Arc<StepCounts>>, grid: Grid) -> Self {
        match counts {
            Some(counts) if counts.grid == grid => Self {
                counts: Some(Arc::clone(counts)),
                is_invariant: false,
            },
            Some(counts) if counts.grid.first() == grid => Self {
                counts: Some(Arc::clone(counts)),
                is_invariant: true,
            },
            _ => Self::default(),
        }
    }

    /// Counts samples at a step.
    #[inline]
    pub fn add(&self, step: usize, samples: u64) {
        let Some(counts) = &self.counts else { return };
        let steps = if self.is_invariant {
            &counts.steps[..]
        } else {
            counts.steps.get(step..=step).unwrap_or_default()
        };
        for count in steps {
            count.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Counts the value of a row at each step that has one.
    pub fn add_row(&self, row: &Row) {
        if self.counts.is_some() {
            let value = |step: &usize| {
                row.histogram(*step)
                    .map_or(1, |histogram| weight(histogram))
            };
            (0..row.values.len())
                .filter(|step| row.has(*step))
                .for_each(|step| self.add(step, value(&step)));
        }
    }

    /// Whether anything is counted.
    pub fn is_counting(&self) -> bool {
        self.counts.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_steps_of_the_query_count() {
        let grid = Grid {
            start: 0,
            step: 10,
            count: 3,
        };
        let counts = StepCounts::new(grid);
        Counter::new(Some(&counts), grid).add(1, 5);
        Counter::new(Some(&counts), grid).add(7, 5);
        Counter::new(Some(&counts), grid.first()).add(0, 2);
        Counter::new(Some(&counts), Grid { start: 10, ..grid }).add(0, 100);
        Counter::new(None, grid).add(0, 100);
        assert_eq!(counts.all(), [2, 7, 2]);
    }
}
