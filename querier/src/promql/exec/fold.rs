//! Aggregations that add up one row after the other: `sum`, `avg`, `min`, `max`, `count`, `group`,
//! `stddev` and `stdvar`.
//!
//! A group is a set of dense accumulators, one entry per step. So that sums do not depend on how
//! the rows are spread over tasks and machines, they are added up in blocks: a block ends where a
//! series begins whose id is a multiple of [`BLOCK_SERIES`]. Inside a block rows are added one by
//! one, and the blocks are merged one by one, in the order of the series. A task folds the blocks
//! that begin in its batch, and hands over as they are the rows before the first of them: they
//! belong to a block that another batch began.

mod message;

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidelake_catalog::model::Labels;

use super::super::parse::ast::AggregateOp;
use super::QueryError;
use super::accumulator::Accumulator;
use super::aggregate::Aggregate;
use super::aggregate_histograms::HistogramFold;
use super::annotations::Collector;
use super::group::{GROUP_BYTES, group_labels};
use super::limits::{Charge, Limits};
use super::row::{Row, Rows, labels_bytes, labels_in_work_bytes};

/// Series of a block, on average. Answers depend on it in their last digit: most have fewer series
/// and are added up one by one, as Prometheus does it.
const BLOCK_SERIES: u64 = if cfg!(test) { 64 } else { 1024 };

fn begins_block(row: &Row) -> bool {
    row.labels.series_id().is_multiple_of(BLOCK_SERIES)
}

/// What a batch of rows came to.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Rows before the first block; all of them if there are histograms among them.
    head: Rows,
    blocks: Vec<Vec<PartialGroup>>,
    /// Of the blocks.
    charge: Option<Charge>,
}

impl Partial {
    /// Adds what the next batch came to, whose first rows go into the last block of this. Gives it
    /// back if only a [`Folder`] can do that.
    pub fn append(
        &mut self,
        next: Self,
        spec: &Aggregate,
        steps: usize,
        limits: &Arc<Limits>,
    ) -> Result<Option<Self>, QueryError> {
        let is_folded = !next.head.list.iter().any(begins_block);
        let Some(block) = self.blocks.last_mut() else {
            return Ok(Some(next));
        };
        if !is_folded || next.head.list.iter().any(Row::has_histograms) {
            return Ok(Some(next));
        }
        let mut charge = match self.charge.take() {
            Some(charge) => charge,
            None => limits.charge(0)?,
        };
        let known = block.iter().zip(0..);
        let mut positions = known
            .map(|(group, at)| (group.labels.clone(), at))
            .collect();
        for row in &next.head.list {
            limits.check()?;
            fold(row, spec, steps, block, &mut positions, &mut charge)?;
        }
        self.blocks.extend(next.blocks);
        if let Some(more) = next.charge {
            charge.merge(more);
        }
        self.charge = Some(charge);
        Ok(None)
    }

    /// About how many bytes it takes.
    pub fn bytes(&self, spec: &Aggregate, steps: usize) -> usize {
        self.groups().saturating_mul(state_bytes(spec.op, steps))
    }

    /// How many rows and groups it has.
    pub fn groups(&self) -> usize {
        self.head.list.len() + self.blocks.iter().map(Vec::len).sum::<usize>()
    }
}

/// One group in one block.
#[derive(Debug)]
struct PartialGroup {
    labels: Labels,
    drop_name: bool,
    floats: Accumulator,
}

/// Folds a batch of rows as far as that does not depend on the rows before it.
pub(crate) fn partial(
    spec: &Aggregate,
    rows: Rows,
    steps: usize,
    limits: &Arc<Limits>,
) -> Result<Partial, QueryError> {
    let first = rows.list.iter().position(begins_block);
    let counts = matches!(spec.op, AggregateOp::Count | AggregateOp::Group);
    let is_foldable = counts || !rows.list.iter().any(Row::has_histograms);
    let (Some(first), true) = (first, is_foldable) else {
        return Ok(Partial {
            head: rows,
            blocks: Vec::new(),
            charge: None,
        });
    };
    let mut charge = limits.charge(0)?;
    let mut blocks: Vec<Vec<PartialGroup>> = Vec::new();
    let mut positions: HashMap<Labels, usize> = HashMap::new();
    for row in &rows.list[first..] {
        limits.check()?;
        if begins_block(row) {
            positions.clear();
            blocks.push(Vec::new());
        }
        if let Some(block) = blocks.last_mut() {
            fold(row, spec, steps, block, &mut positions, &mut charge)?;
        }
    }
    let head = rows.map(|mut rows| {
        rows.truncate(first);
        rows
    })?;
    Ok(Partial {
        head,
        blocks,
        charge: Some(charge),
    })
}

/// Folds a row into a block, whose groups have these positions.
fn fold(
    row: &Row,
    spec: &Aggregate,
    steps: usize,
    block: &mut Vec<PartialGroup>,
    positions: &mut HashMap<Labels, usize>,
    charge: &mut Charge,
) -> Result<(), QueryError> {
    charge.reserve(labels_in_work_bytes(row.labels.as_str().len()))?;
    let key = group_labels(&row.labels, &spec.grouping, spec.without);
    let position = match positions.entry(key) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(new) => {
            charge.take(state_bytes(spec.op, steps) + GROUP_BYTES + labels_bytes(new.key()))?;
            block.push(PartialGroup {
                labels: new.key().clone(),
                drop_name: false,
                floats: Accumulator::new(spec.op, steps),
            });
            *new.insert(block.len() - 1)
        }
    };
    block[position].drop_name |= row.drop_name;
    block[position].floats.add(row);
    Ok(())
}

fn state_bytes(op: AggregateOp, steps: usize) -> usize {
    steps.saturating_mul(Accumulator::step_bytes(op)) + size_of::<PartialGroup>()
}

/// What is known of a group.
struct Group {
    labels: Labels,
    drop_name: bool,
    /// Of the blocks that have ended.
    total: Option<Accumulator>,
    /// Of the block that has not, and its number.
    open: Option<(u64, Accumulator)>,
    histograms: Option<HistogramFold>,
}

impl Group {
    /// Ends the block before this one; gives the bytes of its accumulator back, of `bytes`, if
    /// there is another.
    fn end_before(&mut self, block: u64, bytes: usize, charge: &mut Charge) {
        if self.open.as_ref().is_some_and(|(of, _)| *of != block) {
            let is_merged = self.total.is_some();
            self.end();
            if is_merged {
                charge.give_back(bytes);
            }
        }
    }

    fn end(&mut self) {
        let Some((_, ended)) = self.open.take() else {
            return;
        };
        match &mut self.total {
            Some(total) => total.merge(ended),
            None => self.total = Some(ended),
        }
    }

    fn has_float(&self, step: usize) -> bool {
        let open = self.open.as_ref().map(|(_, open)| open);
        [self.total.as_ref(), open]
            .into_iter()
            .flatten()
            .any(|floats| floats.has(step))
    }
}

/// Folds rows and what batches of them came to, in the order of the series.
pub(crate) struct Folder<'a> {
    spec: &'a Aggregate,
    steps: usize,
    limits: &'a Arc<Limits>,
    positions: HashMap<Labels, usize>,
    groups: Vec<Group>,
    block: u64,
    charge: Charge,
    remarks: Collector,
}

impl<'a> Folder<'a> {
    /// No rows yet, of so many steps.
    pub fn new(
        spec: &'a Aggregate,
        steps: usize,
        limits: &'a Arc<Limits>,
    ) -> Result<Self, QueryError> {
        Ok(Self {
            spec,
            steps,
            limits,
            positions: HashMap::new(),
            groups: Vec::new(),
            block: 0,
            charge: limits.charge(0)?,
            remarks: Collector::default(),
        })
    }

    /// Folds the next rows.
    pub fn add_rows(&mut self, rows: &Rows) -> Result<(), QueryError> {
        rows.list.iter().try_for_each(|row| self.add(row))
    }

    /// Folds what the next batch of rows came to.
    pub fn add_partial(&mut self, partial: Partial) -> Result<(), QueryError> {
        self.add_rows(&partial.head)?;
        if let Some(charge) = partial.charge {
            self.charge.merge(charge);
        }
        let bytes = state_bytes(self.spec.op, self.steps);
        for block in partial.blocks {
            self.limits.check()?;
            self.block += 1;
            for group in block {
                let label_bytes = GROUP_BYTES + labels_bytes(&group.labels);
                let position = self.position(group.labels)?;
                self.charge.give_back(label_bytes);
                let known = &mut self.groups[position];
                known.end_before(self.block, bytes, &mut self.charge);
                known.drop_name |= group.drop_name;
                if let Some(histograms) = &mut known.histograms {
                    (0..self.steps)
                        .filter(|step| group.floats.has(*step))
                        .for_each(|step| histograms.see_float(step));
                }
                known.open = Some((self.block, group.floats));
            }
        }
        Ok(())
    }

    fn position(&mut self, key: Labels) -> Result<usize, QueryError> {
        Ok(match self.positions.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let bytes = size_of::<Group>() + GROUP_BYTES + size_of::<Row>();
                self.charge.take(bytes + labels_bytes(new.key()))?;
                self.groups.push(Group {
                    labels: new.key().clone(),
                    drop_name: false,
                    total: None,
                    open: None,
                    histograms: None,
                });
                *new.insert(self.groups.len() - 1)
            }
        })
    }

    fn add(&mut self, row: &Row) -> Result<(), QueryError> {
        self.limits.check()?;
        if begins_block(row) {
            self.block += 1;
        }
        self.charge
            .reserve(labels_in_work_bytes(row.labels.as_str().len()))?;
        let key = group_labels(&row.labels, &self.spec.grouping, self.spec.without);
        let position = self.position(key)?;
        let group = &mut self.groups[position];
        group.drop_name |= row.drop_name;
        if row.has_histograms() {
            self.histograms(row, position)?;
        }
        let group = &mut self.groups[position];
        if let Some(histograms) = &mut group.histograms {
            histograms.add(row, self.spec, &mut self.remarks, &mut self.charge)?;
        }
        let bytes = state_bytes(self.spec.op, self.steps);
        group.end_before(self.block, bytes, &mut self.charge);
        if group.open.is_none() {
            self.charge.take(bytes)?;
            group.open = Some((self.block, Accumulator::new(self.spec.op, self.steps)));
        }
        if let Some((_, open)) = &mut group.open {
            open.add(row);
        }
        Ok(())
    }

    /// Histograms are added up, or left out with a remark.
    fn histograms(&mut self, row: &Row, position: usize) -> Result<(), QueryError> {
        let name = match self.spec.op {
            AggregateOp::Sum | AggregateOp::Avg => {
                let group = &mut self.groups[position];
                if group.histograms.is_none() {
                    self.charge.take(HistogramFold::bytes_of(self.steps))?;
                    let mut fold = HistogramFold::new(row.values.len());
                    (0..self.steps)
                        .filter(|step| group.has_float(*step))
                        .for_each(|step| fold.see_float(step));
                    group.histograms = Some(fold);
                }
                return Ok(());
            }
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            _ => return Ok(()),
        };
        self.remarks
            .histogram_ignored_in_aggregation(name, self.spec.expr_span);
        Ok(())
    }

    /// The row of each group, by labels.
    pub fn finish(mut self) -> Result<(Rows, Collector), QueryError> {
        self.groups.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut rows = Vec::with_capacity(self.groups.len());
        for mut group in self.groups {
            group.end();
            let Some(floats) = group.total else { continue };
            let mut row = Row::floats(group.labels, group.drop_name, floats.finish());
            if let Some(histograms) = group.histograms {
                histograms.finish(&mut row, self.spec, &mut self.remarks, &mut self.charge)?;
            }
            rows.push(row);
        }
        drop(self.positions);
        Ok((Rows::new(rows, self.charge)?, self.remarks))
    }
}
