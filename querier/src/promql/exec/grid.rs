//! The times at which an expression is evaluated.

use super::QueryError;

/// Equidistant steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// First step in milliseconds.
    pub start: i64,
    /// Distance in milliseconds, at least 1.
    pub step: i64,
    /// Number of steps; 0 if the end lies before the start.
    pub count: usize,
}

impl Grid {
    /// Steps from `start` to at most `end`; more than `max_steps` are refused, because every row
    /// holds a value per step.
    pub fn new(start: i64, end: i64, step: i64, max_steps: u64) -> Result<Self, QueryError> {
        let step = step.max(1);
        if end < start {
            return Ok(Self {
                start,
                step,
                count: 0,
            });
        }
        let count = (i128::from(end) - i128::from(start)) / i128::from(step) + 1;
        match usize::try_from(count) {
            Ok(count) if count as u64 <= max_steps => Ok(Self { start, step, count }),
            _ => Err(QueryError::TooManySamples(max_steps)),
        }
    }

    /// Only the first step.
    pub fn first(self) -> Self {
        Self {
            count: self.count.min(1),
            ..self
        }
    }

    /// The time of a step.
    #[inline]
    pub fn time(&self, index: usize) -> i64 {
        self.start
            .saturating_add(self.step.saturating_mul(index as i64))
    }

    /// The time of the last step.
    pub fn end(&self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }

    /// The times of all steps.
    pub fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |index| self.time(index))
    }
}
