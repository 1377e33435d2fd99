//! Writes and deletes of any order: selectors give what a map of all rows does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::labels::Search;
use crate::sorted_samples::SortedSamples;
use crate::test_tables::labels as parsed;

const ANY: &str = r#"{__name__=~".+"}"#;
/// Shortly before midnight, so that rows of one write may be of two days.
const BEGIN_MS: i64 = 86_400_000 - 10;
/// Times of wide tables: several are in a millisecond.
const STEP_NS: i64 = 400_000;
const STEPS: i64 = 40;

/// Which field of which host has which value when.
type Cells = Vec<(u8, i64, bool, i32)>;

#[derive(Debug, Clone)]
enum Step {
    Flush(Table, Cells),
    Buffer(Table, Cells),
    /// Deletes what is flushed of a host, from one time to another.
    Delete(Table, u8, i64, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Metrics,
    Wide,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Metrics => METRICS_TABLE,
            Self::Wide => "w",
        }
    }

    fn time(self, step: i64) -> i64 {
        match self {
            Self::Metrics => BEGIN_MS + step,
            Self::Wide => BEGIN_MS * MS + step * STEP_NS,
        }
    }

    fn series(self, host: u8) -> String {
        match self {
            Self::Metrics => format!("m host={host}"),
            Self::Wide => format!("host={host}"),
        }
    }

    fn field(self, is_second: bool) -> &'static str {
        match (self, is_second) {
            (Self::Metrics, _) => "value",
            (Self::Wide, false) => "a",
            (Self::Wide, true) => "b",
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let table = || prop_oneof![Just(Table::Metrics), Just(Table::Wide)];
    let cell = || (0u8..4, 0..STEPS, any::<bool>(), any::<i32>());
    let cells = || prop::collection::vec(cell(), 1..30);
    let step = prop_oneof![
        4 => (table(), cells()).prop_map(|(table, cells)| Step::Flush(table, cells)),
        2 => (table(), cells()).prop_map(|(table, cells)| Step::Buffer(table, cells)),
        1 => (table(), 0u8..4, 0..STEPS, 0..STEPS)
            .prop_map(|(table, host, from, to)| Step::Delete(table, host, from, to.max(from))),
    ];
    prop::collection::vec(step, 0..8)
}

/// Fields of rows, by table, host and time.
type Rows = BTreeMap<(Table, u8, i64), BTreeMap<&'static str, f64>>;

fn rows_of(table: Table, cells: &Cells) -> Rows {
    let mut rows = Rows::new();
    for (host, step, is_second, value) in cells {
        let row = rows.entry((table, *host, table.time(*step))).or_default();
        row.insert(table.field(*is_second), f64::from(*value));
    }
    rows
}

fn written(rows: &Rows) -> Vec<Row> {
    let written = rows.iter().map(|((table, host, time), fields)| {
        let cells = fields.iter().map(|(name, value)| (*name, Float(*value)));
        row(&table.series(*host), *time, &cells.collect::<Vec<_>>())
    });
    written.collect()
}

/// Rows over those that were there.
fn put_over(below: &mut Rows, rows: Rows) {
    for (key, fields) in rows {
        below.entry(key).or_default().extend(fields);
    }
}

/// Does the steps, and returns all rows that are left.
async fn run(test: &TestTables, steps: &[Step]) -> Rows {
    let (mut flushed, mut recent) = (Rows::new(), Rows::new());
    for step in steps {
        match step {
            Step::Flush(table, cells) => {
                let rows = rows_of(*table, cells);
                test.flush(table.name(), &written(&rows)).await;
                put_over(&mut flushed, rows);
            }
            Step::Buffer(table, cells) => {
                let rows = rows_of(*table, cells);
                test.buffer(table.name(), &written(&rows)).await;
                put_over(&mut recent, rows);
            }
            Step::Delete(table, host, from, to) => {
                if test
                    .tables
                    .snapshot()
                    .table(DATABASE, table.name())
                    .is_none()
                {
                    continue;
                }
                let times = TimeRange::new(table.time(*from), table.time(*to));
                let of_host = matchers(&format!(r#"{{host="{host}"}}"#));
                let deleted = test.catalog.delete(DATABASE, table.name(), of_host, times);
                deleted.await.unwrap();
                flushed.retain(|(of, one, time), _| {
                    (*of, *one) != (*table, *host) || !times.contains(*time)
                });
            }
        }
    }
    put_over(&mut flushed, recent);
    flushed
}

/// The samples of all series in a range of milliseconds.
fn expected(rows: &Rows, range: TimeRange) -> BTreeMap<Labels, Vec<(i64, f64)>> {
    let mut found: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    for ((table, host, time), fields) in rows {
        for (field, value) in fields {
            let (name, time) = match table {
                Table::Metrics => ("m".to_owned(), *time),
                Table::Wide => (format!("w_{field}"), time.div_euclid(MS)),
            };
            if range.contains(time) {
                let series = parsed(&format!("{name} host={host}"));
                found.entry(series).or_default().insert(time, *value);
            }
        }
    }
    let samples = found
        .into_iter()
        .map(|(series, samples)| (series, samples.into_iter().collect()));
    samples.collect()
}

fn samples_of(series: &SeriesSamples) -> (Labels, Vec<(i64, f64)>) {
    let samples = series.times.iter().zip(series.values.iter());
    let samples = samples.map(|(time, value)| (*time, *value)).collect();
    (series.labels.clone(), samples)
}

async fn check_steps(steps: &[Step], range: TimeRange) {
    let test = TestTables::new().await;
    let rows = run(&test, steps).await;
    let expected = expected(&rows, range);
    let whole = |part| SelectRequest {
        range,
        part,
        ..request(ANY)
    };
    let selected = select(&test, whole(Part::WHOLE)).await.unwrap();
    let selected: Vec<_> = selected.iter().map(samples_of).collect();
    let mut parts = Vec::new();
    for index in 0..3 {
        let part = select(&test, whole(Part { index, of: 3 })).await.unwrap();
        parts.extend(part.iter().map(samples_of));
    }
    assert_eq!(parts, selected);
    assert_eq!(BTreeMap::from_iter(selected.clone()), expected);
    assert_eq!(selected.len(), expected.len(), "a series came twice");
    let (tables, matchers) = (test.tables.clone(), matchers(ANY));
    let (limits, pool) = (request(ANY).limits, QueryMemory::unlimited().pool());
    let sorted = SortedSamples::select(tables, DATABASE, &matchers, range, limits, u64::MAX, pool);
    let mut sorted = sorted.await.unwrap();
    for series in &expected {
        let next = sorted.next().await.unwrap().map(|next| samples_of(&next));
        assert_eq!(
            next.as_ref().map(|(labels, samples)| (labels, samples)),
            Some(series)
        );
    }
    assert!(sorted.next().await.unwrap().is_none());
    // Indexes do not know which rows have which field.
    let search = Search::new(&QueryMemory::unlimited().pool(), None).unwrap();
    let listed = labels::series(&test.tables, DATABASE, &[], range, search);
    let (listed, _) = listed.await.unwrap();
    for series in expected.keys() {
        assert!(listed.contains(series), "{series} is not listed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn selectors_give_what_a_map_of_all_rows_does(
        steps in steps(),
        from in -2..STEPS,
        length in 0..STEPS,
    ) {
        let range = TimeRange::new(BEGIN_MS + from, BEGIN_MS + from + length);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(check_steps(&steps, range));
    }
}
