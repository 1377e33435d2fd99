//! Writes that several processes took: whatever lies where and was merged with what, the one with
//! the higher order counts, in wide tables field by field.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::segment::FieldArray;
use crate::segment::write_order::order_column;

const FIELDS: [&str; 2] = ["a", "b"];

/// A write of some fields of a series at a time; its place in the list is its order.
#[derive(Debug, Clone)]
struct Write {
    /// Who takes it.
    process: usize,
    series: usize,
    time: i64,
    has: [bool; 2],
    /// Whether its process begins a new chunk with it.
    begins: bool,
}

type Cells = BTreeMap<(usize, i64, usize), i64>;

fn wanted_fields() -> Vec<Column> {
    let field = |name: &str| Column {
        name: name.into(),
        kind: ColumnType::Integer,
    };
    FIELDS.map(field).to_vec()
}

fn fields_with_orders() -> Arc<[Column]> {
    let mut fields = wanted_fields();
    fields.push(order_column());
    fields.into()
}

fn host(series: usize) -> Arc<Series> {
    let name = series.to_string();
    Arc::new(Series::new(Labels::from_pairs([("host", name.as_str())])))
}

/// The rows of some writes, with their orders. A metrics table has no two of one series and time.
fn chunk(kind: TableKind, mut writes: Vec<(u64, Write)>) -> (WriteOrder, Arc<SortedRows>) {
    let orders = writes
        .iter()
        .map(|(order, _)| WriteOrder::of((*order, *order)));
    let order = orders.reduce(WriteOrder::union).unwrap();
    writes.sort_by_key(|(order, write)| (write.series, write.time, *order));
    if kind == TableKind::Metrics {
        let cell = |(_, write): &(u64, Write)| (write.series, write.time);
        writes.reverse();
        writes.dedup_by(|later, kept| cell(later) == cell(kept));
        writes.reverse();
    }
    let (mut runs, mut at) = (Vec::new(), 0);
    for of_series in writes.chunk_by(|a, b| a.1.series == b.1.series) {
        let rows = at..at + of_series.len();
        at = rows.end;
        runs.push(SeriesRun::new(host(of_series[0].1.series), rows));
    }
    let value = |field: usize| {
        let values = writes
            .iter()
            .map(|(order, write)| write.has[field].then_some(*order as i64));
        FieldArray::new(values.collect::<Int64Array>())
    };
    let own = writes.iter().map(|(order, _)| Some(*order as i64));
    let rows = SortedRows {
        runs,
        time: writes
            .iter()
            .map(|(_, write)| write.time)
            .collect::<Vec<_>>()
            .into(),
        fields: fields_with_orders(),
        columns: vec![
            value(0),
            value(1),
            FieldArray::new(own.collect::<Int64Array>()),
        ],
    };
    (order, Arc::new(rows))
}

fn merged(
    kind: TableKind,
    sources: Vec<(WriteOrder, Arc<SortedRows>)>,
    fields: Arc<[Column]>,
) -> Arc<SortedRows> {
    let request = ScanRequest {
        fields,
        matchers: Vec::new(),
        range: TimeRange::ALL,
        edge: None,
    };
    let units = plan_rows(kind, sources, request).units;
    assert_eq!(units.len(), 1);
    Arc::new(futures::executor::block_on(units[0].read()).unwrap())
}

fn cells(rows: &SortedRows) -> Cells {
    let mut cells = Cells::new();
    for run in &rows.runs {
        let series = run.series.labels.get("host").unwrap().parse().unwrap();
        for row in run.rows() {
            for (field, name) in FIELDS.iter().enumerate() {
                let array = rows.array(name).unwrap();
                let array = array.as_primitive::<Int64Type>();
                if array.is_valid(row) {
                    let before = cells.insert((series, rows.time[row], field), array.value(row));
                    assert_eq!(before, None, "two rows of one time");
                }
            }
        }
    }
    cells
}

/// What must be there in the end.
fn expected(kind: TableKind, writes: &[Write]) -> Cells {
    let mut cells = Cells::new();
    for (order, write) in (FIRST..).zip(writes) {
        for field in 0..FIELDS.len() {
            let cell = (write.series, write.time, field);
            match write.has[field] {
                true => drop(cells.insert(cell, order as i64)),
                // A sample is replaced whole.
                false if kind == TableKind::Metrics => drop(cells.remove(&cell)),
                false => {}
            }
        }
    }
    cells
}

const FIRST: u64 = 1 << 56;

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let has = prop_oneof![Just([true, false]), Just([false, true]), Just([true, true])];
    let write = (
        0..3usize,
        0..2usize,
        0..3i64,
        has,
        prop::bool::weighted(0.3),
    );
    let write = write.prop_map(|(process, series, time, has, begins)| Write {
        process,
        series,
        time,
        has,
        begins,
    });
    prop::collection::vec(write, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_later_write_counts_whoever_took_it(
        writes in writes(),
        merges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..5),
        is_wide: bool,
    ) {
        let kind = if is_wide { TableKind::Wide } else { TableKind::Metrics };
        let mut chunks: Vec<Vec<(u64, Write)>> = Vec::new();
        let mut open = [None; 3];
        for (order, write) in (FIRST..).zip(&writes) {
            let at = match open[write.process] {
                Some(at) if !write.begins => at,
                _ => {
                    chunks.push(Vec::new());
                    chunks.len() - 1
                }
            };
            open[write.process] = Some(at);
            chunks[at].push((order, write.clone()));
        }
        let mut sources: Vec<_> = chunks.into_iter().map(|writes| chunk(kind, writes)).collect();
        // What flushes, consolidation and merges do meanwhile, in any order.
        for (one, other) in merges {
            if sources.len() < 2 {
                break;
            }
            let one = sources.remove(one.index(sources.len()));
            let other = sources.remove(other.index(sources.len()));
            let order = one.0.union(other.0);
            sources.push((order, merged(kind, vec![one, other], fields_with_orders())));
        }
        let all = merged(kind, sources.clone(), wanted_fields().into());
        prop_assert_eq!(cells(&all), expected(kind, &writes));
        // A row that comes twice, out of memory and out of a segment, changes nothing.
        let twice = sources.iter().chain(&sources).cloned().collect();
        let all = merged(kind, twice, wanted_fields().into());
        prop_assert_eq!(cells(&all), expected(kind, &writes));
    }
}
