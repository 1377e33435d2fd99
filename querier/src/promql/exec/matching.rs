//! Arithmetic and comparison of two vectors: which rows belong together, and what may not happen.
//!
//! Rows are matched once per series. Only where several rows share a signature, presence is
//! compared step by step, because two series that are never there at the same time do not collide.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidelake_catalog::model::{Labels, LabelsBuilder, METRIC_NAME};

use super::super::parse::ast::{Cardinality, VectorMatching};
use super::QueryError;
use super::binary::{self, VectorBinary, is_arithmetic, is_trim};
use super::finish::{merge_rows, without_metadata};
use super::grid::Grid;
use super::limits::Charge;
use super::row::{Point, Row, Rows, labels_bytes, labels_in_work_bytes, shown};
use super::sample_op::{self, Applied, Remark, Remarks};
use super::work::Work;

/// The labels by which rows are matched, numbered over both sides.
pub(crate) struct Signatures {
    pub left: Vec<usize>,
    pub right: Vec<usize>,
    pub count: usize,
}

/// Bytes of a signature in its table, which doubles when it is full.
const SIGNATURE_BYTES: usize = 64;

impl Signatures {
    /// Numbers the signatures; what they hold is taken from the charge.
    pub fn new(
        left: &[Row],
        right: &[Row],
        matching: &VectorMatching,
        charge: &mut Charge,
    ) -> Result<Self, QueryError> {
        charge.take((left.len() + right.len()) * size_of::<usize>())?;
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        let mut number = |row: &Row| {
            charge.reserve(labels_in_work_bytes(row.labels.as_str().len()))?;
            let next = numbers.len();
            match numbers.entry(matched_labels(&row.labels, matching)) {
                Entry::Occupied(known) => Ok(*known.get()),
                Entry::Vacant(new) => {
                    charge.take(SIGNATURE_BYTES + labels_bytes(new.key()))?;
                    Ok(*new.insert(next))
                }
            }
        };
        let left = left
            .iter()
            .map(&mut number)
            .collect::<Result<_, QueryError>>()?;
        let right = right
            .iter()
            .map(&mut number)
            .collect::<Result<_, QueryError>>()?;
        Ok(Self {
            left,
            right,
            count: numbers.len(),
        })
    }
}

fn is_listed(matching: &VectorMatching, name: &str) -> bool {
    matching.labels.iter().any(|label| label == name)
}

/// The part of a label set that has to be equal on both sides.
fn matched_labels(labels: &Labels, matching: &VectorMatching) -> Labels {
    if matching.on {
        labels.retain(|name| is_listed(matching, name))
    } else {
        labels.retain(|name| name != METRIC_NAME && !is_listed(matching, name))
    }
}

/// Bytes of the lists of rows of a signature, and of its place in the order.
const MEMBERS_BYTES: usize = size_of::<(Vec<usize>, Vec<usize>)>() + 72;

/// Bytes of an entry of a table of the steps at which labels were matched.
const MATCHED_BYTES: usize = 96;

/// One match of two vectors. "Many" is the side that may have several rows of a signature, "one"
/// the other.
struct Matching<'a> {
    spec: &'a VectorBinary,
    matching: &'a VectorMatching,
    grid: Grid,
    many: &'a [Row],
    one: &'a [Row],
    /// Value for an absent row of the "one" and of the "many" side.
    fill_one: Option<f64>,
    fill_many: Option<f64>,
    swapped: bool,
}

/// Evaluates arithmetic or a comparison.
pub(crate) fn evaluate(
    work: &Work,
    spec: &VectorBinary,
    lhs: Rows,
    rhs: Rows,
    grid: Grid,
) -> Result<Rows, QueryError> {
    let matching = &spec.matching;
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (lhs.list.is_empty() && rhs.list.is_empty())
        || ((lhs.list.is_empty() || rhs.list.is_empty()) && !fills)
    {
        return Ok(Rows::default());
    }
    let mut charge = work.limits.charge(0)?;
    let signatures = Signatures::new(&lhs.list, &rhs.list, matching, &mut charge)?;
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped {
        (&rhs.list, &lhs.list)
    } else {
        (&lhs.list, &rhs.list)
    };
    let (many_signatures, one_signatures) = if swapped {
        (signatures.right, signatures.left)
    } else {
        (signatures.left, signatures.right)
    };
    // Also of `group_right`, as Prometheus has it in its source and tests.
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    let context = Matching {
        spec,
        matching,
        grid,
        many,
        one,
        fill_one,
        fill_many,
        swapped,
    };

    let sides = [&lhs.list, &rhs.list];
    charge.take(
        MEMBERS_BYTES * signatures.count
            + 2 * size_of::<usize>() * (lhs.list.len() + rhs.list.len())
            + size_of::<Row>() * many.len(),
    )?;
    if is_trim(spec.op)
        || sides
            .iter()
            .any(|rows| rows.iter().any(|row| row.histograms.is_some()))
    {
        charge.take(Remarks::bytes_of(grid.count))?;
    }
    let mut members: Vec<(Vec<usize>, Vec<usize>)> =
        vec![(Vec::new(), Vec::new()); signatures.count];
    let mut order = Vec::with_capacity(signatures.count);
    for (row, signature) in many_signatures.iter().enumerate() {
        if members[*signature].0.is_empty() {
            order.push(*signature);
        }
        members[*signature].0.push(row);
    }
    for (row, signature) in one_signatures.iter().enumerate() {
        if members[*signature].0.is_empty() && members[*signature].1.is_empty() {
            order.push(*signature);
        }
        members[*signature].1.push(row);
    }
    let mut remarks = Remarks::new(grid.count);
    let mut out = Vec::with_capacity(many.len());
    for signature in order {
        work.limits.check()?;
        let (many, one) = &members[signature];
        context.signature(many, one, &mut remarks, &mut out, &mut charge)?;
    }
    work.annotate(|all| remarks.report(spec.op, spec.span, all));
    if grid.count > 1 {
        out = merge_rows(out, &mut charge)?;
    }
    drop(members);
    Rows::new(out, charge)
}

impl Matching<'_> {
    /// All rows of one signature.
    fn signature(
        &self,
        many: &[usize],
        one: &[usize],
        remarks: &mut Remarks,
        out: &mut Vec<Row>,
        charge: &mut Charge,
    ) -> Result<(), QueryError> {
        self.check_one_side(one)?;
        charge.take(self.grid.count)?;
        let mut matched = Matched {
            all: vec![false; self.grid.count],
            by_labels: HashMap::new(),
        };
        let alone = many.len() == 1 && one.len() <= 1 && self.fill_many.is_none();
        for row in many {
            for other in one {
                let pair = self.pair(
                    (Some(&self.many[*row]), Some(&self.one[*other])),
                    *row,
                    remarks,
                    charge,
                    |_| true,
                )?;
                self.emit(pair, alone, &mut matched, out, charge)?;
            }
            if self.fill_one.is_some() {
                let missing = |step| !one.iter().any(|other| self.one[*other].has(step));
                let pair = self.pair(
                    (Some(&self.many[*row]), None),
                    *row,
                    remarks,
                    charge,
                    missing,
                )?;
                self.emit(pair, alone, &mut matched, out, charge)?;
            }
        }
        if self.fill_many.is_some() {
            for other in one {
                let pair = self.pair(
                    (None, Some(&self.one[*other])),
                    self.many.len() + *other,
                    remarks,
                    charge,
                    |step| !matched.all[step],
                )?;
                self.emit(pair, alone, &mut matched, out, charge)?;
            }
        }
        let by_labels = matched.by_labels.len() * (self.grid.count + MATCHED_BYTES);
        charge.give_back(self.grid.count + by_labels);
        Ok(())
    }

    /// At most one row of the "one" side may be there at a time.
    fn check_one_side(&self, one: &[usize]) -> Result<(), QueryError> {
        if one.len() < 2 {
            return Ok(());
        }
        for step in 0..self.grid.count {
            let mut present = one
                .iter()
                .map(|row| &self.one[*row])
                .filter(|row| row.has(step));
            let (Some(a), Some(b)) = (present.next(), present.next()) else {
                continue;
            };
            // Nothing is matched where the other side is empty altogether.
            if self.fill_one.is_none()
                && self.fill_many.is_none()
                && !self.many.iter().any(|row| row.has(step))
            {
                continue;
            }
            let side = if self.swapped { "left" } else { "right" };
            let group = if self.matching.on {
                b.labels.retain(|name| is_listed(self.matching, name))
            } else {
                b.labels
                    .retain(|name| name != METRIC_NAME && !is_listed(self.matching, name))
            };
            let mut names = [shown(&a.labels), shown(&b.labels)];
            let group = shown(&group);
            names.sort();
            return Err(QueryError::Execution(format!(
                "found duplicate series for the match group {group} on the {side} hand-side of \
                 the operation: [{}, {}];many-to-many matching not allowed: matching labels must \
                 be unique on one side",
                names[0], names[1]
            )));
        }
        Ok(())
    }

    /// Computes a pair of rows at the steps where both are there (or the missing one is filled) and
    /// `wanted`.
    ///
    /// `order` is the place of the pair among all: first the rows of the "many" side, then what is
    /// filled in for it.
    fn pair(
        &self,
        (many, one): (Option<&Row>, Option<&Row>),
        order: usize,
        remarks: &mut Remarks,
        charge: &mut Charge,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Option<Pair>, QueryError> {
        let op = self.spec.op;
        let rows = || [many, one].into_iter().flatten();
        let labels: usize = rows().map(|row| row.labels.as_str().len()).sum();
        // Sums of histograms are no larger than both, before empty buckets are left out.
        let histograms: usize = rows().map(Row::histogram_bytes).sum();
        charge.reserve(
            Row::bytes_of(self.grid.count, histograms > 0)
                + self.grid.count
                + histograms
                + 2 * labels_in_work_bytes(labels),
        )?;
        let fallback;
        let (many_labels, one_labels) = match (many, one) {
            (Some(many), Some(one)) => (&many.labels, &one.labels),
            (Some(many), None) => {
                fallback = matched_labels(&many.labels, self.matching);
                (&many.labels, &fallback)
            }
            (None, Some(one)) => {
                fallback = matched_labels(&one.labels, self.matching);
                (&fallback, &one.labels)
            }
            (None, None) => return Ok(None),
        };
        let value = |row: Option<&Row>, fill: Option<f64>, step: usize| match row {
            Some(row) => row.point(step),
            None => fill.map(Point::Float),
        };
        let mut steps = vec![false; self.grid.count];
        let mut row = Row::empty(
            self.result_labels(many_labels, one_labels),
            self.spec.return_bool,
            self.grid.count,
        );
        let mut any = false;
        for (step, computed) in steps.iter_mut().enumerate() {
            if !wanted(step) {
                continue;
            }
            let (Some(a), Some(b)) = (
                value(many, self.fill_many, step),
                value(one, self.fill_one, step),
            ) else {
                continue;
            };
            let (a, b) = if self.swapped { (b, a) } else { (a, b) };
            match (a, b) {
                (Point::Float(a), Point::Float(b)) => {
                    if is_trim(op) {
                        remarks.note(step, order, Remark::Types("float", "float"));
                        continue;
                    }
                    row.values[step] = binary::result(op, a, b, a, self.spec.return_bool);
                }
                (a, b) => {
                    let (applied, remark) = sample_op::apply(op, &a, &b);
                    if let Some(remark) = remark {
                        remarks.note(step, order, remark);
                    }
                    match applied {
                        Applied::Nothing => continue,
                        Applied::Value(histogram) => {
                            row.set(step, Point::Histogram(Arc::new(histogram)))
                        }
                        Applied::Holds(keep) if self.spec.return_bool => {
                            row.values[step] = f64::from(u8::from(keep))
                        }
                        Applied::Holds(true) => row.set(step, a),
                        Applied::Holds(false) => {}
                    }
                }
            }
            *computed = true;
            any = true;
        }
        Ok(any.then_some(Pair { row, steps }))
    }

    /// Adds a result, unless the match is ambiguous.
    fn emit(
        &self,
        pair: Option<Pair>,
        alone: bool,
        matched: &mut Matched,
        out: &mut Vec<Row>,
        charge: &mut Charge,
    ) -> Result<(), QueryError> {
        let Some(Pair { row, steps }) = pair else {
            return Ok(());
        };
        if !alone {
            let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
            charge.take(if one_to_one {
                0
            } else {
                steps.len() + MATCHED_BYTES
            })?;
            if !matched.add(&row.labels, steps, one_to_one) {
                return Err(QueryError::execution(if one_to_one {
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)"
                } else {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                }));
            }
        }
        if !row.is_empty() {
            // The list doubles when it is full.
            charge.take(row.heap_bytes() + size_of::<Row>())?;
            out.push(row);
        }
        Ok(())
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let mut labels = if is_arithmetic(self.spec.op) {
            without_metadata(many)
        } else {
            many.clone()
        };
        if self.matching.cardinality == Cardinality::OneToOne {
            labels = labels.retain(|name| is_listed(self.matching, name) == self.matching.on);
        }
        if self.matching.include.is_empty() {
            return labels;
        }
        let mut builder = LabelsBuilder::from_labels(&labels);
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        builder.build()
    }
}

/// A computed pair.
struct Pair {
    row: Row,
    /// Where it was computed, whether or not a comparison let the value through.
    steps: Vec<bool>,
}

/// At which steps rows of one signature were matched already.
struct Matched {
    all: Vec<bool>,
    by_labels: HashMap<Labels, Vec<bool>>,
}

impl Matched {
    /// Adds a result; false if there was one already, of the whole signature or of its labels.
    fn add(&mut self, labels: &Labels, steps: Vec<bool>, whole_signature: bool) -> bool {
        let overlaps = |before: &[bool]| {
            before
                .iter()
                .zip(&steps)
                .any(|(before, now)| *before && *now)
        };
        let unite = |before: &mut [bool]| {
            before
                .iter_mut()
                .zip(&steps)
                .for_each(|(before, now)| *before |= *now)
        };
        if whole_signature && overlaps(&self.all) {
            return false;
        }
        unite(&mut self.all);
        if whole_signature {
            return true;
        }
        match self.by_labels.get_mut(labels) {
            Some(before) if overlaps(before) => return false,
            Some(before) => unite(before),
            None => {
                self.by_labels.insert(labels.clone(), steps);
            }
        }
        true
    }
}
