use tidelake_catalog::memory::MemoryBudget;

use super::*;
use crate::memory::QueryMemory;
use crate::test_tables::Cell::{Float, Integer, Text};
use crate::test_tables::{DATABASE, TestTables, matchers, row, sample, words};

const MS: i64 = 1_000_000;

/// A metrics table, and wide tables with and without tags and numbers.
async fn tables() -> TestTables {
    let test = TestTables::new().await;
    let rows = [
        sample("up instance=1 job=a", 10, 1.0),
        sample("up job=b", 10, 1.0),
    ];
    test.flush(METRICS_TABLE, &rows).await;
    let rows = [sample("up job=b", 20, 1.0), sample("go job=a", 20, 1.0)];
    test.flush(METRICS_TABLE, &rows).await;
    test.buffer(
        METRICS_TABLE,
        &[sample("up job=b", 30, 1.0), sample("load", 30, 1.0)],
    )
    .await;
    let fields = [
        ("usage", Float(1.0)),
        ("idle", Integer(1)),
        ("note", Text("x")),
    ];
    test.flush(
        "cpu",
        &[
            row("host=b", 10 * MS, &fields),
            row("host=a", 10 * MS, &fields),
        ],
    )
    .await;
    test.flush("cpu", &[row("host=b rack=r", 20 * MS, &fields)])
        .await;
    test.buffer("disk", &[row("", 30 * MS, &[("free", Integer(1))])])
        .await;
    test.flush("log", &[row("level=info", 10 * MS, &[("text", Text("y"))])])
        .await;
    test
}

fn sets(selectors: &[&str]) -> Vec<Vec<Matcher>> {
    selectors.iter().map(|text| matchers(text)).collect()
}

fn search() -> Search {
    Search::new(&QueryMemory::unlimited().pool(), None).unwrap()
}

async fn check_series(test: &TestTables, selectors: &[&str], range: TimeRange, expected: &[&str]) {
    let found = series(&test.tables, DATABASE, &sets(selectors), range, search()).await;
    let (found, _) = found.unwrap();
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    let found: Vec<String> = found.iter().map(words).collect();
    assert_eq!(found, expected, "{selectors:?} {range:?}");
}

async fn check_names(test: &TestTables, selectors: &[&str], range: TimeRange, expected: &str) {
    let found = names(&test.tables, DATABASE, &sets(selectors), range, search()).await;
    let (found, _) = found.unwrap();
    assert_eq!(found.join(" "), expected, "{selectors:?} {range:?}");
}

async fn check_values(
    test: &TestTables,
    label: &str,
    selectors: &[&str],
    range: TimeRange,
    expected: &str,
) {
    let sets = sets(selectors);
    let found = values(&test.tables, DATABASE, label, &sets, range, search()).await;
    let (found, _) = found.unwrap();
    assert_eq!(found.join(" "), expected, "{label} {selectors:?} {range:?}");
}

#[tokio::test]
async fn series_of_any_set_come_once_in_order() {
    let (test, all) = (tables().await, TimeRange::ALL);
    let everything = [
        "cpu_idle host=a",
        "cpu_idle host=b",
        "cpu_idle host=b rack=r",
        "cpu_usage host=a",
        "cpu_usage host=b",
        "cpu_usage host=b rack=r",
        "disk_free",
        "go job=a",
        "load",
        "up instance=1 job=a",
        "up job=b",
    ];
    check_series(&test, &[], all, &everything).await;
    check_series(&test, &["up"], all, &everything[9..]).await;
    let selectors = ["up", r#"{job="a"}"#, "none"];
    let expected = ["go job=a", "up instance=1 job=a", "up job=b"];
    check_series(&test, &selectors, all, &expected).await;
    let selectors = [r#"{__name__="cpu_usage",host=~"a|b",rack=""}"#, "disk_free"];
    let expected = ["cpu_usage host=a", "cpu_usage host=b", "disk_free"];
    check_series(&test, &selectors, all, &expected).await;
    check_series(&test, &["cpu_note", "log_text"], all, &[]).await;
    let range = TimeRange::new(15, 20);
    let expected = [
        "cpu_idle host=b rack=r",
        "cpu_usage host=b rack=r",
        "go job=a",
        "up job=b",
    ];
    check_series(&test, &[], range, &expected).await;
}

#[tokio::test]
async fn names_are_those_of_series_that_pass() {
    let (test, all) = (tables().await, TimeRange::ALL);
    check_names(&test, &[], all, "__name__ host instance job rack").await;
    check_names(&test, &["up"], all, "__name__ instance job").await;
    check_names(&test, &["go"], all, "__name__ job").await;
    check_names(
        &test,
        &["go", r#"cpu_usage{host="a"}"#],
        all,
        "__name__ host job",
    )
    .await;
    check_names(&test, &[r#"{host="b"}"#], all, "__name__ host rack").await;
    check_names(&test, &["disk_free"], all, "__name__").await;
    check_names(&test, &["none", "cpu_note", r#"{host="c"}"#], all, "").await;
    check_names(&test, &[], TimeRange::new(11, 20), "__name__ host job rack").await;
    check_names(&test, &["disk_free"], TimeRange::new(0, 29), "").await;
}

#[tokio::test]
async fn values_are_those_of_series_that_pass() {
    let (test, all) = (tables().await, TimeRange::ALL);
    let metrics = "cpu_idle cpu_usage disk_free go load up";
    check_values(&test, METRIC_NAME, &[], all, metrics).await;
    check_values(&test, "job", &[], all, "a b").await;
    check_values(&test, "host", &[], all, "a b").await;
    check_values(&test, "job", &["go"], all, "a").await;
    check_values(&test, "job", &["go", r#"up{instance=""}"#], all, "a b").await;
    check_values(&test, "host", &[r#"cpu_idle{rack="r"}"#], all, "b").await;
    check_values(&test, METRIC_NAME, &[r#"{job="a"}"#], all, "go up").await;
    check_values(
        &test,
        METRIC_NAME,
        &[r#"{rack="r"}"#],
        all,
        "cpu_idle cpu_usage",
    )
    .await;
    check_values(
        &test,
        METRIC_NAME,
        &[r#"{__name__=~"cpu_u.*|go"}"#],
        all,
        "cpu_usage go",
    )
    .await;
    check_values(&test, "rack", &["up"], all, "").await;
    // No series of this table is a metric.
    check_values(&test, "level", &[], all, "").await;
    check_values(&test, "host", &[], TimeRange::new(11, 20), "b").await;
    check_values(
        &test,
        METRIC_NAME,
        &[],
        TimeRange::new(21, 30),
        "disk_free load up",
    )
    .await;
}

#[tokio::test]
async fn the_name_of_a_field_stands_for_a_tag_of_that_name() {
    let (test, all) = (TestTables::new().await, TimeRange::ALL);
    test.flush("cpu", &[row("tagged host=a", MS, &[("usage", Float(1.0))])])
        .await;
    check_series(&test, &[], all, &["cpu_usage host=a"]).await;
    check_names(&test, &[], all, "__name__ host").await;
    check_values(&test, METRIC_NAME, &[], all, "cpu_usage").await;
    check_series(&test, &["tagged"], all, &[]).await;
}

#[tokio::test]
async fn deleted_and_expired_series_have_no_labels() {
    let (test, all) = (tables().await, TimeRange::ALL);
    let of_a = matchers(r#"{host="a"}"#);
    let deleted = test.catalog.delete(DATABASE, "cpu", of_a, TimeRange::ALL);
    deleted.await.unwrap();
    check_values(&test, "host", &[], all, "b").await;
    check_names(&test, &[r#"{host="a"}"#], all, "").await;
    let expected = ["cpu_usage host=b", "cpu_usage host=b rack=r"];
    check_series(&test, &["cpu_usage"], all, &expected).await;
    let dropped = test.catalog.drop_table(DATABASE, METRICS_TABLE);
    dropped.await.unwrap();
    check_values(&test, METRIC_NAME, &[], all, "cpu_idle cpu_usage disk_free").await;
}

#[tokio::test]
async fn without_sets_each_series_is_visited_once() {
    let test = tables().await;
    let mut visited = Vec::new();
    let mut search = search();
    let visiting = visit(
        &test.tables,
        DATABASE,
        &[],
        TimeRange::ALL,
        &mut search,
        |labels, name| {
            visited.push(format!("{} {}", name.unwrap_or("-"), words(labels)));
            0
        },
    );
    visiting.await.unwrap();
    visited.sort();
    assert_eq!((visited.len(), &*visited[0]), (11, "- go job=a"));
    visited.dedup();
    assert_eq!(visited.len(), 11);
}

#[tokio::test]
async fn the_field_of_a_selector_is_one_with_values() {
    let test = tables().await;
    let check = async |selector: &str, range, expected: Option<(&str, &str)>| {
        let found = selected_field(&test.tables, DATABASE, &matchers(selector), range).await;
        let expected = expected.map(|(table, name)| (table.to_owned(), name.to_owned()));
        assert_eq!(found.unwrap(), expected, "{selector}");
    };
    let all = TimeRange::ALL;
    check("cpu_usage", all, Some(("cpu", "cpu_usage"))).await;
    check(r#"{host="a"}"#, all, Some(("cpu", "cpu_idle"))).await;
    check(r#"cpu_usage{host="c"}"#, all, None).await;
    check("up", all, None).await;
    check("cpu_note", all, None).await;
    let late = TimeRange::new(21, 99);
    check(r#"{__name__=~".+"}"#, late, Some(("disk", "disk_free"))).await;
}

#[tokio::test]
async fn lists_end_when_memory_or_time_does() {
    let (test, all) = (tables().await, TimeRange::ALL);
    let pool = QueryMemory::new(MemoryBudget::unlimited(), 100).pool();
    let memory = || Search::new(&pool, None).unwrap();
    let unlimited = QueryMemory::unlimited().pool();
    let time = || Search::new(&unlimited, Some(Instant::now())).unwrap();
    let tables = &test.tables;
    for (search, is_late) in [(&memory as &dyn Fn() -> Search, false), (&time, true)] {
        let errors = [
            series(tables, DATABASE, &[], all, search()).await.err(),
            names(tables, DATABASE, &[], all, search()).await.err(),
            values(tables, DATABASE, METRIC_NAME, &[], all, search())
                .await
                .err(),
        ];
        for error in errors {
            match error.unwrap() {
                LabelError::Timeout => assert!(is_late),
                LabelError::Memory(_) => assert!(!is_late),
                other => panic!("{other}"),
            }
        }
        assert_eq!((pool.used(), unlimited.used()), (0, 0));
    }
    let key = test.flush(METRICS_TABLE, &[sample("up", 40, 1.0)]).await[0].index_key();
    test.lose(&key).await;
    let failed = series(tables, DATABASE, &[], all, search()).await;
    assert!(failed.unwrap_err().to_string().contains(&key));
}

#[test]
fn a_search_ends_when_memory_or_time_does() {
    let pool = QueryMemory::new(MemoryBudget::unlimited(), 1_000_000).pool();
    let collect = |deadline| {
        let mut search = Search::new(&pool, deadline).unwrap();
        (0..100_000).find_map(|_| search.collected(100).err())
    };
    match collect(None) {
        Some(LabelError::Memory(error)) => {
            let text = error.to_string();
            assert!(text.contains("max_query_memory_bytes"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let now = Some(Instant::now());
    assert!(matches!(collect(now), Some(LabelError::Timeout)));
    assert_eq!(pool.used(), 0);
}

#[test]
fn a_list_holds_its_texts() {
    let pool = QueryMemory::new(MemoryBudget::unlimited(), 1_000_000).pool();
    let mut search = Search::new(&pool, None).unwrap();
    let mut texts = Texts::default();
    for i in 0..10_000 {
        search
            .collected(texts.add(&(i % 5_000).to_string()))
            .unwrap();
    }
    let (list, held) = texts.into_list(search).unwrap();
    assert_eq!((list.len(), &*list[1]), (5_000, "1"));
    let least = 5_000 * size_of::<String>();
    assert!((least..2 * least).contains(&held.bytes()), "{held:?}");
    drop(held);
    assert_eq!(pool.used(), 0);
}
