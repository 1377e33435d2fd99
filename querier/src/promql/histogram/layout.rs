//! Builds the buckets on one side of zero: counts, what their sums lost to rounding, and spans.

use tidelake_catalog::model::Span;

use super::super::exec::number::kahan_add;
use super::bounds::coarser;
use super::buckets::Cells;

/// A count, and what rounding took from it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Cell {
    pub count: f64,
    pub lost: f64,
}

impl Cell {
    /// Adds another one, compensated.
    pub fn add(&mut self, other: Cell) {
        (self.count, self.lost) = kahan_add(other.count, self.count, self.lost);
        if other.lost != 0.0 {
            (self.count, self.lost) = kahan_add(other.lost, self.count, self.lost);
        }
    }
}

/// The buckets on one side of zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    pub spans: Vec<Span>,
    pub counts: Vec<f64>,
    /// As long as `counts`.
    pub lost: Vec<f64>,
    next: i64,
}

impl Side {
    /// The buckets that a histogram lists; nothing is lost yet.
    pub fn new(spans: Vec<Span>, counts: Vec<f64>) -> Self {
        let lost = vec![0.0; counts.len()];
        Self {
            spans,
            counts,
            lost,
            next: 0,
        }
    }

    /// Bytes of its lists.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Span>() * self.spans.capacity()
            + size_of::<f64>() * (self.counts.capacity() + self.lost.capacity())
    }

    /// A side with room for some buckets.
    pub fn with_capacity(buckets: usize) -> Self {
        Self {
            counts: Vec::with_capacity(buckets),
            lost: Vec::with_capacity(buckets),
            ..Self::default()
        }
    }

    /// A side built from cells whose numbers ascend; those with one number are added up.
    pub fn collect(cells: impl Iterator<Item = (i64, Cell)>) -> Self {
        let mut side = Self::with_capacity(cells.size_hint().0);
        for (index, cell) in cells {
            side.push(index, cell);
        }
        side
    }

    /// Appends a bucket. Its number must not be smaller than that of the one before.
    pub fn push(&mut self, index: i64, cell: Cell) {
        match (
            self.spans.last_mut(),
            self.counts.last_mut(),
            self.lost.last_mut(),
        ) {
            (Some(_), Some(count), Some(lost)) if index < self.next => {
                let mut total = Cell {
                    count: *count,
                    lost: *lost,
                };
                total.add(cell);
                (*count, *lost) = (total.count, total.lost);
                return;
            }
            (Some(span), ..) if index == self.next => span.length = span.length.saturating_add(1),
            _ => {
                let gap = index - self.next;
                let offset =
                    i32::try_from(gap).unwrap_or(if gap < 0 { i32::MIN } else { i32::MAX });
                self.spans.push(Span { offset, length: 1 });
            }
        }
        self.counts.push(cell.count);
        self.lost.push(cell.lost);
        self.next = index + 1;
    }

    /// Numbers and cells.
    pub fn cells(&self) -> impl Iterator<Item = (i64, Cell)> {
        Cells::new(&self.spans, &self.counts)
            .zip(self.lost.iter().copied())
            .map(|((index, count), lost)| (index, Cell { count, lost }))
    }

    /// The side in a resolution that is lower by `shift` schemas.
    pub fn reduced(&self, shift: u32) -> Self {
        Self::collect(
            self.cells()
                .map(|(index, cell)| (coarser(index, shift), cell)),
        )
    }

    /// Adds the buckets of another histogram, which count `sign` times and have a resolution higher
    /// by `shift` schemas. The innermost buckets are left out as long as they are `skipped`.
    pub fn add(
        &mut self,
        spans: &[Span],
        counts: &[f64],
        shift: u32,
        sign: f64,
        skipped: impl Fn(i64) -> bool,
    ) {
        let cells = Cells::new(spans, counts).map(|(index, count)| {
            (
                index,
                Cell {
                    count: sign * count,
                    lost: 0.0,
                },
            )
        });
        let skips = cells
            .clone()
            .next()
            .is_some_and(|(index, _)| skipped(coarser(index, shift)));
        if shift == 0 && self.spans == spans && self.counts.len() == counts.len() && !skips {
            for ((own, lost), count) in self.counts.iter_mut().zip(&mut self.lost).zip(counts) {
                (*own, *lost) = kahan_add(sign * count, *own, *lost);
            }
            return;
        }
        let theirs = if shift == 0 {
            None
        } else {
            Some(Self::collect(
                cells
                    .clone()
                    .map(|(index, cell)| (coarser(index, shift), cell)),
            ))
        };
        let merged = match &theirs {
            Some(reduced) => self.merged(reduced.cells().skip_while(|(index, _)| skipped(*index))),
            None => self.merged(cells.skip_while(|(index, _)| skipped(*index))),
        };
        *self = merged;
    }

    /// These buckets and others, in the order of their numbers.
    fn merged(&self, theirs: impl Iterator<Item = (i64, Cell)>) -> Self {
        let mut merged = Self::with_capacity(self.counts.len() + theirs.size_hint().0);
        let mut mine = self.cells().peekable();
        for (index, cell) in theirs {
            while let Some((before, own)) = mine.next_if(|(own, _)| *own < index) {
                merged.push(before, own);
            }
            match mine.next_if(|(own, _)| *own == index) {
                Some((_, mut own)) => {
                    own.add(cell);
                    merged.push(index, own);
                }
                None => merged.push(index, cell),
            }
        }
        for (index, own) in mine {
            merged.push(index, own);
        }
        merged
    }

    /// Multiplies all counts.
    pub fn scale(&mut self, factor: f64) {
        self.counts
            .iter_mut()
            .chain(&mut self.lost)
            .for_each(|count| *count *= factor);
    }

    /// Divides all counts.
    pub fn divide(&mut self, divisor: f64) {
        self.counts
            .iter_mut()
            .chain(&mut self.lost)
            .for_each(|count| *count /= divisor);
    }

    /// Counts with what they had lost, and their spans.
    pub fn finish(mut self) -> (Vec<Span>, Vec<f64>) {
        self.counts
            .iter_mut()
            .zip(self.lost)
            .for_each(|(count, lost)| *count += lost);
        (self.spans, self.counts)
    }
}
