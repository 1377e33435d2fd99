//! Puts the series of a scan in order.
//!
//! There may be millions of them, whose labels are long and begin alike. Values of the labels that
//! come first in the order are therefore ranked once, and series compared by numbers.

use hashbrown::HashMap;

use crate::segment::series::{Series, SortOrder};

/// Labels that are ranked; the rest decides by comparing.
const RANKED: usize = 3;

/// Sorts by the labels of what `series_of` gives.
pub(super) fn sort<T>(items: &mut Vec<T>, order: &SortOrder, series_of: impl Fn(&T) -> &Series) {
    let mut keys: Vec<([u32; RANKED], u32)> = (0..)
        .map(|at| ([0; RANKED], at))
        .take(items.len())
        .collect();
    for (at, name) in order.0.iter().take(RANKED).enumerate() {
        let mut ranks: HashMap<&str, u32> = HashMap::new();
        for item in &*items {
            ranks.entry(value(series_of(item), name)).or_default();
        }
        let mut values: Vec<&str> = ranks.keys().copied().collect();
        values.sort_unstable();
        ranks.extend(values.into_iter().zip(0..));
        for (key, item) in keys.iter_mut().zip(&*items) {
            key.0[at] = ranks
                .get(value(series_of(item), name))
                .copied()
                .unwrap_or_default();
        }
    }
    keys.sort_unstable_by(|a, b| {
        let labels = |key: &([u32; RANKED], u32)| &series_of(&items[key.1 as usize]).labels;
        a.0.cmp(&b.0)
            .then_with(|| order.compare(labels(a), labels(b)))
    });
    let mut unsorted: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(
        keys.into_iter()
            .filter_map(|(_, at)| unsorted[at as usize].take()),
    );
}

fn value<'a>(series: &'a Series, name: &str) -> &'a str {
    series.labels.get(name).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Labels;

    proptest! {
        #[test]
        fn series_come_in_the_order_of_their_keys(
            sets in proptest::collection::vec(
                proptest::collection::btree_map("[a-d]", "[x-z]{0,2}", 0..4), 0..40),
            order in proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle(),
        ) {
            let order = SortOrder(order.into_iter().map(Arc::from).collect());
            let mut series: Vec<Series> =
                sets.into_iter().map(|set| Series::new(Labels::from_pairs(set))).collect();
            let mut expected = series.clone();
            expected.sort_by_cached_key(|series| order.key(&series.labels));
            sort(&mut series, &order, |series| series);
            prop_assert_eq!(series, expected);
        }
    }
}
