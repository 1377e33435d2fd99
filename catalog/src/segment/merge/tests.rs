use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::{ColumnType, Labels};

fn fields(names: &[&str]) -> Arc<[Column]> {
    names
        .iter()
        .map(|name| Column {
            name: (*name).into(),
            kind: ColumnType::Float,
        })
        .collect()
}

fn series(host: usize) -> Arc<Series> {
    Arc::new(Series::new(Labels::from_pairs([(
        "host",
        host.to_string(),
    )])))
}

type Row = (i64, Option<f64>, Option<f64>);

fn merged(
    kind: TableKind,
    inputs: &[Vec<(usize, Vec<Row>)>],
    range: TimeRange,
) -> BTreeMap<usize, Vec<Row>> {
    merged_without(kind, inputs, &[], range)
}

/// Merges inputs given as (series, rows) lists, each without its deleted times, and returns what
/// each series holds.
fn merged_without(
    kind: TableKind,
    inputs: &[Vec<(usize, Vec<Row>)>],
    deleted: &[Vec<TimeRange>],
    range: TimeRange,
) -> BTreeMap<usize, Vec<Row>> {
    let mut all: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    let mut built = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let rows: Vec<Row> = input
            .iter()
            .flat_map(|(_, rows)| rows.iter().copied())
            .collect();
        let mut at = 0;
        for (host, rows) in input {
            let deleted = deleted.get(number).cloned().unwrap_or_default();
            all.entry(*host).or_default().push(Run {
                input: number,
                rows: at..at + rows.len(),
                deleted,
            });
            at += rows.len();
        }
        built.push(Input {
            time: rows.iter().map(|r| r.0).collect::<Vec<_>>().into(),
            columns: vec![
                FieldArray::new(rows.iter().map(|r| r.1).collect::<Float64Array>()),
                FieldArray::new(rows.iter().map(|r| r.2).collect::<Float64Array>()),
            ],
            orders: RowOrders::Same(0),
        });
    }
    let hosts: Vec<usize> = all.keys().copied().collect();
    let runs = all
        .into_iter()
        .map(|(host, runs)| SeriesRuns {
            series: series(host),
            runs,
        })
        .collect();
    let out = merge(kind, fields(&["a", "b"]), &built, runs, range).unwrap();
    let value = |column: usize, row: usize| {
        let array = out.columns[column].to_array();
        let array = array.as_primitive::<Float64Type>();
        array.is_valid(row).then(|| array.value(row))
    };
    let mut result = BTreeMap::new();
    for run in &out.runs {
        let host = hosts
            .iter()
            .copied()
            .find(|h| series(*h).id == run.series.id)
            .unwrap();
        result.insert(
            host,
            run.rows()
                .map(|row| (out.time[row], value(0, row), value(1, row)))
                .collect(),
        );
    }
    result
}

#[test]
fn disjoint_runs_are_concatenated_by_time() {
    let late = vec![(1, vec![(10, Some(1.0), None)])];
    let early = vec![(1, vec![(5, Some(2.0), None)])];
    let out = merged(TableKind::Wide, &[late, early], TimeRange::ALL);
    assert_eq!(out[&1], [(5, Some(2.0), None), (10, Some(1.0), None)]);
}

#[test]
fn a_later_write_wins_field_by_field_in_wide_tables() {
    let first = vec![(1, vec![(5, Some(1.0), Some(2.0)), (6, Some(3.0), None)])];
    let second = vec![(1, vec![(5, None, Some(9.0))])];
    let out = merged(TableKind::Wide, &[first, second], TimeRange::ALL);
    assert_eq!(out[&1], [(5, Some(1.0), Some(9.0)), (6, Some(3.0), None)]);
}

#[test]
fn a_later_sample_replaces_the_earlier_one_whole() {
    let first = vec![(1, vec![(5, Some(1.0), Some(2.0))])];
    let second = vec![(1, vec![(5, None, Some(9.0))])];
    assert_eq!(
        merged(TableKind::Metrics, &[first, second], TimeRange::ALL)[&1],
        [(5, None, Some(9.0))]
    );
}

#[test]
fn rows_outside_the_range_are_cut() {
    let input = vec![
        (1, (0..10).map(|t| (t, Some(t as f64), None)).collect()),
        (2, vec![(50, Some(1.0), None)]),
    ];
    let out = merged(TableKind::Wide, &[input], TimeRange::new(3, 5));
    assert_eq!(out.len(), 1);
    assert_eq!(
        out[&1],
        [
            (3, Some(3.0), None),
            (4, Some(4.0), None),
            (5, Some(5.0), None)
        ]
    );
}

proptest! {
    #[test]
    fn a_merge_equals_writing_row_by_row(
        kind in prop_oneof![Just(TableKind::Wide), Just(TableKind::Metrics)],
        inputs in proptest::collection::vec(
            proptest::collection::btree_map(
                0usize..4,
                proptest::collection::btree_map(0i64..12, (proptest::option::of(0.0..9.0), proptest::option::of(0.0..9.0)), 1..8),
                1..4,
            ),
            1..5,
        ),
        deleted in proptest::collection::vec(
            proptest::collection::vec((0i64..12, 0i64..6).prop_map(|(min, length)| TimeRange::new(min, min + length)), 0..3),
            5,
        ),
        from in 0i64..6, to in 4i64..12,
    ) {
        let range = TimeRange::new(from, to);
        let mut model: BTreeMap<usize, BTreeMap<i64, (Option<f64>, Option<f64>)>> = BTreeMap::new();
        for (input, deleted) in inputs.iter().zip(&deleted) {
            for (host, rows) in input {
                let is_left = |time: &i64| range.contains(*time) && !deleted.iter().any(|range| range.contains(*time));
                for (time, (a, b)) in rows.iter().filter(|(t, _)| is_left(t)) {
                    let old = model.entry(*host).or_default().entry(*time).or_insert((None, None));
                    *old = match kind {
                        TableKind::Wide => (a.or(old.0), b.or(old.1)),
                        _ => (*a, *b),
                    };
                }
            }
        }
        let model: BTreeMap<usize, Vec<Row>> =
            model.into_iter().map(|(host, rows)| (host, rows.into_iter().map(|(t, (a, b))| (t, a, b)).collect())).collect();
        let inputs: Vec<Vec<(usize, Vec<Row>)>> = inputs
            .into_iter()
            .map(|input| input.into_iter().map(|(h, rows)| (h, rows.into_iter().map(|(t, (a, b))| (t, a, b)).collect())).collect())
            .collect();
        prop_assert_eq!(merged_without(kind, &inputs, &deleted, range), model);
    }

    #[test]
    fn exemplars_are_a_set(
        inputs in proptest::collection::vec(
            proptest::collection::btree_map(
                0usize..3,
                proptest::collection::btree_set((0i64..6, proptest::option::of(0u8..3), proptest::option::of(0u8..3)), 1..12),
                1..3,
            ),
            1..5,
        ),
        deleted in proptest::collection::vec(
            proptest::collection::vec((0i64..6, 0i64..3).prop_map(|(min, length)| TimeRange::new(min, min + length)), 0..2),
            5,
        ),
        from in 0i64..3, to in 2i64..6,
    ) {
        let range = TimeRange::new(from, to);
        let mut model: BTreeMap<usize, BTreeSet<(i64, Option<u8>, Option<u8>)>> = BTreeMap::new();
        for (input, deleted) in inputs.iter().zip(&deleted) {
            for (host, rows) in input {
                let is_left = |time: i64| range.contains(time) && !deleted.iter().any(|range| range.contains(time));
                let mut left = rows.iter().copied().filter(|row| is_left(row.0)).peekable();
                if left.peek().is_some() {
                    model.entry(*host).or_default().extend(left);
                }
            }
        }
        // Rows of one time come in no particular order.
        let shuffled = |rows: BTreeSet<_>| {
            let mut rows: Vec<(i64, Option<u8>, Option<u8>)> = rows.into_iter().collect();
            rows.sort_by_key(|row| (row.0, std::cmp::Reverse(row.2)));
            rows.into_iter().map(|(time, a, b)| (time, a.map(f64::from), b.map(f64::from))).collect()
        };
        let inputs: Vec<Vec<(usize, Vec<Row>)>> =
            inputs.into_iter().map(|input| input.into_iter().map(|(host, rows)| (host, shuffled(rows))).collect()).collect();
        let mut found = BTreeMap::new();
        for (host, rows) in merged_without(TableKind::Exemplars, &inputs, &deleted, range) {
            prop_assert!(rows.is_sorted_by_key(|row| row.0));
            let set: BTreeSet<_> = rows.iter().map(|(time, a, b)| (*time, a.map(|v| v as u8), b.map(|v| v as u8))).collect();
            prop_assert_eq!(set.len(), rows.len(), "twice");
            found.insert(host, set);
        }
        prop_assert_eq!(found, model);
    }
}

/// A field that few rows have, of rows of which the later write is in the earlier input.
#[test]
fn the_order_of_each_row_counts_in_sparse_fields() {
    let times: Vec<i64> = (0..40).collect();
    let input = |rows: &[i64], value: f64, order: i64| {
        let values = rows.iter().map(|time| (*time == 7).then_some(value));
        Input {
            time: rows.to_vec().into(),
            columns: vec![FieldArray::new(values.collect::<Float64Array>())],
            orders: RowOrders::Each(vec![order; rows.len()].into()),
        }
    };
    let run = |input, rows| Run {
        input,
        rows,
        deleted: Vec::new(),
    };
    let inputs = [input(&[7], 2.0, 20), input(&times, 1.0, 10)];
    let runs = SeriesRuns {
        series: series(1),
        runs: vec![run(0, 0..1), run(1, 0..40)],
    };
    let fields = fields(&["a"]);
    let out = merge(TableKind::Wide, fields, &inputs, vec![runs], TimeRange::ALL).unwrap();
    let array = out.columns[0].to_array();
    let array = array.as_primitive::<Float64Type>();
    assert_eq!((out.len(), array.value(7)), (40, 2.0));
}
