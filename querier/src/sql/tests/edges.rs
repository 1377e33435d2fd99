//! Queries that only the ends of series are read for, and those that look like them.

use super::*;

/// The answer is that of a table that is read whole; says whether the plan reads an end.
async fn reads_an_end(engine: &SqlEngine, plain: &SessionContext, sql: &str) -> bool {
    let answer = batches(engine, sql, HashMap::new());
    let answer = answer
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let expected = plain.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(sorted(&answer), sorted(&expected), "{sql}");
    let plan = explain(engine, sql).await;
    plan.contains("newest=") || plan.contains("oldest=")
}

async fn explain(engine: &SqlEngine, sql: &str) -> String {
    let sql = format!("EXPLAIN {sql}");
    texts(&batches(engine, &sql, HashMap::new()).await.unwrap()).join("\n")
}

#[test]
fn ends_of_series_are_enough_for_some_queries() {
    let engine = engine();
    run(async {
        let plain = plain(&engine).await;
        for sql in [
            "SELECT DISTINCT ON (host, region) * FROM cpu ORDER BY host, region, time DESC",
            "SELECT DISTINCT ON (host, region) host, usage FROM cpu ORDER BY host, region, time",
            "SELECT host, region, last_value(usage ORDER BY time) FROM cpu GROUP BY host, region",
            "SELECT host, region, first_value(usage ORDER BY time) FROM cpu GROUP BY 1, 2",
            "SELECT host, last_value(usage ORDER BY region, time), max(time) FROM cpu \
             WHERE time >= '2026-11-22' GROUP BY host",
            "SELECT h, max(t) FROM (SELECT host AS h, time AS t FROM cpu) AS c GROUP BY h",
            "SELECT host, min(time) FROM cpu WHERE host = 'a' GROUP BY host",
            "SELECT DISTINCT host FROM cpu",
            "SELECT region, host FROM cpu WHERE time < '2026-11-23' GROUP BY host, region",
            "SELECT time, usage FROM cpu WHERE host = 'a' ORDER BY time DESC LIMIT 2",
            "SELECT time, usage FROM cpu WHERE host = 'a' ORDER BY time LIMIT 3 OFFSET 1",
            "SELECT host, usage FROM cpu WHERE region = 'us' ORDER BY host, time DESC LIMIT 3",
            "SELECT time, usage + 1 AS more FROM cpu WHERE host = 'a' ORDER BY 1 DESC, 2 LIMIT 2",
        ] {
            assert!(reads_an_end(&engine, &plain, sql).await, "{sql}");
        }
    });
}

#[test]
fn what_looks_like_a_query_for_ends_and_is_none_reads_all() {
    let engine = engine();
    run(async {
        let plain = plain(&engine).await;
        for sql in [
            // Rows that do not pass are followed by others.
            "SELECT time, usage FROM cpu WHERE usage < 3 AND host = 'a' ORDER BY time DESC LIMIT 1",
            "SELECT max(time) FROM cpu WHERE usage < 20",
            "SELECT host, last_value(usage ORDER BY time) FILTER (WHERE usage < 20) FROM cpu \
             WHERE region IS NULL GROUP BY host",
            "SELECT host, last_value(count ORDER BY time) IGNORE NULLS FROM cpu \
             WHERE region IS NULL GROUP BY host",
            // The order is another.
            "SELECT usage FROM cpu ORDER BY usage DESC LIMIT 2",
            "SELECT host, last_value(usage ORDER BY usage, time) FROM cpu GROUP BY host",
            "SELECT count, last_value(usage ORDER BY time, usage) FROM cpu GROUP BY count",
            // Other rows count as well.
            "SELECT host, region, last_value(usage ORDER BY time), avg(usage) FROM cpu \
             GROUP BY host, region",
            "SELECT host, min(time), max(time) FROM cpu GROUP BY host",
            "SELECT host, region, last_value(usage ORDER BY time), \
             last_value(usage ORDER BY time DESC) FROM cpu GROUP BY host, region",
            "SELECT max(usage), max(time) FROM cpu",
            "SELECT usage FROM cpu ORDER BY time DESC OFFSET 30",
            "SELECT c.time FROM cpu AS c JOIN cpu AS d ON c.time = d.time AND c.usage < d.usage \
             ORDER BY c.time LIMIT 1",
            "SELECT count(*) FROM (SELECT DISTINCT usage FROM cpu)",
        ] {
            assert!(!reads_an_end(&engine, &plain, sql).await, "{sql}");
        }
        // The last sample of a metric may be a marker that is not seen.
        let metric = "SELECT max(time) FROM http_requests_total WHERE job = 'api'";
        assert_eq!(rows(metric).await.unwrap(), ["2026-11-22T00:00:30"]);
    });
}

#[test]
fn counts_and_times_of_all_rows_are_known_without_reading() {
    let engine = engine();
    run(async {
        let plain = plain(&engine).await;
        for (sql, is_known) in [
            ("SELECT count(*) FROM cpu", true),
            (
                "SELECT count(*), count(time), min(time), max(time) FROM cpu WHERE host = 'b'",
                true,
            ),
            ("SELECT min(time) FROM cpu WHERE host IN ('a', 'c')", true),
            ("SELECT count(usage) FROM cpu", false),
            ("SELECT count(*) FROM cpu WHERE usage < 20", false),
            ("SELECT count(*) FROM (SELECT * FROM cpu LIMIT 7)", false),
        ] {
            reads_an_end(&engine, &plain, sql).await;
            let plan = explain(&engine, sql).await;
            assert_eq!(!plan.contains("ScanExec"), is_known, "{sql}: {plan}");
        }
    });
}
