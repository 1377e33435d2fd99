//! One float per step, counted against the query's memory while it lives.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::QueryError;
use super::grid::Grid;
use super::limits::{Charge, Limits};

/// The value of a scalar at each step.
#[derive(Debug)]
pub(crate) struct Scalar {
    values: Vec<f64>,
    charge: Charge,
}

impl Scalar {
    /// The same value at each step.
    pub fn constant(value: f64, steps: usize, limits: &Arc<Limits>) -> Result<Self, QueryError> {
        let charge = limits.charge(bytes(steps))?;
        Ok(Self {
            values: vec![value; steps],
            charge,
        })
    }

    /// A value of the time of each step, in milliseconds.
    pub fn new(
        grid: Grid,
        limits: &Arc<Limits>,
        value: impl Fn(i64) -> f64,
    ) -> Result<Self, QueryError> {
        let charge = limits.charge(bytes(grid.count))?;
        Ok(Self {
            values: grid.times().map(value).collect(),
            charge,
        })
    }

    /// The values and their charge.
    pub fn into_parts(self) -> (Vec<f64>, Charge) {
        (self.values, self.charge)
    }
}

fn bytes(steps: usize) -> usize {
    steps.saturating_mul(size_of::<f64>())
}

impl Deref for Scalar {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values
    }
}

impl DerefMut for Scalar {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}
