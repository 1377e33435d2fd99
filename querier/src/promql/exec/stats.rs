//! What a query cost: time of its phases, samples that it read, held and looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::histogram::weight;
use super::grid::{Grid, Place};
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
    steps: Vec<AtomicU64>,
}

impl StepCounts {
    /// Counts for so many steps of a whole query.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            steps: (0..count).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Adds what another process has counted.
    pub fn add(&self, more: &[u64]) {
        let both = self.steps.iter().zip(more);
        both.for_each(|(count, more)| {
            count.fetch_add(*more, Ordering::Relaxed);
        });
    }

    /// The counts of all steps.
    pub fn all(&self) -> Vec<u64> {
        self.steps
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect()
    }
}

/// Counts for one operator, which may be evaluated at other steps than the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter {
    /// What a subquery does at steps of its own is not counted, but its result is.
    counts: Option<(Arc<StepCounts>, Place)>,
}

impl Counter {
    /// Counts at the steps of an operator.
    pub fn new(counts: Option<&Arc<StepCounts>>, grid: Grid) -> Self {
        Self {
            counts: counts
                .filter(|_| grid.place != Place::Inner)
                .map(|counts| (Arc::clone(counts), grid.place)),
        }
    }

    /// Counts samples at a step.
    #[inline]
    pub fn add(&self, step: usize, samples: u64) {
        let Some((counts, place)) = &self.counts else {
            return;
        };
        let steps = match *place {
            Place::From(first) => first + step..first + step + 1,
            Place::Invariant(first, count) => first..first + count,
            Place::Inner => return,
        };
        for count in counts.steps.get(steps).unwrap_or_default() {
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
        let grid = Grid::new(0, 20, 10, 100).unwrap();
        let counts = StepCounts::new(grid.count);
        let counter = |grid| Counter::new(Some(&counts), grid);
        counter(grid).add(1, 5);
        counter(grid).add(7, 5);
        counter(grid.first()).add(0, 2);
        counter(grid.part(1..3)).add(1, 10);
        counter(grid.part(1..3).first()).add(0, 20);
        counter(grid.inner()).add(0, 100);
        counter(grid.inner().first()).add(0, 100);
        Counter::new(None, grid).add(0, 100);
        assert_eq!(counts.all(), [2, 27, 32]);
    }
}
