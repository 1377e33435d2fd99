//! Groups of an aggregation: which row belongs to which.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidelake_catalog::model::{Labels, METRIC_NAME};

use super::QueryError;
use super::limits::Charge;
use super::row::{Row, labels_bytes, labels_in_work_bytes};

/// Bytes of a group in its table and in its list, both of which double when they are full.
pub(crate) const GROUP_BYTES: usize = 80;

/// The rows of an aggregation's argument by group.
pub(crate) struct Groups {
    /// Labels of the groups, in the order of their first rows.
    pub labels: Vec<Labels>,
    /// The group of every row.
    pub of_row: Vec<usize>,
}

impl Groups {
    /// Groups rows `by` or `without` some labels; labels are looked at once per row, not per
    /// sample. What the groups hold is taken from the charge.
    pub fn new(
        rows: &[Row],
        grouping: &[String],
        without: bool,
        charge: &mut Charge,
    ) -> Result<Self, QueryError> {
        let mut positions: HashMap<Labels, usize> = HashMap::new();
        let mut labels = Vec::new();
        charge.take(rows.len() * size_of::<usize>())?;
        let mut of_row = Vec::with_capacity(rows.len());
        for row in rows {
            charge.reserve(labels_in_work_bytes(row.labels.as_str().len()))?;
            let key = group_labels(&row.labels, grouping, without);
            let group = match positions.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    charge.take(GROUP_BYTES + labels_bytes(new.key()))?;
                    labels.push(new.key().clone());
                    *new.insert(labels.len() - 1)
                }
            };
            of_row.push(group);
        }
        Ok(Self { labels, of_row })
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
