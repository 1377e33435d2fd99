use arrow::array::Int64Array;
use proptest::prelude::*;

use super::*;
use crate::model::ColumnType;

mod orders;

use crate::segment::rows::SeriesRun;

/// A source whose series have rows at these times; each value tells source and time.
fn source(number: usize, series: &[Vec<i64>]) -> Source {
    let (mut runs, mut time) = (Vec::new(), Vec::new());
    for (at, times) in series
        .iter()
        .enumerate()
        .filter(|(_, times)| !times.is_empty())
    {
        let labels = Labels::from_pairs([("host", at.to_string().as_str())]);
        runs.push(SeriesRun::new(
            Arc::new(Series::new(labels)),
            time.len()..time.len() + times.len(),
        ));
        time.extend(times);
    }
    let values: Vec<i64> = time.iter().map(|t| t * 10 + number as i64).collect();
    let rows = SortedRows {
        runs,
        time: time.into(),
        fields: fields(),
        columns: vec![(Arc::new(Int64Array::from(values)) as arrow::array::ArrayRef).into()],
    };
    Source::Rows(WriteOrder::of((0, 0)).part(number as u64), Arc::new(rows))
}

fn fields() -> Arc<[Column]> {
    Arc::from([Column {
        name: "v".into(),
        kind: ColumnType::Integer,
    }])
}

/// The rows of each series: its label, times and values.
fn read(sources: &[Vec<Vec<i64>>], range: TimeRange, edge: Option<Edge>) -> Vec<Vec<(i64, i64)>> {
    let rows = sources.iter().enumerate();
    let rows = rows.map(|(number, series)| match source(number, series) {
        Source::Rows(order, rows) => (order, rows),
        Source::Segment(..) => unreachable!("sources of this test are in memory"),
    });
    let request = ScanRequest {
        fields: fields(),
        matchers: Vec::new(),
        range,
        edge,
    };
    let plan = plan_rows(TableKind::Wide, rows.collect(), request);
    let mut out = vec![Vec::new(); 3];
    for unit in plan.units {
        let read = futures::executor::block_on(unit.read()).unwrap();
        if let Some(time) = unit.known() {
            assert_eq!(read.len() as u64, unit.rows_bound());
            let read = read.time_range().unwrap();
            let at_the_ends = (read.min == time.min, read.max == time.max);
            let expected = match edge {
                None => at_the_ends == (true, true),
                Some(Edge::Newest(_)) => at_the_ends.1,
                Some(Edge::Oldest(_)) => at_the_ends.0,
            };
            assert!(expected, "{read:?} of {time:?}");
        }
        let values = read.column("v").unwrap().to_array();
        let values = values.as_any().downcast_ref::<Int64Array>().unwrap();
        for run in &read.runs {
            let at: usize = run.series.labels.get("host").unwrap().parse().unwrap();
            out[at] = run
                .rows()
                .clone()
                .map(|row| (read.time[row], values.value(row)))
                .collect();
        }
    }
    out
}

#[test]
fn units_of_queries_end_where_row_groups_do() {
    let series: Vec<Vec<i64>> = (0..5).map(|_| (0..40_000).collect()).collect();
    let Source::Rows(order, rows) = source(0, &series) else {
        unreachable!("sources of this test are in memory");
    };
    let request = ScanRequest {
        fields: fields(),
        matchers: Vec::new(),
        range: TimeRange::ALL,
        edge: None,
    };
    // The fourth series lies in two row groups.
    let plan = plan_rows(TableKind::Wide, vec![(order, rows)], request);
    let sizes: Vec<usize> = plan.units.iter().map(|unit| unit.slots.len()).collect();
    assert_eq!(sizes, [3, 1, 1]);
}

proptest! {
    #[test]
    fn an_edge_has_the_rows_that_a_whole_scan_has_there(
        sources in prop::collection::vec(
            prop::collection::vec(prop::collection::btree_set(0i64..12, 0..8), 3), 1..4),
        range in prop_oneof![Just((i64::MIN, i64::MAX)), (0i64..12, 0i64..12)],
        rows in 1u64..5,
    ) {
        let sources: Vec<Vec<Vec<i64>>> = sources
            .into_iter()
            .map(|series| series.into_iter().map(|times| times.into_iter().collect()).collect())
            .collect();
        let range = TimeRange::new(range.0, range.1);
        let whole = read(&sources, range, None);
        let newest = read(&sources, range, Some(Edge::Newest(rows)));
        let oldest = read(&sources, range, Some(Edge::Oldest(rows)));
        let rows = rows as usize;
        for ((whole, newest), oldest) in whole.iter().zip(newest).zip(oldest) {
            let wanted = rows.min(whole.len());
            prop_assert!(newest.ends_with(&whole[whole.len() - wanted..]));
            prop_assert!(oldest.starts_with(&whole[..wanted]));
            prop_assert!(newest.len() <= whole.len() && oldest.len() <= whole.len());
            if range == TimeRange::ALL {
                // No source gives more than it was asked for.
                prop_assert!(newest.len() <= rows * sources.len());
            }
        }
    }
}
