//! Sums and means of histograms, compensated number by number (Kahan-Neumaier).

use tidelake_catalog::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use tidelake_catalog::model::{Histogram, ResetHint};

use super::bounds::{exponential, is_custom, shift};
use super::buckets::Cells;
use super::custom::{intersection, populated, regroup, same_bounds};
use super::layout::{Cell, Side};
use super::zero::{Zero, trim};
use super::{Incompatible, Merged};

/// A histogram to which others are added.
#[derive(Debug, Clone)]
pub(crate) struct Total {
    schema: i32,
    reset_hint: ResetHint,
    custom_values: Vec<f64>,
    zero: Zero,
    count: Cell,
    sum: Cell,
    positive: Side,
    negative: Side,
    /// Nothing was added yet: there is nothing lost to put back, which would make a plus of the
    /// sign of a negative zero.
    alone: bool,
}

impl Total {
    /// Begins with one histogram.
    pub fn new(first: &Histogram) -> Self {
        let exact = |count| Cell { count, lost: 0.0 };
        Self {
            schema: first.schema,
            reset_hint: first.reset_hint,
            custom_values: first.custom_values.clone(),
            zero: Zero {
                cell: exact(first.zero_count),
                threshold: first.zero_threshold,
            },
            count: exact(first.count),
            sum: exact(first.sum),
            positive: Side::new(first.positive_spans.clone(), first.positive_counts.clone()),
            negative: Side::new(first.negative_spans.clone(), first.negative_counts.clone()),
            alone: true,
        }
    }

    /// Bytes of its lists.
    pub fn heap_bytes(&self) -> usize {
        size_of::<f64>() * self.custom_values.capacity()
            + self.positive.heap_bytes()
            + self.negative.heap_bytes()
    }

    /// Adds a histogram, `sign` times.
    pub fn add(&mut self, other: &Histogram, sign: f64) -> Result<Merged, Incompatible> {
        let custom = is_custom(other);
        if custom != (self.schema == CUSTOM_BUCKETS_SCHEMA) {
            return Err(Incompatible);
        }
        self.alone = false;
        let conflict = self.merge_hint(other.reset_hint);
        if !custom {
            let theirs = self.reconcile_zero(other);
            self.zero.cell.add(Cell {
                count: sign * theirs.count,
                lost: sign * theirs.lost,
            });
        }
        self.count.add(Cell {
            count: sign * other.count,
            lost: 0.0,
        });
        self.sum.add(Cell {
            count: sign * other.sum,
            lost: 0.0,
        });
        if custom {
            return Ok(Merged {
                conflict,
                reconciled: self.add_custom(other, sign),
            });
        }
        if other.schema < self.schema {
            let coarser = shift(self.schema, other.schema);
            (self.positive, self.negative) = (
                self.positive.reduced(coarser),
                self.negative.reduced(coarser),
            );
            self.schema = other.schema;
        }
        let (schema, threshold) = (self.schema, self.zero.threshold);
        let in_zero = |index| threshold > 0.0 && exponential(schema, index) <= threshold;
        let shift = shift(other.schema, schema);
        self.positive.add(
            &other.positive_spans,
            &other.positive_counts,
            shift,
            sign,
            in_zero,
        );
        self.negative.add(
            &other.negative_spans,
            &other.negative_counts,
            shift,
            sign,
            in_zero,
        );
        Ok(Merged {
            conflict,
            reconciled: false,
        })
    }

    /// Adds custom buckets; tells whether bounds differed.
    fn add_custom(&mut self, other: &Histogram, sign: f64) -> bool {
        if same_bounds(&self.custom_values, &other.custom_values) {
            self.positive.add(
                &other.positive_spans,
                &other.positive_counts,
                0,
                sign,
                |_| false,
            );
            return false;
        }
        let common = intersection(&self.custom_values, &other.custom_values);
        let mut cells = vec![Cell::default(); common.len() + 1];
        regroup(
            self.positive.cells(),
            &self.custom_values,
            &common,
            &mut cells,
        );
        let theirs = Cells::positive(other).map(|(index, count)| {
            (
                index,
                Cell {
                    count: sign * count,
                    lost: 0.0,
                },
            )
        });
        regroup(theirs, &other.custom_values, &common, &mut cells);
        self.positive = populated(cells);
        self.custom_values = common;
        true
    }

    /// Widens the zero bucket until that of the other histogram fits it as well; returns the
    /// other's zero count.
    fn reconcile_zero(&mut self, other: &Histogram) -> Cell {
        let mut theirs = Zero {
            cell: Cell {
                count: other.zero_count,
                lost: 0.0,
            },
            threshold: other.zero_threshold,
        };
        if theirs.threshold == self.zero.threshold {
            return theirs.cell;
        }
        let positive = Side::new(other.positive_spans.clone(), other.positive_counts.clone());
        let negative = Side::new(other.negative_spans.clone(), other.negative_counts.clone());
        let original = theirs;
        // Thresholds only grow, each time beyond a bucket of one of the two, until none is larger
        // (or comparable).
        loop {
            if self.zero.threshold > theirs.threshold {
                theirs =
                    original.widened(other.schema, [&positive, &negative], self.zero.threshold);
            } else if theirs.threshold > self.zero.threshold {
                self.zero = self.zero.widened(
                    self.schema,
                    [&self.positive, &self.negative],
                    theirs.threshold,
                );
                trim(&mut self.positive, self.schema, self.zero.threshold);
                trim(&mut self.negative, self.schema, self.zero.threshold);
            } else {
                return theirs.cell;
            }
        }
    }

    /// What the total says about resets: gauge and unknown win; a contradiction is unknown, and
    /// reported.
    fn merge_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, Unknown};
        let (merged, conflict) = match (self.reset_hint, other) {
            (own, other) if own == other => (own, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.reset_hint = merged;
        conflict
    }

    /// Multiplies all counts.
    fn scale(&mut self, factor: f64) {
        for cell in [&mut self.zero.cell, &mut self.count, &mut self.sum] {
            (cell.count, cell.lost) = (cell.count * factor, cell.lost * factor);
        }
        self.positive.scale(factor);
        self.negative.scale(factor);
    }

    /// Divides all counts.
    fn divide(&mut self, divisor: f64) {
        for cell in [&mut self.zero.cell, &mut self.count, &mut self.sum] {
            (cell.count, cell.lost) = (cell.count / divisor, cell.lost / divisor);
        }
        self.positive.divide(divisor);
        self.negative.divide(divisor);
    }

    fn numbers(&self) -> impl Iterator<Item = f64> {
        let single = [self.zero.cell.count, self.count.count, self.sum.count];
        single
            .into_iter()
            .chain(self.positive.counts.iter().copied())
            .chain(self.negative.counts.iter().copied())
    }

    /// The total.
    pub fn finish(self) -> Histogram {
        let exact = |cell: Cell| {
            if self.alone {
                cell.count
            } else {
                cell.count + cell.lost
            }
        };
        let side = |side: Side| {
            if self.alone {
                (side.spans, side.counts)
            } else {
                side.finish()
            }
        };
        let (positive_spans, positive_counts) = side(self.positive);
        let (negative_spans, negative_counts) = side(self.negative);
        Histogram {
            schema: self.schema,
            zero_threshold: self.zero.threshold,
            zero_count: exact(self.zero.cell),
            count: exact(self.count),
            sum: exact(self.sum),
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_values: self.custom_values,
            reset_hint: self.reset_hint,
        }
    }
}

/// A mean of histograms that come one by one: the sum by the count, unless the sum overflows; then
/// a mean that is updated histogram by histogram.
#[derive(Debug, Clone)]
pub(crate) struct Mean {
    count: f64,
    /// The sum, or the mean itself once `incremental`.
    total: Total,
    incremental: bool,
}

/// Sums of numbers below this cannot overflow, however many buckets are joined on the way.
const NO_OVERFLOW: f64 = 1e150;

impl Mean {
    /// Bytes of its lists.
    pub fn heap_bytes(&self) -> usize {
        self.total.heap_bytes()
    }

    /// Begins with one histogram.
    pub fn new(first: &Histogram) -> Self {
        Self {
            count: 1.0,
            total: Total::new(first),
            incremental: false,
        }
    }

    /// Takes one more histogram in.
    pub fn add(&mut self, other: &Histogram) -> Result<Merged, Incompatible> {
        self.count += 1.0;
        let mut merged = Merged::default();
        if !self.incremental {
            if self
                .total
                .numbers()
                .chain(numbers(other))
                .all(|number| number.abs() < NO_OVERFLOW)
            {
                return self.total.add(other, 1.0);
            }
            let mut sum = self.total.clone();
            merged = sum.add(other, 1.0)?;
            if !sum.numbers().any(f64::is_infinite) {
                self.total = sum;
                return Ok(merged);
            }
            self.incremental = true;
            self.total.divide(self.count - 1.0);
        }
        self.total.scale((self.count - 1.0) / self.count);
        let mut share = other.clone();
        super::arithmetic::divide(&mut share, self.count);
        let again = self.total.add(&share, 1.0)?;
        Ok(Merged {
            conflict: merged.conflict || again.conflict,
            reconciled: merged.reconciled || again.reconciled,
        })
    }

    /// The mean of all histograms so far.
    pub fn finish(mut self) -> Histogram {
        if !self.incremental {
            self.total.divide(self.count);
        }
        self.total.finish()
    }
}

fn numbers(histogram: &Histogram) -> impl Iterator<Item = f64> {
    let single = [histogram.zero_count, histogram.count, histogram.sum];
    single.into_iter().chain(
        histogram
            .positive_counts
            .iter()
            .chain(&histogram.negative_counts)
            .copied(),
    )
}
