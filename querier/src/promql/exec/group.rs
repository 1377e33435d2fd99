//! Groups of an aggregation: which row belongs to which.

use hashbrown::HashMap;
use tidelake_catalog::model::{Labels, METRIC_NAME};

use super::row::Row;

/// The rows of an aggregation's argument by group.
pub(crate) struct Groups {
    /// Labels of the groups, in the order of their first rows.
    pub labels: Vec<Labels>,
    /// The group of every row.
    pub of_row: Vec<usize>,
}

impl Groups {
    /// Groups rows `by` or `without` some labels; labels are looked at once per row, not per
    /// sample.
    pub fn new(rows: &[Row], grouping: &[String], without: bool) -> Self {
        let mut positions: HashMap<Labels, usize> = HashMap::new();
        let mut labels = Vec::new();
        let of_row = rows
            .iter()
            .map(|row| {
                let key = group_labels(&row.labels, grouping, without);
                *positions.entry(key).or_insert_with_key(|key| {
                    labels.push(key.clone());
                    labels.len() - 1
                })
            })
            .collect();
        Self { labels, of_row }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
}

/// The labels that a group keeps of one of its members.
pub(crate) fn group_labels(labels: &Labels, grouping: &[String], without: bool) -> Labels {
    let listed = |name: &str| grouping.iter().any(|label| label == name);
    match (without, grouping.is_empty()) {
        (false, true) => Labels::empty(),
        (false, false) => labels.retain(listed),
        (true, _) => labels.retain(|name| name != METRIC_NAME && !listed(name)),
    }
}
