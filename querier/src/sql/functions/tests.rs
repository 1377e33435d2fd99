//! Functions with hostile arguments.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use parking_lot::{Mutex, MutexGuard};
use tidelake_catalog::memory::MemoryBudget;
use tokio::runtime::{Handle, Runtime};

use crate::lane::Lane;
use crate::memory::QueryMemory;
use crate::sql::tests::memory::MemorySource;
use crate::sql::{SqlEngine, SqlError, SqlOptions};

/// Memory of each query.
pub(super) const QUERY_BYTES: usize = 256 << 20;

/// Tests of memory run one after the other.
pub(in crate::sql) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

pub(super) fn engine() -> SqlEngine {
    engine_on(None)
}

/// An engine whose queries compute on `threads`.
pub(in crate::sql) fn engine_on(threads: Option<Handle>) -> SqlEngine {
    engine_with(threads, Duration::from_secs(20))
}

fn engine_with(threads: Option<Handle>, timeout: Duration) -> SqlEngine {
    let mut source = MemorySource::new();
    source.table(
        "default",
        "t",
        tidelake_catalog::model::TableKind::Wide,
        &[],
    );
    SqlEngine::new(
        Arc::new(source),
        SqlOptions {
            memory: QueryMemory::new(MemoryBudget::unlimited(), QUERY_BYTES),
            timeout: Some(timeout),
            target_partitions: 1,
            lane: Lane::on(threads),
            ..SqlOptions::default()
        },
    )
    .unwrap()
}

pub(in crate::sql) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(super) async fn query(engine: &SqlEngine, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    let text = engine.read(sql)?;
    let answer = engine.query("default", text, HashMap::new(), None).await?;
    Ok(answer.stream.try_collect().await?)
}

fn run(sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    let _alone = one_at_a_time();
    runtime().block_on(query(&engine(), sql))
}

/// The query is refused for want of something, in these words.
#[track_caller]
fn check_refused(sql: &str, words: &[&str]) {
    match run(sql) {
        Err(SqlError::ResourcesExhausted(message)) => {
            for word in words {
                assert!(message.contains(word), "{sql}: {message}");
            }
        }
        other => panic!(
            "{sql}: expected a refusal, got {:.300}",
            format!("{other:?}")
        ),
    }
}

/// The query has one value.
#[track_caller]
fn check(sql: &str, expected: &str) {
    let batches = run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let text = arrow::util::pretty::pretty_format_batches(&batches)
        .unwrap()
        .to_string();
    let value = text.lines().nth(3).unwrap_or("").trim_matches(['|', ' ']);
    assert_eq!(value, expected, "{sql}");
}

#[test]
fn values_that_are_too_long_are_refused_before_they_are_made() {
    for call in [
        "repeat('x', 1000000000)",
        "lpad('x', 2000000000)",
        "rpad('x', 2000000000, 'ab')",
        "replace(repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "regexp_replace(repeat('x', 1000000), 'x', repeat('b', 10000), 'g')",
        "array_repeat('xxxxxxxxxx', 1000000000)",
        "array_resize([1], 1000000000, 2)",
        "range(0, 1000000000)",
        "generate_series(-9223372036854775808, 9223372036854775807)",
        "range(DATE '1970-01-01', DATE '2262-01-01', INTERVAL '1 microsecond')",
        "array_to_string(range(0, 1000000), repeat('x', 1000))",
        "array_replace(array_repeat(1, 1000000), 1, 2)::text || repeat('x', 100000000)",
    ] {
        let words = ["() would return a value of up to ", "at most 67108864"];
        check_refused(&format!("SELECT {call}"), &words);
        check_refused(&format!("SELECT length({call}::text)"), &words);
    }
}

#[test]
fn calls_that_would_take_too_long_are_refused() {
    check_refused(
        "SELECT levenshtein(repeat('x', 1000000), repeat('y', 1000000))",
        &["levenshtein() would take about"],
    );
    check_refused(
        "SELECT regexp_count(repeat('x', 10000000), '(x{1,100}){1,100}y')",
        &["regexp_count() would take about"],
    );
}

#[test]
fn rows_that_are_too_long_together_are_refused() {
    check_refused(
        "SELECT length(repeat('xy' || value, 500000)) FROM generate_series(1, 5000)",
        &["repeat() may return", "max_query_memory_bytes"],
    );
    check_refused(
        "SELECT string_agg(repeat('x', 1000000), '') FROM generate_series(1, 5000)",
        &["max_query_memory_bytes"],
    );
    check_refused(
        "SELECT count(DISTINCT repeat('x', 5000000 + value)) FROM generate_series(1, 5000)",
        &["max_query_memory_bytes"],
    );
}

#[test]
fn long_values_work_within_the_limits() {
    check("SELECT length(repeat('x', 50000000))", "50000000");
    check("SELECT array_length(range(0, 5000000))", "5000000");
    check("SELECT lpad('x', 3, 'ab') || rpad('y', 2, '-')", "abxy-");
    check("SELECT 'a' || NULL || 'b' IS NULL", "true");
    check(
        "SELECT sum(length('ab' || value)) FROM generate_series(1, 10000)",
        "58894",
    );
    check(
        "SELECT sum(length(repeat('x', 1000))) FROM generate_series(1, 100000)",
        "100000000",
    );
    check(
        "SELECT sum(length(repeat(value::text, 2000))) FROM generate_series(1, 9999)",
        "77778000",
    );
    check(
        "SELECT length(string_agg(repeat('x', 100000), '')) FROM generate_series(1, 500)",
        "50000000",
    );
    check("SELECT levenshtein('kitten', 'sitting')", "3");
    check("SELECT regexp_replace('aaa', 'a', 'b', 'g')", "bbb");
    check("SELECT [1, 2] || [3]", "[1, 2, 3]");
    check("SELECT array_to_string(range(0, 5), '-')", "0-1-2-3-4");
}

#[test]
fn what_operators_keep_or_repeat_is_bounded() {
    let numbers = "FROM generate_series(1, 20000)";
    check_refused(
        &format!("SELECT string_agg('0123456789', '') OVER (ORDER BY value) AS s {numbers}"),
        &["string_agg() OVER (...)", "max_query_memory_bytes"],
    );
    check_refused(
        "SELECT count(s) FROM (SELECT array_agg(repeat('x', 1000 + value % 2)) OVER () AS s FROM \
         generate_series(1, 3000))",
        &["array_agg() OVER (...)", "max_query_memory_bytes"],
    );
    check_refused(
        "SELECT count(a.s || b.v::text) FROM (SELECT repeat('x', value + 100000) AS s FROM \
         generate_series(1, 2)) a CROSS JOIN (SELECT value AS v FROM generate_series(1, 9000)) b",
        &["goes into a join"],
    );
    check_refused(
        "SELECT count(s) FROM (SELECT repeat('x', 100000 + value) AS s, \
         unnest(range(0, 100000)) AS n FROM generate_series(1, 2))",
        &["unnest() would make"],
    );
    check_refused(
        "SELECT length(string_agg(repeat('x', 1000000 + value % 2), '')) FROM \
         generate_series(1, 600)",
        &["max_query_memory_bytes"],
    );
    check(
        "SELECT sum(n) FROM (SELECT 'a' AS s, unnest(range(0, 100000)) AS n)",
        "4999950000",
    );
    check(
        "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY value) FROM \
         generate_series(1, 50000))",
        "50000",
    );
    check(
        "SELECT max(length(s)) FROM (SELECT string_agg('ab', '') OVER (ORDER BY value) AS s FROM \
         generate_series(1, 1000))",
        "2000",
    );
}

#[test]
fn queries_without_end_end_in_time() {
    let _alone = one_at_a_time();
    let (engine, runtime) = (engine_with(None, Duration::from_secs(1)), runtime());
    for sql in [
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        "WITH RECURSIVE r AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM r) SELECT count(*) FROM r",
        "SELECT count(*) FROM generate_series(1, 1000000000000000000) WHERE value % 7 = 8",
        "SELECT count(*) FROM generate_series(1, 1000000000) a CROSS JOIN \
         generate_series(1, 100000) b WHERE a.value * b.value = -1",
        "SELECT DISTINCT value FROM generate_series(1, 1000000000000000000)",
        "SELECT value FROM generate_series(1, 1000000000000000000) ORDER BY value DESC",
        "SELECT array_agg(value) FROM generate_series(1, 1000000000000000000)",
        "SELECT median(value) FROM generate_series(1, 1000000000000000000)",
        "SELECT count(DISTINCT value) FROM generate_series(1, 1000000000000000000)",
        "SELECT sum(value) OVER () FROM generate_series(1, 1000000000000000000)",
        "SELECT a.value FROM generate_series(1, 1000000000000000000) a JOIN \
         generate_series(1, 1000000000000000000) b USING (value)",
    ] {
        let begun = tokio::time::Instant::now();
        let ended = runtime.block_on(query(&engine, sql));
        let took = begun.elapsed();
        assert!(
            matches!(
                ended,
                Err(SqlError::Timeout | SqlError::ResourcesExhausted(_))
            ),
            "{sql}: {:.300}",
            format!("{ended:?}")
        );
        assert!(took < Duration::from_secs(10), "{sql}: {took:?}");
    }
}
