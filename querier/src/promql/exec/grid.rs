//! The times at which an expression is evaluated.

use std::ops::Range;

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
    /// What they are of the steps of the query.
    pub place: Place,
    /// Whether the operator above can ask for some of these steps after the others.
    pub is_divisible: bool,
}

/// What steps are of the steps of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Those from this one on.
    From(usize),
    /// One that stands for so many from this one on.
    Invariant(usize, usize),
    /// Steps of a subquery.
    Inner,
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
                place: Place::From(0),
                is_divisible: false,
            });
        }
        let count = (i128::from(end) - i128::from(start)) / i128::from(step) + 1;
        match usize::try_from(count) {
            Ok(count) if count as u64 <= max_steps => Ok(Self {
                start,
                step,
                count,
                place: Place::From(0),
                is_divisible: false,
            }),
            _ => Err(QueryError::TooManySamples(max_steps)),
        }
    }

    /// Only the first step, for all.
    pub fn first(self) -> Self {
        let place = match self.place {
            Place::From(first) => Place::Invariant(first, self.count),
            place => place,
        };
        Self {
            count: self.count.min(1),
            place,
            is_divisible: false,
            ..self
        }
    }

    /// The same steps as those of a subquery.
    pub fn inner(self) -> Self {
        Self {
            place: Place::Inner,
            ..self
        }
    }

    /// Some of the steps, by their numbers.
    pub fn part(self, steps: Range<usize>) -> Self {
        let place = match self.place {
            Place::From(first) => Place::From(first + steps.start),
            place => place,
        };
        Self {
            start: self.time(steps.start),
            count: steps.len(),
            place,
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
