//! Which labels the series of a plan can have, as far as the plan says it.

use std::collections::BTreeSet;

use tidelake_catalog::model::{Matcher, TimeRange};

use super::super::exec::finish::METADATA_LABELS;
use super::super::exec::grid::Grid;
use super::super::exec::selector::Select;
use super::{Input, PromExec};

/// Names of labels.
pub(crate) type LabelNames = BTreeSet<String>;

/// Without those that go with the name of a metric.
pub(super) fn without_metadata(mut names: LabelNames) -> LabelNames {
    names.retain(|name| !METADATA_LABELS.contains(&name.as_str()));
    names
}

/// The label names of the series that a selector selects.
pub(crate) type Lookup<'a> = &'a mut dyn FnMut(&Select) -> LabelNames;

/// Selectors do not move as long as their plan is there.
pub(crate) fn key(select: &Select) -> usize {
    std::ptr::from_ref(select).addr()
}

/// What a selector of a plan selects.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// Tells it from the other selectors of the plan.
    pub key: usize,
    pub matchers: Vec<Matcher>,
    /// All times that it looks at.
    pub range: TimeRange,
}

impl Selected {
    /// A selector that looks back so far from each step of a grid.
    pub fn new(select: &Select, back: i64, grid: Grid) -> Self {
        let start = select.reference(grid.start).saturating_sub(back);
        Self {
            key: key(select),
            matchers: select.matchers.clone(),
            range: TimeRange::new(start, select.reference(grid.end())),
        }
    }
}

/// All selectors of a plan, evaluated at a grid.
pub(crate) fn selectors(node: &PromExec, grid: Grid, lookback: i64) -> Vec<Selected> {
    let mut found = Vec::new();
    let mut nodes = vec![(node, grid)];
    while let Some((node, grid)) = nodes.pop() {
        found.extend(node.operator.selected(grid, lookback));
        let grid = node.operator.grid_below(grid);
        let inputs = node.inputs().iter().rev().filter_map(Input::node);
        nodes.extend(inputs.map(|input| (input, grid)));
    }
    found
}

/// The names of the labels that series of a plan can have; `None` if only the answer tells.
pub(crate) fn names(node: &PromExec, lookup: Lookup<'_>) -> Option<LabelNames> {
    node.operator.label_names(node.inputs(), lookup)
}

/// The same for an input; a scalar has no labels.
pub(super) fn names_of(input: Option<&Input>, lookup: Lookup<'_>) -> Option<LabelNames> {
    match input.and_then(Input::node) {
        Some(node) => names(node, lookup),
        None => Some(LabelNames::new()),
    }
}
