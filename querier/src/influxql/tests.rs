//! Statements over a small database, half of it in segments. Answers are those of InfluxDB 1.x over
//! the same points.

use super::*;
use crate::test_tables::{Cell, DATABASE, TestTables, row};

/// 2021-03-01T00:00:00Z in ns.
const START: i64 = 1_614_556_800_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// `cpu`: host a at 0, 10, 20, 40 s, host b at 0, 30 s.
async fn tables() -> TestTables {
    let made = TestTables::new().await;
    let point = |host: &str, second: i64, usage: f64, load: Option<i64>| {
        let mut cells = vec![("usage", Cell::Float(usage))];
        cells.extend(load.map(|load| ("load", Cell::Integer(load))));
        row(&format!("host={host}"), START + second * SECOND, &cells)
    };
    let old = [
        point("a", 0, 1.5, Some(3)),
        point("a", 10, 4.5, None),
        point("b", 0, 8.0, Some(1)),
    ];
    made.flush("cpu", &old).await;
    let new = [
        point("a", 20, 3.0, Some(7)),
        point("a", 40, 3.0, Some(2)),
        point("b", 30, 2.0, Some(9)),
    ];
    made.buffer("cpu", &new).await;
    made
}

/// Seconds after the start, or the whole number if it is none.
fn shown_time(ns: i64) -> String {
    match (ns - START) % SECOND {
        0 if ns >= START - 1000 * SECOND => ((ns - START) / SECOND).to_string(),
        _ => format!("{ns}ns"),
    }
}

fn shown(answer: &InfluxqlAnswer) -> String {
    let mut lines = Vec::new();
    for series in &answer.series {
        let tags: Vec<String> = series
            .tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let name = series.name.as_deref().unwrap_or("-");
        lines.push(format!(
            "{name}{{{}}} {}",
            tags.join(","),
            series.columns.join(" ")
        ));
        for at in 0..series.len {
            let mut cells = Vec::new();
            cells.extend(series.times.as_ref().map(|times| shown_time(times[at])));
            cells.extend(series.values.iter().map(|column| match column.get(at) {
                ValueRef::Null => "-".to_owned(),
                ValueRef::Float(value) => format!("{value:?}"),
                ValueRef::Integer(value) => value.to_string(),
                ValueRef::Unsigned(value) => value.to_string(),
                ValueRef::Boolean(value) => value.to_string(),
                ValueRef::String(text) => text.to_owned(),
            }));
            lines.push(cells.join(" "));
        }
    }
    lines.join("\n")
}

async fn ask_with(
    made: &TestTables,
    options: &EngineOptions,
    text: &str,
) -> Result<String, InfluxqlError> {
    let statements = parse(text, &Params::new())?;
    let scope = Scope {
        database: Some(DATABASE),
        policy: None,
        may_read: &|_| true,
    };
    let now = START + 3600 * SECOND;
    let answer = answer(&made.tables, options, &statements[0], &scope, now).await?;
    Ok(shown(&answer))
}

#[track_caller]
fn check_all(cases: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let made = tables().await;
        for (text, expected) in cases {
            let got = ask_with(&made, &EngineOptions::default(), text).await;
            let got = got.unwrap_or_else(|error| format!("error: {error}"));
            assert_eq!(got, *expected, "{text}");
        }
    });
}

#[test]
fn rows_as_they_are() {
    check_all(&[
        (
            "SELECT usage, load FROM cpu WHERE host = 'a'",
            "cpu{} time usage load\n0 1.5 3\n10 4.5 -\n20 3.0 7\n40 3.0 2",
        ),
        (
            "SELECT * FROM cpu LIMIT 3",
            "cpu{} time host load usage\n0 a 3 1.5\n0 b 1 8.0\n10 a - 4.5",
        ),
        (
            "SELECT usage AS u, usage, host FROM cpu WHERE load > 2 GROUP BY * ORDER BY time DESC",
            "cpu{host=b} time u usage host\n30 2.0 2.0 b\n\
             cpu{host=a} time u usage host\n20 3.0 3.0 a\n0 1.5 1.5 a",
        ),
        (
            "SELECT usage + load, -usage, usage / 0 FROM cpu WHERE host = 'b'",
            "cpu{} time usage_load usage usage_1\n0 9.0 -8.0 0.0\n30 11.0 -2.0 0.0",
        ),
        (
            "SELECT load::float, usage::integer FROM cpu WHERE time = '2021-03-01T00:00:40Z'",
            "cpu{} time load usage\n40 2.0 3",
        ),
        ("SELECT host FROM cpu", ""),
        ("SELECT nothing FROM cpu", ""),
        ("SELECT usage FROM cpu WHERE host = 'c'", ""),
        ("SELECT usage FROM cpu WHERE usage = 'text'", ""),
        (
            "SELECT usage FROM cpu WHERE rack = '' AND usage > 4",
            "cpu{} time usage\n0 8.0\n10 4.5",
        ),
        (
            "SELECT usage FROM cpu WHERE load = 3 fill(7)",
            "cpu{} time usage\n0 1.5",
        ),
        (
            "SELECT load FROM cpu WHERE host = 'a' OFFSET 1",
            "cpu{} time load\n20 7",
        ),
    ]);
}

#[test]
fn functions_stand_at_the_beginning_of_their_windows_or_at_their_points() {
    check_all(&[
        (
            "SELECT mean(usage), count(load) FROM cpu",
            "cpu{} time mean count\n0ns 3.6666666666666665 5",
        ),
        (
            "SELECT max(usage), load, host FROM cpu",
            "cpu{} time max load host\n0 8.0 1 b",
        ),
        (
            "SELECT max(usage), min(usage) FROM cpu WHERE time >= '2021-03-01T00:00:10Z'",
            "cpu{} time max min\n10 4.5 2.0",
        ),
        (
            "SELECT first(usage), load FROM cpu GROUP BY host",
            "cpu{host=a} time first load\n0 1.5 3\ncpu{host=b} time first load\n0 8.0 1",
        ),
        (
            "SELECT mean(usage) FROM cpu WHERE host = 'a' AND time >= '2021-03-01T00:00:00Z' AND \
             time < '2021-03-01T00:00:50Z' GROUP BY time(20s)",
            "cpu{} time mean\n0 3.0\n20 3.0\n40 3.0",
        ),
        (
            "SELECT sum(load), last(usage) FROM cpu WHERE time >= '2021-03-01T00:00:00Z' AND time < \
             '2021-03-01T00:01:00Z' GROUP BY time(15s, 5s), host fill(none)",
            "cpu{host=a} time sum last\n-10 3 1.5\n5 - 4.5\n20 7 3.0\n35 2 3.0\n\
             cpu{host=b} time sum last\n-10 1 8.0\n20 9 2.0",
        ),
        (
            "SELECT distinct(usage) FROM cpu",
            "cpu{} time distinct\n0ns 1.5\n0ns 8.0\n0ns 4.5\n0ns 3.0\n0ns 2.0",
        ),
        (
            "SELECT count(distinct(usage)), mode(usage), median(load) FROM cpu",
            "cpu{} time count mode median\n0ns 5 3.0 3.0",
        ),
        (
            "SELECT top(usage, host, 2) FROM cpu",
            "cpu{} time top host\n0 8.0 b\n10 4.5 a",
        ),
        (
            "SELECT bottom(usage, 2), load FROM cpu",
            "cpu{} time bottom load\n0 1.5 3\n30 2.0 9",
        ),
        (
            "SELECT percentile(usage, 50) FROM cpu GROUP BY host",
            "cpu{host=a} time percentile\n20 3.0\ncpu{host=b} time percentile\n30 2.0",
        ),
        (
            "SELECT integral(usage, 10s) FROM cpu WHERE host = 'a'",
            "cpu{} time integral\n0ns 12.75",
        ),
        (
            "SELECT stddev(usage), spread(load) FROM cpu WHERE host = 'b'",
            "cpu{} time stddev spread\n0ns 4.242640687119285 8",
        ),
        (
            "SELECT count(*) FROM cpu",
            "cpu{} time count_load count_usage\n0ns 5 6",
        ),
        (
            "SELECT sample(usage, 10) FROM cpu WHERE host = 'b'",
            "cpu{} time sample\n0 8.0\n30 2.0",
        ),
    ]);
}

#[test]
fn windows_without_points_are_filled() {
    let windows = |fill: &str| {
        format!(
            "SELECT mean(usage), count(usage) FROM cpu WHERE host = 'b' AND time >= \
             '2021-03-01T00:00:00Z' AND time < '2021-03-01T00:00:45Z' GROUP BY time(10s) {fill}"
        )
    };
    let expected = |second: &str, third: &str, last: &str| {
        format!("cpu{{}} time mean count\n0 8.0 1\n10 {second}\n20 {third}\n30 2.0 1\n40 {last}")
    };
    let cases = [
        (windows(""), expected("- 0", "- 0", "- 0")),
        (
            windows("fill(none)"),
            "cpu{} time mean count\n0 8.0 1\n30 2.0 1".to_owned(),
        ),
        (windows("fill(7)"), expected("7.0 7", "7.0 7", "7.0 7")),
        (
            windows("fill(previous)"),
            expected("8.0 1", "8.0 1", "2.0 1"),
        ),
        (windows("fill(linear)"), expected("6.0 1", "4.0 1", "- -")),
    ];
    for (text, expected) in &cases {
        check_all(&[(text, expected)]);
    }
}

#[test]
fn functions_of_consecutive_points() {
    check_all(&[
        (
            "SELECT derivative(usage, 10s) FROM cpu WHERE host = 'a'",
            "cpu{} time derivative\n10 3.0\n20 -1.5\n40 0.0",
        ),
        (
            "SELECT non_negative_difference(usage) FROM cpu WHERE host = 'a'",
            "cpu{} time non_negative_difference\n10 3.0\n40 0.0",
        ),
        (
            "SELECT elapsed(usage, 1s), cumulative_sum(usage) FROM cpu WHERE host = 'a'",
            "cpu{} time elapsed cumulative_sum\n0 - 1.5\n10 10 6.0\n20 10 9.0\n40 20 12.0",
        ),
        (
            "SELECT moving_average(usage, 2) FROM cpu WHERE host = 'a'",
            "cpu{} time moving_average\n10 3.0\n20 3.75\n40 3.0",
        ),
        // The window before the range is looked at.
        (
            "SELECT difference(max(usage)) FROM cpu WHERE host = 'a' AND time >= \
             '2021-03-01T00:00:10Z' AND time < '2021-03-01T00:00:30Z' GROUP BY time(10s)",
            "cpu{} time difference\n10 3.0\n20 -1.5",
        ),
    ]);
}

#[test]
fn ends_of_series_are_enough_or_not() {
    check_all(&[
        ("SELECT last(usage) FROM cpu", "cpu{} time last\n40 3.0"),
        (
            "SELECT last(load), usage FROM cpu GROUP BY host",
            "cpu{host=a} time last usage\n40 2 3.0\ncpu{host=b} time last usage\n30 9 2.0",
        ),
        // The newest row of host a until then has no load.
        (
            "SELECT last(load) FROM cpu WHERE time <= '2021-03-01T00:00:10Z' GROUP BY host",
            "cpu{host=a} time last\n0 3\ncpu{host=b} time last\n0 1",
        ),
        (
            "SELECT first(load), first(usage) FROM cpu",
            "cpu{} time first first_1\n0ns 3 8.0",
        ),
        (
            "SELECT max(usage) FROM cpu WHERE time < '2021-03-01T00:01:00Z' GROUP BY time(10s) ORDER BY \
             time DESC LIMIT 3",
            "cpu{} time max\n50 -\n40 3.0\n30 2.0",
        ),
        (
            "SELECT max(usage) FROM cpu WHERE time < '2021-03-01T00:05:00Z' GROUP BY time(10s) fill(none) \
             ORDER BY time DESC LIMIT 2",
            "cpu{} time max\n40 3.0\n30 2.0",
        ),
        (
            "SELECT max(usage) FROM cpu WHERE time < '2021-03-02' GROUP BY time(10s) fill(none) ORDER BY \
             time DESC LIMIT 9",
            "cpu{} time max\n40 3.0\n30 2.0\n20 3.0\n10 4.5\n0 8.0",
        ),
    ]);
}

#[test]
fn subqueries_are_sources() {
    check_all(&[
        (
            "SELECT mean(m) FROM (SELECT max(usage) AS m FROM cpu GROUP BY host)",
            "cpu{} time mean\n0ns 6.25",
        ),
        (
            "SELECT * FROM (SELECT mean(usage) AS m FROM cpu GROUP BY host)",
            "cpu{} time host m\n0ns a 3.0\n0ns b 5.0",
        ),
        (
            "SELECT m FROM (SELECT max(usage) AS m FROM cpu GROUP BY host) WHERE host = 'a' AND m > 1",
            "cpu{} time m\n10 4.5",
        ),
        (
            "SELECT sum(usage) FROM (SELECT usage FROM cpu) GROUP BY host",
            "cpu{host=a} time sum\n0ns 12.0\ncpu{host=b} time sum\n0ns 10.0",
        ),
    ]);
}

#[test]
fn what_there_is() {
    check_all(&[
        ("SHOW MEASUREMENTS", "measurements{} name\ncpu"),
        ("SHOW SERIES", "-{} key\ncpu,host=a\ncpu,host=b"),
        ("SHOW SERIES WHERE host =~ /^b/", "-{} key\ncpu,host=b"),
        ("SHOW TAG KEYS", "cpu{} tagKey\nhost"),
        (
            "SHOW TAG VALUES WITH KEY = host LIMIT 1 OFFSET 1",
            "cpu{} key value\nhost b",
        ),
        (
            "SHOW FIELD KEYS FROM cpu",
            "cpu{} fieldKey fieldType\nload integer\nusage float",
        ),
        (
            "SHOW RETENTION POLICIES",
            "-{} name duration shardGroupDuration replicaN default\nautogen 0s 168h0m0s 1 true",
        ),
        ("SHOW SERIES CARDINALITY", "-{} cardinality estimation\n2"),
        ("SHOW TAG VALUES ON nowhere WITH KEY = host", ""),
        (
            "SHOW RETENTION POLICIES ON nowhere",
            "error: database not found: nowhere",
        ),
    ]);
}

#[test]
fn what_means_nothing_is_refused() {
    check_all(&[
        (
            "SELECT mean(usage), load FROM cpu",
            "error: mixing aggregate and non-aggregate queries is not supported",
        ),
        (
            "SELECT max(usage), min(usage), load FROM cpu",
            "error: mixing multiple selector functions with tags or fields is not supported",
        ),
        (
            "SELECT usage FROM cpu GROUP BY time(10s)",
            "error: GROUP BY requires at least one aggregate function",
        ),
        (
            "SELECT derivative(mean(usage)) FROM cpu",
            "error: derivative aggregate requires a GROUP BY interval",
        ),
        (
            "SELECT top(usage, 5) FROM cpu LIMIT 2",
            "error: limit (5) in top function can not be larger than the LIMIT (2) in the select statement",
        ),
        (
            "SELECT foo(usage) FROM cpu",
            "error: undefined function foo()",
        ),
        (
            "SELECT mean(host) FROM cpu",
            "error: mean() is not defined for a tag",
        ),
        (
            "SELECT usage + 'x' FROM cpu",
            "error: incompatible operands for the + operator: float and string",
        ),
        (
            "SELECT usage FROM cpu WHERE time > 'yesterday'",
            "error: invalid operation: time and the text \"yesterday\" are not compatible: write 'YYYY-MM-DD HH:MM:SS' or RFC 3339",
        ),
        (
            "SELECT usage FROM nowhere..cpu",
            "error: database not found: nowhere",
        ),
        (
            "SELECT usage FROM other.cpu",
            "error: retention policy not found: other",
        ),
    ]);
}

#[tokio::test]
async fn a_query_has_its_memory_and_its_time() {
    let made = tables().await;
    let endless = "SELECT mean(usage) FROM cpu WHERE time > '1980-01-01' GROUP BY time(1u)";
    let refused = ask_with(&made, &EngineOptions::default(), endless)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("an answer at most"),
        "{refused}"
    );
    let memory = crate::memory::QueryMemory::new(
        Arc::new(tidelake_catalog::memory::MemoryBudget::new(1 << 20)),
        1000,
    );
    let options = EngineOptions {
        memory,
        ..EngineOptions::default()
    };
    let wide = "SELECT mean(usage) FROM cpu GROUP BY time(1s)";
    let refused = ask_with(&made, &options, wide).await.unwrap_err();
    assert!(matches!(refused, InfluxqlError::Memory(_)), "{refused}");
    let options = EngineOptions {
        timeout: std::time::Duration::ZERO,
        ..EngineOptions::default()
    };
    let refused = ask_with(&made, &options, wide).await.unwrap_err();
    assert!(matches!(refused, InfluxqlError::Timeout), "{refused}");
}

#[tokio::test]
async fn databases_that_may_not_be_read_do_not_exist() {
    let made = tables().await;
    let statements = parse("SELECT usage FROM cpu", &Params::new()).unwrap();
    let scope = Scope {
        database: Some(DATABASE),
        policy: None,
        may_read: &|_| false,
    };
    let options = EngineOptions::default();
    let refused = answer(&made.tables, &options, &statements[0], &scope, START).await;
    assert!(
        matches!(refused, Err(InfluxqlError::NoDatabase(_))),
        "{refused:?}"
    );
}
