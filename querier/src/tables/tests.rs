mod views;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidelake_catalog::snapshot::Retention;

use super::*;
use crate::test_tables::Cell::{Boolean, Float, Integer};
use crate::test_tables::{
    DATABASE, HOUR_MS, NOW_MS, Row, TestTables, labels, matchers, row, sample, words,
};

const DAY_NS: i64 = 86_400_000_000_000;

fn usage(host: &str, time: i64, value: f64) -> Row {
    row(&format!("host={host}"), time, &[("usage", Float(value))])
}

/// Where the rows of a table may be, as first and last time of each source.
async fn places(tables: &Tables, table: &str, range: TimeRange) -> Vec<String> {
    let found = tables.sources(DATABASE, table, range).await.unwrap();
    let place = |source: &Source| match source {
        Source::Segment(_, _, segment) => {
            let time = segment.location().time;
            format!("segment {}..={}", time.min, time.max)
        }
        Source::Rows(_, rows) => {
            let time = rows.time_range().unwrap();
            format!("rows {}..={}", time.min, time.max)
        }
    };
    found.unwrap().sources.iter().map(place).collect()
}

/// All rows that a scan gives, with the fields that they have.
async fn scanned(
    tables: &Tables,
    table: &str,
    range: TimeRange,
) -> Result<Vec<String>, SegmentError> {
    let snapshot = tables.snapshot();
    let schema = &snapshot.table(DATABASE, table).unwrap().schema;
    let request = ScanRequest {
        fields: schema.fields().cloned().collect(),
        matchers: Vec::new(),
        range,
        edge: None,
    };
    let mut found = Vec::new();
    for unit in tables.scan(DATABASE, table, request).await?.units {
        let rows = tables.read(&unit).await?;
        let options = FormatOptions::default();
        let arrays = rows.columns.iter().map(|column| column.to_array());
        let arrays: Vec<_> = arrays.collect();
        for run in &rows.runs {
            for at in run.rows() {
                let cells = rows.fields.iter().zip(&arrays);
                let cells = cells.filter(|(_, array)| array.is_valid(at));
                let cells = cells.map(|(field, array)| {
                    let value = ArrayFormatter::try_new(array, &options).unwrap();
                    format!(" {}={}", field.name, value.value(at))
                });
                let cells: String = cells.collect();
                let series = words(&run.series.labels);
                found.push(format!("{series} @{}{cells}", rows.time[at]));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn a_range_finds_the_segments_and_chunks_that_overlap_it() {
    let test = TestTables::new().await;
    let pair = |from, to| [usage("a", from, 1.0), usage("b", to, 2.0)];
    test.flush("cpu", &pair(10, 20)).await;
    test.flush("cpu", &pair(30, 40)).await;
    test.flush("cpu", &pair(DAY_NS - 5, DAY_NS + 5)).await;
    test.buffer("cpu", &pair(35, 50)).await;
    let check = async |min, max, expected: &[&str]| {
        let found = places(&test.tables, "cpu", TimeRange::new(min, max)).await;
        assert_eq!(found, expected, "{min}..={max}");
    };
    let (first, second, rows) = ("segment 10..=20", "segment 30..=40", "rows 35..=50");
    let (evening, morning) = (
        "segment 86399999999995..=86399999999995",
        "segment 86400000000005..=86400000000005",
    );
    let all = [first, second, evening, morning, rows];
    check(i64::MIN, i64::MAX, &all).await;
    check(i64::MIN, 9, &[]).await;
    check(20, 29, &[first]).await;
    check(21, 29, &[]).await;
    check(20, 34, &[first, second]).await;
    check(41, 50, &[rows]).await;
    check(DAY_NS - 5, DAY_NS - 1, &[evening]).await;
    check(DAY_NS, i64::MAX, &[morning]).await;
}

#[tokio::test]
async fn a_table_that_does_not_exist_has_nothing() {
    let test = TestTables::new().await;
    test.flush("cpu", &[usage("a", 1, 1.0)]).await;
    for (database, table) in [(DATABASE, "disk"), ("other", "cpu")] {
        let all = TimeRange::ALL;
        let found = test.tables.sources(database, table, all).await.unwrap();
        assert!(found.is_none());
        let series = test.tables.series(database, table, &[], all).await.unwrap();
        assert!(series.is_empty());
        let texts = test
            .tables
            .label_texts(database, table, LabelTexts::Names, &[], all);
        assert!(texts.await.unwrap().is_empty());
        let has_series = test.tables.has_series(database, table, &[], all);
        assert!(!has_series.await.unwrap());
    }
}

#[tokio::test]
async fn expired_rows_are_in_no_source_or_are_cut() {
    let test = TestTables::new().await;
    let at = |hours: i64, value| sample("up", NOW_MS - hours * HOUR_MS, value);
    test.flush(METRICS_TABLE, &[at(9, 9.0), at(8, 8.0)]).await;
    test.flush(METRICS_TABLE, &[at(7, 7.0), at(1, 1.0)]).await;
    test.buffer(METRICS_TABLE, &[at(6, 6.0), at(2, 2.0)]).await;
    let check = async |expected: &[i64], sources: usize| {
        let expected: Vec<String> = expected
            .iter()
            .map(|hours| format!("up @{} value={hours}.0", NOW_MS - hours * HOUR_MS))
            .collect();
        let all = TimeRange::ALL;
        let found = scanned(&test.tables, METRICS_TABLE, all).await.unwrap();
        assert_eq!(found, expected);
        let found = places(&test.tables, METRICS_TABLE, all).await;
        assert_eq!(found.len(), sources, "{found:?}");
    };
    let keep = async |table, retention| {
        let set = test.catalog.set_retention(DATABASE, table, retention);
        set.await.unwrap();
    };
    check(&[9, 8, 7, 6, 2, 1], 3).await;
    let hours = |hours: i64| Retention::Millis((hours * HOUR_MS + HOUR_MS / 2) as u64);
    keep(None, hours(6)).await;
    // A part of the second segment is not expired, but none of the first.
    check(&[6, 2, 1], 2).await;
    keep(Some(METRICS_TABLE), hours(1)).await;
    check(&[1], 2).await;
    keep(Some(METRICS_TABLE), Retention::Forever).await;
    check(&[9, 8, 7, 6, 2, 1], 3).await;
}

#[tokio::test]
async fn times_that_are_kept_are_in_the_unit_of_the_table() {
    let test = TestTables::new().await;
    test.flush("cpu", &[usage("a", NOW_MS * 1_000_000, 1.0)])
        .await;
    let day = Retention::Millis(24 * HOUR_MS as u64);
    let set = test.catalog.set_retention(DATABASE, None, day);
    set.await.unwrap();
    let found = test.tables.sources(DATABASE, "cpu", TimeRange::ALL).await;
    let kept = found.unwrap().unwrap().kept;
    let yesterday = (NOW_MS - 24 * HOUR_MS) * 1_000_000;
    let since = yesterday..yesterday + HOUR_MS * 1_000_000;
    assert!(
        since.contains(&kept.min) && kept.max == i64::MAX,
        "{kept:?}"
    );
}

#[tokio::test]
async fn the_last_write_of_a_field_counts_and_deletes_leave_later_writes() {
    let test = TestTables::new().await;
    let both = [("usage", Float(1.0)), ("idle", Integer(1))];
    test.flush("cpu", &[row("host=a", 5, &both), usage("b", 5, 7.0)])
        .await;
    test.flush("cpu", &[usage("a", 5, 2.0), usage("a", 6, 6.0)])
        .await;
    test.buffer("cpu", &[row("host=a", 5, &[("idle", Integer(3))])])
        .await;
    test.buffer("cpu", &[row("host=a", 5, &[("idle", Integer(4))])])
        .await;
    let found = scanned(&test.tables, "cpu", TimeRange::new(0, 5)).await;
    let expected = ["host=a @5 idle=4 usage=2.0", "host=b @5 usage=7.0"];
    assert_eq!(found.unwrap(), expected);
    let (of_a, times) = (matchers(r#"{host="a"}"#), TimeRange::new(0, 5));
    let deleted = test.catalog.delete(DATABASE, "cpu", of_a, times);
    deleted.await.unwrap();
    let found = scanned(&test.tables, "cpu", TimeRange::ALL).await.unwrap();
    let expected = [
        "host=a @5 idle=4",
        "host=a @6 usage=6.0",
        "host=b @5 usage=7.0",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn rows_that_are_flushed_while_they_are_looked_for_come_once() {
    let test = Arc::new(TestTables::new().await);
    let rows = [usage("a", 5, 1.0)];
    test.buffer("cpu", &rows).await;
    let flush = |test: Arc<TestTables>, rows: [Row; 1]| async move {
        test.flush("cpu", &rows).await;
        test.recent.clear();
    };
    test.recent
        .meanwhile(flush(Arc::clone(&test), rows.clone()));
    let found = places(&test.tables, "cpu", TimeRange::ALL).await;
    assert_eq!(found, ["segment 5..=5", "rows 5..=5"]);
    test.buffer("cpu", &rows).await;
    test.recent.meanwhile(flush(Arc::clone(&test), rows));
    let found = scanned(&test.tables, "cpu", TimeRange::ALL).await;
    assert_eq!(found.unwrap(), ["host=a @5 usage=1.0"]);
}

#[tokio::test]
async fn rows_that_are_deleted_while_they_are_looked_for_do_not_come() {
    let test = Arc::new(TestTables::new().await);
    let rows = [usage("a", 5, 1.0)];
    test.buffer("cpu", &rows).await;
    let other = Arc::clone(&test);
    test.recent.meanwhile(async move {
        other.flush("cpu", &rows).await;
        other.recent.clear();
        let all = TimeRange::ALL;
        let deleted = other.catalog.delete(DATABASE, "cpu", Vec::new(), all);
        deleted.await.unwrap();
    });
    let found = scanned(&test.tables, "cpu", TimeRange::ALL).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn tables_and_metrics_have_names() {
    let test = TestTables::new().await;
    assert!(test.tables.wide_tables(DATABASE).is_empty());
    assert!(test.tables.databases().is_empty());
    test.flush("mem", &[row("", 1, &[("free", Boolean(true))])])
        .await;
    test.buffer("cpu", &[usage("a", 1, 1.0)]).await;
    test.flush(
        METRICS_TABLE,
        &[sample("up job=a", 1, 1.0), sample("go", 1, 1.0)],
    )
    .await;
    test.flush(METRICS_TABLE, &[sample("up job=b", 1, 1.0)])
        .await;
    test.buffer(METRICS_TABLE, &[sample("load", 1, 1.0)]).await;
    let wide = test.tables.wide_tables(DATABASE);
    let names: Vec<&str> = wide.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["cpu", "mem"]);
    assert_eq!(wide[0].1.columns.len(), 2);
    assert_eq!(test.tables.databases(), [DATABASE]);
    let metrics = test.tables.metric_names(DATABASE).await.unwrap();
    assert_eq!(metrics, ["go", "load", "up"]);
    assert!(test.tables.metric_names("other").await.unwrap().is_empty());
}

#[tokio::test]
async fn series_pass_matchers_and_come_once() {
    let test = TestTables::new().await;
    let both = [usage("a", 5, 1.0), usage("b", 9, 1.0)];
    test.flush("cpu", &both).await;
    test.flush("cpu", &[usage("a", 15, 1.0)]).await;
    test.buffer("cpu", &[usage("a", 25, 1.0), usage("c", 25, 1.0)])
        .await;
    let check = async |selector: &str, min, max, expected: &[&str]| {
        let (matchers, range) = (matchers(selector), TimeRange::new(min, max));
        let found = test.tables.series(DATABASE, "cpu", &matchers, range).await;
        let mut found: Vec<_> = found
            .unwrap()
            .iter()
            .map(|one| words(&one.labels))
            .collect();
        found.sort();
        assert_eq!(found, expected, "{selector} {range:?}");
        let has_series = test.tables.has_series(DATABASE, "cpu", &matchers, range);
        assert_eq!(has_series.await.unwrap(), !expected.is_empty());
    };
    check("", 0, 99, &["host=a", "host=b", "host=c"]).await;
    check("", 10, 20, &["host=a"]).await;
    check("", 16, 24, &[]).await;
    check(r#"{host=~"b|c"}"#, 0, 99, &["host=b", "host=c"]).await;
    check(r#"{host!="a",host=~".+"}"#, 16, 99, &["host=c"]).await;
    check(r#"{host="b"}"#, 10, 99, &[]).await;
    let found = test.tables.series(DATABASE, "cpu", &[], TimeRange::ALL);
    assert_eq!(found.await.unwrap()[0].id, labels("host=a").series_id());
}
