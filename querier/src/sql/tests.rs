//! Whole queries, over rows in memory.

mod commands;
mod edges;
pub(super) mod memory;
mod promql;
mod shapes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use memory::{Cell, MemorySource};
use proptest::prelude::*;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::schema::METRICS_TABLE;
use tidelake_catalog::model::{ColumnType, STALE_NAN_BITS, TableKind};

use super::*;

/// 2026-11-22T00:00:00Z
const START_S: i64 = 1_795_305_600;
const NS: i64 = 1_000_000_000;

fn source() -> MemorySource {
    use ColumnType::*;
    let mut s = MemorySource::new();
    let columns = [
        ("host", Tag),
        ("region", Tag),
        ("hostName", Tag),
        ("usage", Float),
        ("count", Integer),
        ("up", Boolean),
        ("note", String),
        ("big", Unsigned),
    ];
    s.table("default", "cpu", TableKind::Wide, &columns);
    let series: [&[(&str, &str)]; 6] = [
        &[("host", "a"), ("region", "eu-central-1-frankfurt")],
        &[
            ("host", "b"),
            ("region", "eu-central-1-frankfurt"),
            ("hostName", "B.example"),
        ],
        &[("host", "b"), ("region", "us")],
        &[("host", "c")],
        &[("region", "us")],
        &[],
    ];
    for (i, labels) in series.into_iter().enumerate() {
        for k in 0..5i64 {
            let cells = [
                ("usage", Cell::Float(i as f64 * 10.0 + k as f64)),
                ("count", Cell::Integer(k - 2)),
                ("up", Cell::Boolean(k % 2 == 0)),
                ("note", Cell::String(if k == 3 { "three" } else { "" })),
                ("big", Cell::Unsigned(u64::MAX - k as u64)),
            ];
            // Not every row has every field.
            let have = if k == 4 { &cells[..1] } else { &cells[..] };
            s.row(
                "default",
                "cpu",
                labels,
                (START_S + k * 60) * NS + i64::from(k == 1),
                have,
            );
        }
    }
    s.row(
        "default",
        "cpu",
        &[("host", "a")],
        -1_500_000_000,
        &[("usage", Cell::Float(-1.0))],
    );
    s.table(
        "default",
        "Mixed Case",
        TableKind::Wide,
        &[("Tag", Tag), ("Field", Float)],
    );
    s.row(
        "default",
        "Mixed Case",
        &[("Tag", "x")],
        1,
        &[("Field", Cell::Float(1.5))],
    );
    s.table("default", METRICS_TABLE, TableKind::Metrics, &[]);
    for (code, value) in [("200", 10.0), ("500", 1.0)] {
        let labels = [
            ("__name__", "http_requests_total"),
            ("job", "api"),
            ("code", code),
        ];
        for k in 0..3 {
            s.sample(
                "default",
                &labels,
                (START_S + k * 15) * 1000,
                value + k as f64,
            );
        }
        s.sample(
            "default",
            &labels,
            (START_S + 45) * 1000,
            f64::from_bits(STALE_NAN_BITS),
        );
        s.row(
            "default",
            METRICS_TABLE,
            &labels,
            (START_S + 60) * 1000,
            &[],
        );
    }
    s.sample(
        "default",
        &[("__name__", "http_requests_total"), ("job", "web")],
        START_S * 1000,
        f64::NAN,
    );
    s.sample(
        "default",
        &[
            ("__name__", "cpu"),
            ("time", "t"),
            ("value", "v"),
            ("label_value", "w"),
        ],
        START_S * 1000,
        1.0,
    );
    s.table("other", "disk", TableKind::Wide, &[("free", Integer)]);
    s
}

pub(super) fn engine() -> SqlEngine {
    SqlEngine::new(
        Arc::new(source()),
        SqlOptions {
            target_partitions: 3,
            batch_rows: 4,
            ..SqlOptions::default()
        },
    )
    .unwrap()
}

async fn batches(
    engine: &SqlEngine,
    sql: &str,
    params: HashMap<String, SqlParam>,
) -> Result<Vec<RecordBatch>, SqlError> {
    engine
        .query("default", engine.read(sql)?, params, None)
        .await?
        .stream
        .try_collect()
        .await
        .map_err(SqlError::from)
}

pub(super) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut out = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        out.extend((0..batch.num_rows()).map(|row| {
            columns
                .iter()
                .map(|c| c.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        }));
    }
    out
}

async fn rows(sql: &str) -> Result<Vec<String>, SqlError> {
    batches(&engine(), sql, HashMap::new())
        .await
        .map(|batches| texts(&batches))
}

#[track_caller]
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[track_caller]
fn check(sql: &str, expected: &[&str]) {
    assert_eq!(
        run(rows(sql)).unwrap_or_else(|error| panic!("{sql}: {error}")),
        expected,
        "{sql}"
    );
}

#[track_caller]
fn check_count(condition: &str, expected: usize) {
    check(
        &format!("SELECT count(*) FROM cpu WHERE {condition}"),
        &[&expected.to_string()],
    );
}

#[track_caller]
fn check_bad(sql: &str, words: &str) {
    match run(rows(sql)) {
        Err(
            SqlError::BadRequest(message)
            | SqlError::Syntax(message)
            | SqlError::UnknownColumn(message),
        ) if message.to_lowercase().contains(&words.to_lowercase()) => {}
        other => panic!(
            "{:.200}: expected a bad request with {words:?}, got {other:?}",
            sql
        ),
    }
}

#[track_caller]
fn check_not_found(sql: &str, words: &str) {
    match run(rows(sql)) {
        Err(SqlError::NotFound(message)) if message.contains(words) => {}
        other => panic!("{sql}: expected not found with {words:?}, got {other:?}"),
    }
}

fn explain(sql: &str) -> String {
    run(rows(&format!("EXPLAIN {sql}"))).unwrap().join("\n")
}

#[test]
fn missing_tags_are_null() {
    check_count("true", 31);
    check_count("host = 'b'", 10);
    check_count("host = ''", 0);
    check_count("host != 'b'", 11);
    check_count("host != ''", 21);
    check_count("host IS NULL", 10);
    check_count("host IS NOT NULL", 21);
    check_count("host IN ('a', 'c', NULL)", 11);
    check_count("host NOT IN ('a', 'c')", 10);
    check_count("host NOT IN ('a', NULL)", 0);
    check_count("host = NULL", 0);
    check_count("host LIKE '%'", 21);
    check_count("host NOT LIKE 'a%'", 15);
    check_count("host ~ 'a|c'", 11);
    check_count("host !~ 'a'", 15);
    check_count("'b' = host", 10);
    check_count("host = 'a' OR host = 'c' OR host IN ('b')", 21);
    check_count("host = 'a' OR region = 'us'", 16);
    check_count("region LIKE 'eu_central%' AND host = 'b'", 5);
    check_count(r#""hostName" = 'B.example'"#, 5);
    check_count(
        "hostName IN ('B.example', 'BXexample', 'nothing', 'more')",
        5,
    );
}

#[test]
fn times_compare_to_the_nanosecond() {
    check_count(
        "time >= '2026-11-22T00:01:00Z' AND time < '2026-11-22T00:02:00Z'",
        6,
    );
    check_count(
        "time > '2026-11-22T00:01:00Z' AND time < '2026-11-22T00:02:00Z'",
        6,
    );
    check_count("time = '2026-11-22T00:01:00Z'", 0);
    check_count("time = '2026-11-22T00:01:00.000000001Z'", 6);
    check_count("time <= TIMESTAMP '2026-11-22T00:01:00'", 7);
    check_count("time BETWEEN '2026-11-22' AND '2026-11-22T00:02:00'", 18);
    check_count("time < to_timestamp(0)", 1);
    check_count("time > now()", 0);
    check_count("time < now() - INTERVAL '1 day' AND time < '1970-01-01'", 1);
    check_count("time::timestamp(3) = '2026-11-22T00:01:00Z'", 6);
    check_count("time::timestamp(0) = TIMESTAMP '1969-12-31T23:59:59'", 1);
    check_count("date_trunc('minute', time) = '2026-11-22T00:01:00Z'", 6);
    check_count("time > '2026-11-22' AND time < '2026-11-21'", 0);
    // DataFusion fails if it is told the first and last time below such a filter.
    check_count(
        "usage < 0 AND time::timestamp(3) >= '2026-11-22T00:01:00Z'",
        0,
    );
    check(
        "SELECT count(*) FROM http_requests_total WHERE time > TIMESTAMP \
         '2026-11-22T00:00:14.999999999'",
        &["4"],
    );
    check(
        "SELECT count(*) FROM http_requests_total WHERE time <= '2026-11-22T00:00:15Z'",
        &["5"],
    );
}

#[test]
fn tags_and_times_are_answered_by_the_scan() {
    let plan = explain(
        "SELECT usage FROM cpu WHERE host IN ('a', 'b') AND time >= '2026-11-22T00:01:00Z' AND \
         usage > 3",
    );
    assert!(plan.contains(r#"fields=[usage], matchers=[host=~"a|b"], time=1795305660000000000..=9223372036854775807"#), "{plan}");
    assert!(plan.contains("FilterExec: usage"), "{plan}");
    assert!(!plan.contains("FilterExec: host"), "{plan}");
    let plan = explain("SELECT host, count(*) FROM cpu GROUP BY host");
    assert!(
        plan.contains("ScanExec: table=cpu, fields=[], units="),
        "{plan}"
    );
    assert!(explain("SELECT * FROM cpu WHERE host = 'a' LIMIT 2").contains("limit=2"));
    let plan = explain("SELECT usage FROM cpu WHERE host ~ '[ab]' AND region = 'us' LIMIT 2");
    assert!(
        plan.contains("FilterExec: host")
            && plan.contains("host=~")
            && !plan.contains("FilterExec: region"),
        "{plan}"
    );
    assert!(!explain("SELECT * FROM cpu WHERE usage > 1 LIMIT 2").contains("limit=2"));
    assert!(explain("SELECT * FROM cpu WHERE host = ''").contains("EmptyExec"));
    let plan = explain(
        "SELECT * FROM metrics.http_requests_total WHERE time > TIMESTAMP \
         '2026-11-22T00:00:14.999999999'",
    );
    assert!(
        plan.contains("time=1795305615000..=") && !plan.contains("FilterExec"),
        "{plan}"
    );
}

#[test]
fn explain_analyze_counts_what_was_read() {
    let plan = run(rows("EXPLAIN ANALYZE SELECT * FROM cpu WHERE host = 'b'"))
        .unwrap()
        .join("\n");
    assert!(
        plan.contains("rows_read=10") && plan.contains("units_read=1"),
        "{plan}"
    );
}

#[test]
fn shapes_that_dashboards_send() {
    let grouped = "SELECT date_bin(INTERVAL '2 minutes', time, TIMESTAMP '2026-11-22T00:00:00') \
                   AS t, host, avg(usage) AS u FROM cpu WHERE time >= '2026-11-22' AND host < 'c' \
                   GROUP BY t, host ORDER BY t, host";
    check(
        grouped,
        &[
            "2026-11-22T00:00:00|a|0.5",
            "2026-11-22T00:00:00|b|15.5",
            "2026-11-22T00:02:00|a|2.5",
            "2026-11-22T00:02:00|b|17.5",
            "2026-11-22T00:04:00|a|4.0",
            "2026-11-22T00:04:00|b|19.0",
        ],
    );
    check(
        "SELECT DISTINCT ON (host) host, usage FROM cpu WHERE region = 'us' ORDER BY host, time \
         DESC",
        &["b|24.0", "NULL|44.0"],
    );
    check(
        "SELECT DISTINCT region FROM cpu ORDER BY region",
        &["eu-central-1-frankfurt", "us", "NULL"],
    );
    check("SELECT MAX(usage), Count(note) FROM cpu", &["54.0|24"]);
    check(
        "SELECT region, host FROM cpu WHERE usage = 10",
        &["eu-central-1-frankfurt|b"],
    );
    check("SELECT count(*) FROM (SELECT * FROM cpu LIMIT 7)", &["7"]);
    check(
        "SELECT note, up, count, big FROM cpu WHERE usage = 3",
        &["three|false|1|18446744073709551612"],
    );
    check(r#"SELECT "Tag", Field FROM "Mixed Case""#, &["x|1.5"]);
    check(
        "WITH x AS (SELECT host, max(usage) AS m FROM cpu GROUP BY host) SELECT count(*) FROM x \
         JOIN cpu USING (host)",
        &["21"],
    );
    check("SELECT 1 + 1", &["2"]);
    check("VALUES (1), (2)", &["1", "2"]);
    check("SELECT count(*) FROM generate_series(1, 10)", &["10"]);
}

#[test]
fn a_metric_is_a_table_of_its_samples() {
    let all = [
        "2026-11-22T00:00:00|200|api|10.0",
        "2026-11-22T00:00:00|500|api|1.0",
        "2026-11-22T00:00:15|200|api|11.0",
        "2026-11-22T00:00:15|500|api|2.0",
        "2026-11-22T00:00:30|200|api|12.0",
        "2026-11-22T00:00:30|500|api|3.0",
    ];
    // Stale markers and rows without a value are no samples; a NaN that was sent is one.
    check(
        "SELECT * FROM metrics.http_requests_total WHERE job = 'api' ORDER BY time, code",
        &all,
    );
    check(
        "SELECT * FROM http_requests_total WHERE job = 'api' ORDER BY time, code",
        &all,
    );
    check("SELECT count(*) FROM http_requests_total", &["7"]);
    check(
        "SELECT code, value FROM http_requests_total WHERE code IS NULL",
        &["NULL|NaN"],
    );
    // The wide table goes first where both have the name.
    check("SELECT count(*) FROM cpu", &["31"]);
    check(
        "SELECT * FROM metrics.cpu",
        &["2026-11-22T00:00:00|w|t|v|1.0"],
    );
    check(
        "SELECT label_time, label_label_value, label_value FROM metrics.cpu WHERE \
         label_label_value = 'v'",
        &["t|v|w"],
    );
    check(
        "SELECT avg(c.usage) FROM cpu c JOIN metrics.http_requests_total r ON c.time = r.time \
         WHERE r.code = '200'",
        &["25.0"],
    );
}

#[test]
fn the_information_schema_describes_tables_and_metrics() {
    check(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE \
         table_name = 'cpu' AND table_schema = 'public'",
        &[
            "host|Dictionary(Int32, Utf8)|YES",
            "region|Dictionary(Int32, Utf8)|YES",
            "hostName|Dictionary(Int32, Utf8)|YES",
            "time|Timestamp(ns)|NO",
            "usage|Float64|YES",
            "count|Int64|YES",
            "up|Boolean|YES",
            "note|Utf8|YES",
            "big|UInt64|YES",
        ],
    );
    check(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = \
         'metrics' AND table_name = 'http_requests_total'",
        &[
            "time|Timestamp(ms)",
            "code|Dictionary(Int32, Utf8)",
            "job|Dictionary(Int32, Utf8)",
            "value|Float64",
        ],
    );
    check(
        "SELECT table_catalog, table_schema, table_name, table_type FROM \
         information_schema.tables WHERE table_schema != 'information_schema' ORDER BY \
         table_schema, table_name",
        &[
            "default|metrics|cpu|BASE TABLE",
            "default|metrics|http_requests_total|BASE TABLE",
            "default|public|Mixed Case|BASE TABLE",
            "default|public|cpu|BASE TABLE",
        ],
    );
    check(
        "SELECT schema_name FROM information_schema.schemata ORDER BY 1",
        &["metrics", "public"],
    );
    assert!(
        run(rows("SHOW TABLES"))
            .unwrap()
            .iter()
            .any(|row| row == "default|public|cpu|BASE TABLE")
    );
    assert!(
        run(rows("SHOW COLUMNS FROM cpu"))
            .unwrap()
            .iter()
            .any(|row| row.contains("usage"))
    );
    assert!(
        run(rows("DESCRIBE cpu"))
            .unwrap()
            .iter()
            .any(|row| row.starts_with("usage|Float64"))
    );
    assert!(
        !run(rows("SELECT * FROM information_schema.df_settings"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_does_not_exist_is_named() {
    check_not_found("SELECT * FROM nowhere", "table \"nowhere\" not found");
    check_not_found(
        "SELECT * FROM metrics.disk",
        "table \"disk\" not found in schema \"metrics\"",
    );
    check_not_found("SELECT * FROM secret.cpu", "schema \"secret\"");
    check_not_found("SELECT * FROM other.public.disk", "database \"other\"");
    check_not_found("SELECT * FROM CPU", "CPU");
    check_not_found("SELECT * FROM __metrics__", "__metrics__");
    check_not_found("SELECT * FROM '/etc/passwd'", "/etc/passwd");
    check_not_found("SELECT * FROM 'file:///etc/hosts.csv'", "hosts.csv");
    check_bad("SELECT nothing FROM cpu", "nothing");
    let missing = run(async {
        engine()
            .query(
                "absent",
                engine().read("SELECT 1").unwrap(),
                HashMap::new(),
                None,
            )
            .await
            .err()
    });
    assert_eq!(
        missing,
        Some(SqlError::NotFound(
            "database \"absent\" does not exist".into()
        ))
    );
}

#[test]
fn only_statements_that_read_run() {
    for sql in [
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY cpu TO '/tmp/cpu.csv'",
        "COPY (SELECT 1) TO 'x.parquet' STORED AS PARQUET",
        "EXPLAIN COPY cpu TO '/tmp/cpu.csv'",
        "EXPLAIN ANALYZE COPY cpu TO '/tmp/cpu.csv'",
        "EXPLAIN ANALYZE INSERT INTO cpu VALUES (1)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE TABLE t (a INT)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE SCHEMA s",
        "EXPLAIN DELETE FROM cpu",
        "EXPLAIN DROP TABLE cpu",
        "TRUNCATE TABLE cpu",
        "INSERT INTO cpu (usage) VALUES (1)",
        "UPDATE cpu SET usage = 1",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "BEGIN",
        "COMMIT",
        "USE other",
        "SHOW CREATE TABLE cpu",
    ] {
        check_bad(sql, "not supported");
    }
    check_bad("COPY cpu TO '/tmp/cpu.csv'", "tidelake export");
    check_bad("SELECT 1; SELECT 2", "2 statements");
    check_bad("SELECT * INTO t FROM cpu", "");
    check_bad(
        "WITH x AS (INSERT INTO cpu (usage) VALUES (1) RETURNING 1) SELECT * FROM x",
        "",
    );
    check_bad("", "no statement");
    check_bad("SELEC 1", "SELEC");
    check_bad("SELECT 'unclosed", "SQL syntax");
    check("SELECT 1;", &["1"]);
}

#[test]
fn deep_and_long_queries_are_refused_without_harm() {
    let started = Instant::now();
    let many = |text: &str, n: usize| text.repeat(n);
    check_bad(
        &format!("SELECT {}1{}", many("(", 100_000), many(")", 100_000)),
        "parentheses",
    );
    check_bad(&format!("SELECT {}", many("(", 100_000)), "parentheses");
    check_bad(
        &format!("SELECT * FROM {}cpu{}", many("(", 25), many(")", 25)),
        "parentheses",
    );
    check_bad(
        &format!("SELECT 1 WHERE true{}", many(" AND true", 100_000)),
        "too complex",
    );
    check_bad(
        &format!("SELECT 1 WHERE true{}", many(" OR false", 100_000)),
        "too complex",
    );
    check_bad(
        &format!("SELECT 1 WHERE true{}", many(" AND true", 5_000)),
        "too complex",
    );
    check_bad(&format!("SELECT 1{}", many("+1", 19_000)), "too complex");
    check_bad(&format!("SELECT {}1", many("-", 19_000)), "");
    check_bad(&format!("SELECT {} true", many("NOT ", 15_000)), "");
    check_bad(&format!("SELECT 1{}", many("::int", 9_000)), "");
    check_bad(&format!("SELECT 1{}", many(" IS NULL", 9_000)), "");
    check_bad(
        &format!(
            "SELECT {}1{}",
            many("CASE WHEN true THEN ", 4_000),
            many(" END", 4_000)
        ),
        "",
    );
    check_bad(
        &format!("SELECT {}1{}", many("ARRAY[", 9_000), many("]", 9_000)),
        "",
    );
    check_bad(
        &format!("SELECT 1{}", many(" UNION ALL SELECT 1", 5_000)),
        "set operations",
    );
    check_bad(
        &format!("SELECT 1 FROM cpu{}", many(", cpu", 5_000)),
        "tables",
    );
    check_bad(
        &format!("SELECT 1 FROM cpu{}", many(" CROSS JOIN cpu", 5_000)),
        "tables",
    );
    check_bad(
        &format!("{}SELECT 1{}", many("EXPLAIN ", 10_000), ""),
        "EXPLAIN",
    );
    check_bad(
        &format!("{}SELECT 1", many("EXPLAIN ANALYZE ", 9_000)),
        "EXPLAIN",
    );
    check_bad(
        &format!("SELECT {} '1 day'", many("INTERVAL ", 15_000)),
        "same word",
    );
    check_bad(
        &format!("SELECT host{} FROM cpu", many("[1]", 9_000)),
        "subscripts",
    );
    check_bad(&format!("SELECT 1::int{}", many("[]", 9_000)), "subscripts");
    check_bad(
        &format!(
            "SELECT CAST(1 AS {}INT{})",
            many("ARRAY<", 4_000),
            many(">", 4_000)
        ),
        "nested types",
    );
    check_bad(&format!("SELECT a{}", many(".a", 9_000)), "parts in a name");
    check_bad(
        &format!("INSERT INTO cpu VALUES (1{})", many("+1", 9_000)),
        "not supported",
    );
    check_bad(
        &format!(
            "{}SELECT 1{}",
            many("WITH x AS (", 20),
            many(") SELECT 1", 20)
        ),
        "WITH",
    );
    let doubling: Vec<String> = (1..40)
        .map(|i| format!("t{i} AS (SELECT a.x FROM t{} a, t{} b)", i - 1, i - 1))
        .collect();
    check_bad(
        &format!(
            "WITH t0 AS (SELECT 1 AS x), {} SELECT * FROM t39",
            doubling.join(", ")
        ),
        "tables",
    );
    check_bad(&format!("SELECT '{}'", many("x", 2 << 20)), "bytes");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "took {:?}",
        started.elapsed()
    );
}

#[test]
fn queries_at_the_limits_run() {
    let many = |text: &str, n: usize| text.repeat(n);
    check_count(&format!("true{}", many(" AND usage != 0.5", 110)), 31);
    check_count(
        &format!("usage = -1{}", many(" OR count > 7 AND up", 100)),
        1,
    );
    let hosts: Vec<String> = (0..2_000).map(|i| format!("host = 'h{i}'")).collect();
    check_count(&format!("{} OR host = 'c'", hosts.join(" OR ")), 5);
    let hosts: Vec<String> = (0..9_000).map(|i| format!("'h{i}'")).collect();
    check_count(&format!("host IN ({}, 'c')", hosts.join(",")), 5);
    check(
        &format!("SELECT {}1{}", many("(", 20), many(")", 20)),
        &["1"],
    );
    check(&format!("SELECT 1{}", many("+1", 100)), &["101"]);
    check(
        &format!(
            "SELECT count(*) FROM (SELECT 1{})",
            many(" UNION ALL SELECT 1", 100)
        ),
        &["101"],
    );
}

#[test]
fn parameters_are_values() {
    let check = |sql: &str, params: &[(&str, SqlParam)], expected: &[&str]| {
        let params = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        assert_eq!(
            run(batches(&engine(), sql, params))
                .map(|b| texts(&b))
                .unwrap(),
            expected,
            "{sql}"
        );
    };
    let text = |value: &str| SqlParam::String(value.to_owned());
    check(
        "SELECT count(*) FROM cpu WHERE host = $host",
        &[("host", text("b"))],
        &["10"],
    );
    check(
        "SELECT count(*) FROM cpu WHERE host = $host",
        &[("host", text("b' OR true --"))],
        &["0"],
    );
    check(
        "SELECT count(*) FROM cpu WHERE time < $t",
        &[("t", text("1970-01-01T00:00:00Z"))],
        &["1"],
    );
    check(
        "SELECT count(*) FROM cpu WHERE usage > $1 AND count = $2",
        &[("1", SqlParam::Float(20.0)), ("2", SqlParam::Integer(0))],
        &["4"],
    );
    check(
        "SELECT count(*) FROM cpu WHERE up = $up",
        &[("up", SqlParam::Boolean(false))],
        &["12"],
    );
    check(
        "SELECT count(*) FROM cpu WHERE host = $h",
        &[("h", SqlParam::Null), ("unused", SqlParam::Null)],
        &["0"],
    );
    match run(batches(
        &engine(),
        "SELECT * FROM cpu WHERE host = $host",
        HashMap::new(),
    )) {
        Err(SqlError::BadRequest(message)) => assert!(message.contains("$host"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_that_needs_too_much_fails_alone() {
    let options = SqlOptions {
        memory: QueryMemory::new(MemoryBudget::unlimited(), 2_000),
        ..SqlOptions::default()
    };
    let engine = SqlEngine::new(Arc::new(source()), options).unwrap();
    let sorted = run(batches(
        &engine,
        "SELECT * FROM cpu ORDER BY usage",
        HashMap::new(),
    ));
    assert!(
        matches!(sorted, Err(SqlError::ResourcesExhausted(_))),
        "{sorted:?}"
    );
    assert_eq!(
        texts(&run(batches(&engine, "SELECT 1", HashMap::new())).unwrap()),
        ["1"]
    );
}

#[test]
fn a_query_ends_at_its_deadline() {
    let mut slow = source();
    slow.read_delay = Duration::from_secs(60);
    let options = SqlOptions {
        timeout: Some(Duration::from_millis(300)),
        ..SqlOptions::default()
    };
    let engine = SqlEngine::new(Arc::new(slow), options).unwrap();
    let started = Instant::now();
    assert_eq!(
        run(batches(&engine, "SELECT * FROM cpu", HashMap::new())).err(),
        Some(SqlError::Timeout)
    );
    let busy = "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 9";
    assert_eq!(
        run(batches(&engine, busy, HashMap::new())).err(),
        Some(SqlError::Timeout)
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// Conditions of every shape that is pushed down, and of some that are not.
fn condition() -> impl Strategy<Value = String> {
    let tag = prop::sample::select(vec!["host", "region", "hostName"]);
    let text = prop::sample::select(vec![
        "'a'",
        "'b'",
        "'us'",
        "''",
        "'B.example'",
        "'eu-central-1-frankfurt'",
        "NULL",
        "'zz'",
    ]);
    let pattern = prop::sample::select(vec![
        "'%'", "'_'", "'b%'", "'%.ex%'", "''", "'a'", "'%-1-%'",
    ]);
    let regex = prop::sample::select(vec![
        "'^a'", "'a|b'", "'.'", "''", "'us$'", "'^$'", "'B\\.e'", "'(?i)b'",
    ]);
    let time = (-1i64..6, prop::sample::select(vec![0i64, 1, 999_999_999])).prop_map(|(k, ns)| {
        format!(
            "arrow_cast({}, 'Timestamp(ns)')",
            (START_S + k * 60) * NS + ns
        )
    });
    let short = prop::sample::select(vec![
        "'2026-11-22T00:01:00Z'",
        "'2026-11-22'",
        "'1970-01-01'",
        "TIMESTAMP '2026-11-22T00:02:00'",
    ]);
    let op = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (tag.clone(), op.clone(), text.clone())
            .prop_map(|(tag, op, text)| format!("{tag} {op} {text}")),
        (text.clone(), op.clone(), tag.clone())
            .prop_map(|(text, op, tag)| format!("{text} {op} {tag}")),
        (
            tag.clone(),
            prop::sample::select(vec!["IN", "NOT IN"]),
            prop::collection::vec(text.clone(), 1..6)
        )
            .prop_map(|(tag, op, list)| format!("{tag} {op} ({})", list.join(", "))),
        (
            tag.clone(),
            prop::sample::select(vec!["LIKE", "NOT LIKE", "ILIKE"]),
            pattern
        )
            .prop_map(|(tag, op, p)| format!("{tag} {op} {p}")),
        (
            tag.clone(),
            prop::sample::select(vec!["~", "!~", "~*"]),
            regex
        )
            .prop_map(|(tag, op, p)| format!("{tag} {op} {p}")),
        (
            tag.clone(),
            prop::sample::select(vec!["IS NULL", "IS NOT NULL"])
        )
            .prop_map(|(tag, op)| format!("{tag} {op}")),
        (
            prop::sample::select(vec!["time", "time::timestamp(3)", "time::timestamp(0)"]),
            op.clone(),
            prop_oneof![time.clone(), short.prop_map(str::to_owned)]
        )
            .prop_map(|(column, op, time)| format!("{column} {op} {time}")),
        (time.clone(), time).prop_map(|(from, to)| format!("time BETWEEN {from} AND {to}")),
        (op, -1i64..60).prop_map(|(op, value)| format!("usage {op} {value}")),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|all| format!("({})", all.join(" AND "))),
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|all| format!("({})", all.join(" OR "))),
            inner.prop_map(|one| format!("NOT ({one})")),
        ]
    })
}

/// An oracle: the same rows in a table that can push nothing down.
async fn plain(engine: &SqlEngine) -> SessionContext {
    let all = batches(engine, "SELECT * FROM cpu", HashMap::new());
    let all = all.await.unwrap();
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let plain = SessionContext::new_with_config(config);
    let table = MemTable::try_new(all[0].schema(), vec![all]).unwrap();
    plain.register_table("cpu", Arc::new(table)).unwrap();
    plain
}

fn sorted(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = texts(batches);
    rows.sort();
    rows
}

#[test]
fn pushed_conditions_select_what_plain_ones_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let engine = engine();
    let plain = runtime.block_on(plain(&engine));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&condition(), |condition| {
        let sql = format!("SELECT * FROM cpu WHERE {condition}");
        let pushed = runtime.block_on(batches(&engine, &sql, HashMap::new()));
        let expected = runtime.block_on(async { plain.sql(&sql).await?.collect().await });
        match (pushed, expected) {
            (Ok(pushed), Ok(expected)) => {
                prop_assert_eq!(sorted(&pushed), sorted(&expected), "{}", sql)
            }
            // Some conditions are errors, for both.
            (pushed, expected) => prop_assert_eq!(pushed.is_err(), expected.is_err(), "{}", sql),
        }
        Ok(())
    });
    outcome.unwrap();
}
