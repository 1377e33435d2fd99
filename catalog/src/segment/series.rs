//! A series, and the order in which series lie in a file.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::{Labels, METRIC_NAME, TableKind};

/// A label set with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// [`Labels::series_id`] of the labels.
    pub id: u64,
    /// In the metrics table with the metric's name; in a wide table the tags.
    pub labels: Labels,
}

impl Series {
    /// A series of these labels.
    pub fn new(labels: Labels) -> Self {
        Self {
            id: labels.series_id(),
            labels,
        }
    }
}

/// The labels by which the series of a file are sorted first; the rest of the label set decides
/// among equals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortOrder(pub Vec<Arc<str>>);

impl SortOrder {
    /// The order of the metrics table: one target's series of one metric lie together.
    pub fn metrics() -> Self {
        Self(
            [METRIC_NAME, "job", "instance"]
                .into_iter()
                .map(Arc::from)
                .collect(),
        )
    }

    /// The order of a table for these series: fixed for the metrics table; in wide tables tags with
    /// most values first, so that the rows of one host lie together whatever the client wrote
    /// first.
    pub fn choose<'a>(kind: TableKind, series: impl IntoIterator<Item = &'a Labels>) -> Self {
        if kind.is_by_series_id() {
            return Self::metrics();
        }
        let mut values: hashbrown::HashMap<&str, hashbrown::HashSet<&str>> =
            hashbrown::HashMap::new();
        for labels in series {
            for (name, value) in labels {
                values.entry(name).or_default().insert(value);
            }
        }
        let mut names: Vec<(usize, &str)> = values
            .into_iter()
            .map(|(name, values)| (values.len(), name))
            .collect();
        names.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        Self(names.into_iter().map(|(_, name)| Arc::from(name)).collect())
    }

    /// By what label sets are ordered first.
    pub fn first_value<'a>(&self, labels: &'a Labels) -> &'a str {
        let first = self.0.first();
        first.and_then(|name| labels.get(name)).unwrap_or("")
    }

    /// The order of two label sets.
    pub fn compare(&self, a: &Labels, b: &Labels) -> Ordering {
        self.0
            .iter()
            .map(|name| {
                let (a, b) = (a.get(name), b.get(name));
                a.unwrap_or("").cmp(b.unwrap_or(""))
            })
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.iter().cmp(b.iter()))
    }

    /// A text whose order among texts is the order of the label set among label sets.
    #[cfg(test)]
    pub(super) fn key(&self, labels: &Labels) -> String {
        let mut key = String::with_capacity(labels.as_str().len() + 16);
        for name in &self.0 {
            key.push_str(labels.get(name).unwrap_or(""));
            key.push('\0');
        }
        for (name, value) in labels {
            key.push_str(name);
            key.push('\0');
            key.push_str(value);
            key.push('\0');
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_compare_as_their_keys() {
        let order = SortOrder(vec!["b".into(), "missing".into()]);
        let sets: Vec<Labels> = [
            vec![],
            vec![("a", "1")],
            vec![("a", "1"), ("b", "x")],
            vec![("a", "2"), ("b", "x")],
            vec![("a", "2"), ("b", "xy")],
            vec![("b", "x"), ("c", "")],
            vec![("b", "x"), ("c", "1")],
            vec![("aa", "1"), ("b", "x")],
        ]
        .into_iter()
        .map(Labels::from_pairs)
        .collect();
        for a in &sets {
            for b in &sets {
                let expected = order.key(a).cmp(&order.key(b));
                assert_eq!(order.compare(a, b), expected, "{a} {b}");
            }
        }
    }
}
