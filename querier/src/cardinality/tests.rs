use super::*;
use crate::memory::QueryMemory;
use crate::test_tables::Cell::{Float, Integer, Text};
use crate::test_tables::{DATABASE, TestTables, row, sample};

#[test]
fn rankings_have_the_largest_first_and_no_more_than_asked_for() {
    let check = |most: usize, expected: &[(&str, u64)]| {
        let counts = [("b", 2), ("a", 2), ("d", 9), ("c", 1)];
        let expected: Ranking = expected
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        assert_eq!(
            top(counts.into_iter(), most, |name| (*name).to_owned()),
            expected
        );
    };
    check(0, &[]);
    check(1, &[("d", 9)]);
    check(2, &[("d", 9), ("a", 2)]);
    check(9, &[("d", 9), ("a", 2), ("b", 2), ("c", 1)]);
}

async fn found(test: &TestTables, range: TimeRange) -> Cardinality {
    let search = Search::new(&QueryMemory::unlimited().pool(), None).unwrap();
    let found = cardinality(&test.tables, DATABASE, range, 9, search).await;
    found.unwrap().0
}

fn shown(ranking: &Ranking) -> Vec<(&str, u64)> {
    let shown = ranking.iter().map(|(name, count)| (name.as_str(), *count));
    shown.collect()
}

#[tokio::test]
async fn samples_are_counted_and_bytes_shared_out_by_rows() {
    let test = TestTables::new().await;
    let up = |from: i64, to: i64| (from..to).map(|at| sample("up job=a", at, 1.0));
    let mut rows: Vec<_> = up(0, 30).collect();
    rows.extend((0..10).map(|at| sample("go job=a", at, 1.0)));
    test.flush(METRICS_TABLE, &rows).await;
    // Overwrites some, and others follow which are in no file.
    let rows: Vec<_> = up(25, 35).collect();
    test.flush(METRICS_TABLE, &rows).await;
    let rows: Vec<_> = up(100, 105).collect();
    test.buffer(METRICS_TABLE, &rows).await;
    let all = found(&test, TimeRange::ALL).await;
    assert_eq!(shown(&all.samples_by_metric), [("up", 45), ("go", 10)]);
    assert_eq!(all.stored.samples, 55);
    let segments: Vec<u64> = {
        let snapshot = test.tables.snapshot();
        let table = snapshot.table(DATABASE, METRICS_TABLE).unwrap();
        let segments = table.segments(TimeRange::ALL);
        segments.map(|segment| segment.data_bytes).collect()
    };
    let [one, other] = segments[..] else {
        panic!("two segments: {segments:?}");
    };
    let (first, second) = (one.max(other), one.min(other));
    assert!(all.stored.bytes.abs_diff(first + second) <= 1);
    let quarter = first / 4;
    let [("up", up_bytes), ("go", go_bytes)] = shown(&all.stored_bytes_by_metric)[..] else {
        panic!("{:?}", all.stored_bytes_by_metric);
    };
    assert!(go_bytes.abs_diff(quarter) <= 1, "{go_bytes} of {first}");
    assert!(up_bytes.abs_diff(first - quarter + second) <= 2);
    // Of a segment that reaches into the range, all rows of its series count.
    let late = found(&test, TimeRange::new(33, 99)).await;
    assert_eq!(shown(&late.samples_by_metric), [("up", 10)]);
    assert_eq!(late.stored.bytes, second);
}

#[tokio::test]
async fn fields_share_the_bytes_of_their_table() {
    let test = TestTables::new().await;
    let noise = |at: i64| Float((at as f64 * 0.7345).sin());
    let rows: Vec<_> = (0..2000)
        .map(|at: i64| {
            let text = if at % 2 == 0 { "even" } else { "odd" };
            let mut fields = vec![("noise", noise(at)), ("note", Text(text))];
            if at % 4 == 0 {
                fields.push(("flat", Integer(1)));
            }
            row("host=a", at * 1_000_000, &fields)
        })
        .collect();
    test.flush("cpu", &rows).await;
    let all = found(&test, TimeRange::ALL).await;
    let samples = [("cpu_noise", 2000), ("cpu_flat", 500)];
    assert_eq!(shown(&all.samples_by_metric), samples);
    let [("cpu_noise", noise), ("cpu_flat", flat)] = shown(&all.stored_bytes_by_metric)[..] else {
        panic!("{:?}", all.stored_bytes_by_metric);
    };
    // Noise cannot be compressed; texts take some bytes as well, and are no samples.
    let snapshot = test.tables.snapshot();
    let table = snapshot.table(DATABASE, "cpu").unwrap();
    let bytes: u64 = table
        .segments(TimeRange::ALL)
        .map(|segment| segment.data_bytes)
        .sum();
    assert!(noise > 10 * flat && flat > 0, "{noise} {flat}");
    assert!(noise + flat < bytes && noise > bytes / 2, "{noise} {bytes}");
}

#[tokio::test]
async fn sizes_end_when_memory_does() {
    let test = TestTables::new().await;
    test.flush(METRICS_TABLE, &[sample("up job=a", 1, 1.0)])
        .await;
    let budget = tidelake_catalog::memory::MemoryBudget::unlimited();
    let search = Search::new(&QueryMemory::new(budget, 600).pool(), None).unwrap();
    let found = cardinality(&test.tables, DATABASE, TimeRange::ALL, 9, search).await;
    assert!(matches!(found, Err(LabelError::Memory(_))), "{found:?}");
}
