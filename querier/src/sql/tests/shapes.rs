//! Queries that are asked again with other texts.

use super::*;

const HOSTS: [&str; 5] = ["a", "b", "", "missing", "it's"];
const TIMES: [&str; 5] = [
    "2026-11-22T00:01:00Z",
    "2026-11-22",
    "1969-12-31T23:59:58.5",
    "2026-11-22T00:02:00.000000001Z",
    "2026-11-23 00:00:00+01:00",
];

/// Statements with `{h}` for hosts, `{t}` for times.
const SHAPES: [&str; 16] = [
    "SELECT count(*), sum(usage) FROM cpu WHERE host = '{h}'",
    "SELECT count(*) FROM cpu WHERE host != '{h}' AND time >= '{t}'",
    "SELECT host, usage FROM cpu WHERE host IN ('{h}', '{h}', 'c') AND (time < '{t}')",
    "SELECT usage FROM cpu WHERE host NOT IN ('{h}', '{h}') AND region = 'us'",
    "SELECT count(*) FROM cpu WHERE time BETWEEN '{t}' AND '{t}' AND host IS NOT NULL",
    "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(usage) FROM cpu AS c \
     WHERE c.time > '{t}' AND c.host = '{h}' GROUP BY t ORDER BY t",
    "SELECT host, max(time) FROM cpu WHERE time <= '{t}' GROUP BY host",
    "SELECT time, usage FROM cpu WHERE host = '{h}' ORDER BY time DESC LIMIT 2",
    "SELECT usage FROM cpu WHERE host = '{h}' ORDER BY usage LIMIT 1",
    "SELECT usage FROM cpu WHERE host = '{h}' ORDER BY usage DESC LIMIT 1",
    "SELECT DISTINCT host FROM cpu WHERE time >= '{t}'",
    "SELECT count(*) FROM cpu WHERE note = '{h}' AND host = '{h}'",
    "SELECT count(*) FROM cpu WHERE usage > 3 AND host = '{h}'",
    "SELECT count(*) FROM cpu WHERE host = '{h}' AND host < '{h}'",
    "WITH c AS (SELECT * FROM cpu WHERE host = '{h}') SELECT count(*) FROM c WHERE time > '{t}'",
    "SELECT count(*) FROM cpu WHERE host = '{h}' AND 'x' = '{h}'",
];

/// The statement with texts of the lists, beginning at different ones.
fn with_texts(shape: &str, first: usize) -> String {
    let (mut out, mut at) = (shape.to_owned(), first);
    for (mark, texts) in [("{h}", HOSTS), ("{t}", TIMES)] {
        while out.contains(mark) {
            let text = texts[at % texts.len()].replace('\'', "''");
            out = out.replacen(mark, &text, 1);
            at += 1;
        }
    }
    out
}

#[test]
fn a_shape_is_answered_for_the_texts_of_each_query() {
    let engine = engine();
    run(async {
        let plain = plain(&engine).await;
        for shape in SHAPES {
            // Twice, as operators are kept from the first answer on.
            for first in 0..2 * HOSTS.len() {
                let sql = with_texts(shape, first);
                let answer = batches(&engine, &sql, HashMap::new()).await;
                let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
                let expected = plain.sql(&sql).await.unwrap().collect().await.unwrap();
                assert_eq!(sorted(&answer), sorted(&expected), "{sql}");
                if let (Some(a), Some(b)) = (answer.first(), expected.first()) {
                    assert_eq!(a.schema(), b.schema(), "{sql}");
                }
            }
        }
    });
    // Each text within `WITH` makes a shape, and so does each that no column is compared with. No
    // plan is kept of these, nor of the two that have a filter above the scan. What is counted from
    // the index has no operators worth keeping.
    assert_eq!(format!("{:?}", engine.shapes), "Shapes(17 of 24, 10 ready)");
}

#[test]
fn what_is_kept_holds_nothing_of_a_query() {
    let engine = engine();
    run(async {
        for sql in [
            "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(usage) FROM cpu \
             WHERE host = 'a' GROUP BY t ORDER BY t",
            "SELECT host, row_number() OVER (PARTITION BY host) FROM cpu WHERE host = 'a'",
            "SELECT usage, lag(usage) OVER (ORDER BY time) FROM cpu WHERE host = 'a'",
            "SELECT array_agg(usage) OVER (ORDER BY time) FROM cpu WHERE host = 'a'",
        ] {
            for _ in 0..3 {
                let held: Held = Arc::new(());
                let text = engine.read(sql).unwrap();
                let answer = engine.query("default", text, HashMap::new(), Some(Arc::clone(&held)));
                let rows: Vec<_> = answer.await.unwrap().stream.try_collect().await.unwrap();
                assert!(!rows.is_empty(), "{sql}");
                drop(rows);
                assert_eq!(Arc::strong_count(&held), 1, "{sql}");
            }
        }
    });
}

#[test]
fn an_error_names_what_was_written() {
    let engine = engine();
    run(async {
        for sql in [
            "SELECT usage FROM cpu WHERE time >= '2026-11-22'",
            "SELECT usage FROM cpu WHERE time >= 'yesterday'",
            "SELECT usage FROM cpu WHERE nothing = 'x'",
        ] {
            let texts = batches(&engine, sql, HashMap::new()).await;
            let word = sql.split('\'').nth(1).unwrap_or_default();
            match texts {
                Ok(_) => assert_eq!(word, "2026-11-22"),
                Err(SqlError::BadRequest(message) | SqlError::UnknownColumn(message)) => {
                    assert!(
                        message.contains(word) || message.contains("nothing"),
                        "{message}"
                    );
                }
                Err(other) => panic!("{sql}: {other}"),
            }
        }
    });
}

#[test]
fn a_shape_sees_the_columns_and_rows_that_there_are_now() {
    let mut source = source();
    let before = SqlEngine::new(Arc::new(source.clone()), SqlOptions::default()).unwrap();
    let sql = "SELECT * FROM cpu WHERE host = 'new'";
    assert!(
        run(batches(&before, sql, HashMap::new()))
            .unwrap()
            .is_empty()
    );
    let more = [("host", ColumnType::Tag), ("more", ColumnType::Float)];
    source.table("default", "cpu", TableKind::Wide, &more);
    let cell = [("more", Cell::Float(7.5))];
    source.row("default", "cpu", &[("host", "new")], 5, &cell);
    let after = before.over(Arc::new(source));
    let answer = run(batches(&after, sql, HashMap::new())).unwrap();
    assert_eq!(texts(&answer), ["new|1970-01-01T00:00:00.000000005|7.5"]);
    assert!(
        run(batches(&before, sql, HashMap::new()))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_changes_with_the_time_is_planned_each_time() {
    let engine = engine();
    let sql = "SELECT now() AS t FROM cpu WHERE host = 'a' LIMIT 1";
    let first = texts(&run(batches(&engine, sql, HashMap::new())).unwrap());
    std::thread::park_timeout(Duration::from_millis(2));
    let second = texts(&run(batches(&engine, sql, HashMap::new())).unwrap());
    assert_ne!(first, second);
    assert_eq!(format!("{:?}", engine.shapes), "Shapes(0 of 1, 0 ready)");
}

/// Queries of a known shape are planned on the stack of the caller: 2 MiB in a test.
#[test]
fn the_deepest_short_texts_fit_on_a_small_stack() {
    let engine = engine();
    let chain = |operand: &str, operator: &str| vec![operand; 13].join(operator);
    let deep = |open: &str, inner: &str, close: &str, levels: usize| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    for of_each_row in [
        chain("usage", " + "),
        chain("up", " AND "),
        deep("-(", "usage", ")", 4),
        deep("abs(usage + ", "1", ")", 4),
        deep("NOT ", "up", "", 13),
        deep("CASE WHEN up THEN ", "usage", " ELSE 2 END", 6),
    ] {
        let sql = format!("SELECT {of_each_row} FROM cpu WHERE host = 'a'");
        assert!(engine.read(&sql).unwrap().is_short, "{sql}");
        for _ in 0..2 {
            run(batches(&engine, &sql, HashMap::new())).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    }
    let inner = deep("SELECT * FROM (", "SELECT * FROM cpu", ") AS x", 4);
    let sql = format!("{inner} WHERE host = 'a'");
    for _ in 0..2 {
        run(batches(&engine, &sql, HashMap::new())).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    // Of a long text nothing is kept.
    let sql = format!("SELECT usage FROM cpu WHERE host = '{}'", "x".repeat(3000));
    assert!(
        run(batches(&engine, &sql, HashMap::new()))
            .unwrap()
            .is_empty()
    );
    assert_eq!(format!("{:?}", engine.shapes), "Shapes(7 of 7, 7 ready)");
    let long = format!("SELECT {} FROM cpu", vec!["usage"; 20].join(" + "));
    assert!(!engine.read(&long).unwrap().is_short);
}
