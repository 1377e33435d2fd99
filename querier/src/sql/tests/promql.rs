//! PromQL expressions in statements.

use futures::StreamExt;

use super::*;

const LAST: i64 = START_S + 30;

#[track_caller]
fn check_call(sql: &str, expected: &[&str]) {
    check(
        &sql.replace("START", &START_S.to_string())
            .replace("LAST", &LAST.to_string()),
        expected,
    );
}

fn columns(sql: &str) -> Vec<String> {
    let answer = run(async {
        let engine = engine();
        let text = engine.read(sql).unwrap();
        engine
            .query("default", text, HashMap::new(), None)
            .await
            .unwrap()
            .stream
            .schema()
    });
    answer
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect()
}

async fn warnings(sql: &str) -> Vec<String> {
    let engine = engine();
    let text = engine.read(sql).unwrap();
    let answer = engine
        .query("default", text, HashMap::new(), None)
        .await
        .unwrap();
    let _: Vec<_> = answer.stream.try_collect().await.unwrap();
    answer.warnings.list()
}

#[test]
fn an_answer_is_a_table() {
    let range = "SELECT time, code, value FROM promql('http_requests_total{job=\"api\"}', START, \
                 LAST, 15) ORDER BY code, time LIMIT 4";
    let t = "2026-11-22T00:00";
    check_call(
        range,
        &[
            &format!("{t}:00|200|10.0"),
            &format!("{t}:15|200|11.0"),
            &format!("{t}:30|200|12.0"),
            &format!("{t}:00|500|1.0"),
        ],
    );
    check_call(
        "SELECT code, value FROM promql('http_requests_total{job=\"api\"}', LAST) ORDER BY 1",
        &["200|12.0", "500|3.0"],
    );
    check_call(
        "SELECT count(*), sum(value) FROM promql('sum(http_requests_total{job=\"api\"})', START, \
         LAST, 15)",
        &["3|39.0"],
    );
    // A scalar is one series without labels; raw samples have their own times.
    check_call(
        "SELECT value FROM promql('1 + 1', START, LAST, 15)",
        &["2.0", "2.0", "2.0"],
    );
    check_call(
        "SELECT time, value FROM promql('http_requests_total{code=\"500\"}[16s]', LAST)",
        &[&format!("{t}:15|2.0"), &format!("{t}:30|3.0")],
    );
    check_call("SELECT * FROM promql('absent_metric', LAST)", &[]);
    check("SELECT count(*) FROM promql('http_requests_total')", &["0"]);
}

#[test]
fn times_and_steps_come_in_many_forms() {
    let call = |args: &str| {
        format!("SELECT count(*) FROM promql('http_requests_total{{job=\"api\"}}', {args})")
    };
    for (args, rows) in [
        (
            "TIMESTAMP '2026-11-22 00:00:00', TIMESTAMP '2026-11-22 00:00:30', INTERVAL '15 \
             seconds'",
            "6",
        ),
        ("'2026-11-22T00:00:00Z', '2026-11-22T00:00:30Z', '15s'", "6"),
        (
            "'2026-11-22 00:00:00', '2026-11-22T01:00:30+01:00', '15'",
            "6",
        ),
        ("1795305600, 1795305630.0, 7.5", "10"),
        (
            "'1795305600', to_timestamp(1795305630), INTERVAL '0.25 minutes'",
            "6",
        ),
        (
            "DATE '2026-11-22', TIMESTAMP '2026-11-22 00:00:00' + INTERVAL '30 seconds', 15 * 2",
            "4",
        ),
        ("now() - INTERVAL '1 hour', now(), INTERVAL '1' MINUTE", "0"),
    ] {
        check(&call(args), &[rows]);
    }
}

#[test]
fn it_joins_and_nests() {
    check_call(
        "SELECT job, a.value, b.value FROM promql('sum by (job) (http_requests_total)', LAST) a \
         JOIN promql('count by (job) (http_requests_total)', LAST) b USING (job) ORDER BY job",
        &["api|15.0|2.0", "web|NaN|1.0"],
    );
    check_call(
        "WITH p AS (SELECT * FROM promql('http_requests_total', LAST)) SELECT p.code, c.host FROM \
         p JOIN (SELECT DISTINCT host FROM cpu WHERE host = 'a') c ON true WHERE p.code = '200'",
        &["200|a"],
    );
    check_call(
        "SELECT count(*) FROM cpu WHERE host IN (SELECT 'a' FROM promql('1', LAST))",
        &["6"],
    );
    check_call(
        "SELECT p.value FROM promql('1', LAST) AS p UNION ALL SELECT value FROM promql('2', LAST) \
         ORDER BY 1",
        &["1.0", "2.0"],
    );
    let many: Vec<String> = (0..17)
        .map(|i| format!("SELECT value FROM promql('{i}', 0)"))
        .collect();
    check_bad(&many.join(" UNION ALL "), "more than 16 different calls");
}

#[test]
fn columns_do_not_depend_on_what_matches_where_the_expression_says_them() {
    let time = "time Timestamp(ms)";
    assert_eq!(
        columns("SELECT * FROM promql('sum by (job) (nothing)', 0)"),
        [time, "job Utf8View", "value Float64"]
    );
    assert_eq!(
        columns(
            "SELECT * FROM promql('label_replace(rate(x{a=\"1\",b=\"\",c!=\"2\"}[5m]), \"d\", \
             \"$1\", \"a\", \"(.*)\")', 0)"
        ),
        [time, "a Utf8View", "d Utf8View", "value Float64"]
    );
    assert_eq!(
        columns(
            "SELECT * FROM promql('count_values without (b) (\"v\", x{a=\"1\",b=\"2\"}) * on (a) \
             group_left (e) y', 0)"
        ),
        [time, "a Utf8View", "e Utf8View", "value Float64"]
    );
    assert_eq!(
        columns("SELECT * FROM promql('1', 0)"),
        [time, "value Float64"]
    );
    // Labels that are called like other columns.
    assert_eq!(
        columns(&format!("SELECT * FROM promql('cpu', {START_S})")),
        [
            time,
            "__name__ Utf8View",
            "label_value Utf8View",
            "label_time Utf8View",
            "label_label_value Utf8View",
            "value Float64"
        ]
    );
}

#[test]
fn wrong_calls_say_what_is_wrong() {
    check_bad(
        "SELECT * FROM promql('sum(', 0)",
        "promql(): 1:5: parse error: unclosed left parenthesis",
    );
    check_bad("SELECT * FROM promql('up +\n foo{', 0)", "2:");
    check_bad("SELECT * FROM promql('\"text\"', 0)", "is a string");
    check_bad(
        "SELECT * FROM promql('up[5m]', 0, 10, 1)",
        "invalid expression type \"range vector\" for range query",
    );
    check_bad("SELECT * FROM promql()", "takes 1, 2 or 4 arguments, got 0");
    check_bad(
        "SELECT * FROM promql('up', 0, 1)",
        "takes 1, 2 or 4 arguments, got 3",
    );
    check_bad("SELECT * FROM promql(1)", "the expression must be a text");
    check_bad(
        "SELECT * FROM promql('up', 'yesterday')",
        "time: \"yesterday\" is no time",
    );
    check_bad("SELECT * FROM promql('up', NULL)", "is no time");
    check_bad(
        "SELECT * FROM promql('up', 5, 1, 1)",
        "end must not be before start",
    );
    for step in ["0", "-1", "'x'", "NULL", "INTERVAL '1 month'", "true"] {
        check_bad(
            &format!("SELECT * FROM promql('up', 0, 1, {step})"),
            "step:",
        );
    }
    check_bad(
        "SELECT * FROM promql('up', random())",
        "time must be a constant",
    );
    check_bad(
        "SELECT * FROM cpu, LATERAL promql(host, 0)",
        "must be a constant",
    );
    check_bad("SELECT * FROM promql($1, 0)", "parameter $1");
    check_bad(
        &format!(
            "SELECT * FROM promql('http_requests_total + ignoring (code) http_requests_total', \
             {LAST})"
        ),
        "many-to-many",
    );
}

#[test]
fn a_call_is_a_part_of_the_plan_if_its_columns_are_known() {
    let plan = explain(&format!(
        "SELECT c.host, p.value FROM cpu c JOIN promql('sum by (host) (rate(x[1m]))', {LAST}) p \
         USING (host)"
    ));
    let lines: Vec<&str> = plan.lines().map(str::trim).collect();
    let at = |start: &str| {
        let found = lines.iter().position(|line| line.contains(start));
        found.unwrap_or_else(|| panic!("no {start} in {plan}"))
    };
    let call = at("PromqlExec: sum by (host) (rate(x[1m]))");
    assert_eq!(
        [
            at("PromFinishExec: time="),
            at("PromAggregateExec: mode=Final, sum by (host)"),
            at("PromAggregateExec: mode=Partial, sum by (host)"),
            at("PromSelectExec: rate(x[1m])"),
        ],
        [call + 1, call + 2, call + 3, call + 4],
        "{plan}"
    );
    assert!(
        at("HashJoinExec") < call && !plan.contains("while planning"),
        "{plan}"
    );
    for known in [
        "up",
        "abs(up) * 2",
        "topk(1, up or x)",
        "sum without (a) (up)",
        "vector(1)",
    ] {
        let plan = explain(&format!("SELECT * FROM promql('{known}', {LAST})"));
        assert!(!plan.contains("while planning"), "{plan}");
    }
    // Only the answer has the labels, or says that it has no histograms.
    for unknown in ["up / on (a) x", "info(up)"] {
        let plan = explain(&format!("SELECT * FROM promql('{unknown}', {LAST})"));
        assert!(plan.contains("evaluated while planning in"), "{plan}");
    }
}

#[test]
fn remarks_and_limits_reach_the_caller() {
    let remarks = run(warnings(&format!(
        "SELECT * FROM promql('quantile(2, http_requests_total)', {LAST})"
    )));
    assert_eq!(
        remarks,
        ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]
    );
    let limited = |options: SqlOptions| {
        let engine = SqlEngine::new(Arc::new(source()), options).unwrap();
        run(batches(
            &engine,
            "SELECT * FROM promql('1', 0, 1000, 1)",
            HashMap::new(),
        ))
    };
    let promql = EngineOptions {
        max_samples: 100,
        ..EngineOptions::default()
    };
    match limited(SqlOptions {
        promql,
        ..SqlOptions::default()
    }) {
        Err(SqlError::ResourcesExhausted(message)) => {
            assert!(message.contains("too many samples"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    match limited(SqlOptions {
        memory: QueryMemory::new(MemoryBudget::unlimited(), 1000),
        ..SqlOptions::default()
    }) {
        Err(SqlError::ResourcesExhausted(message)) => {
            assert!(message.contains("max_query_memory_bytes"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let slow = SqlOptions {
        timeout: Some(Duration::ZERO),
        ..SqlOptions::default()
    };
    assert_eq!(limited(slow).unwrap_err(), SqlError::Timeout);
}

#[test]
fn an_answer_is_counted_in_the_memory_of_the_statement() {
    let budget = MemoryBudget::unlimited();
    let options = SqlOptions {
        memory: QueryMemory::new(Arc::clone(&budget), usize::MAX),
        ..SqlOptions::default()
    };
    let engine = SqlEngine::new(Arc::new(source()), options).unwrap();
    run(async {
        let text = engine
            .read("SELECT * FROM promql('time()', 0, 100000, 1)")
            .unwrap();
        let answer = engine
            .query("default", text, HashMap::new(), None)
            .await
            .unwrap();
        let mut stream = answer.stream;
        let mut rows = stream.next().await.unwrap().unwrap().num_rows();
        assert!(budget.used() >= 800_000, "{}", budget.used());
        while let Some(batch) = stream.next().await {
            rows += batch.unwrap().num_rows();
        }
        assert_eq!(rows, 100_001);
    });
    assert_eq!(budget.used(), 0);
}
