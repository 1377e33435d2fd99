//! Statements that change something, against the same tables.

use tidelake_catalog::model::{Matcher, TimeRange};

use super::*;

async fn command(sql: &str) -> Result<Command, SqlError> {
    let engine = engine();
    let params = HashMap::from([
        ("host".to_owned(), SqlParam::String("a".into())),
        ("n".to_owned(), SqlParam::Integer(7)),
    ]);
    engine.command("default", engine.read(sql)?, params).await
}

#[track_caller]
fn check_command(sql: &str, expected: Command) {
    assert_eq!(
        run(command(sql)).unwrap_or_else(|error| panic!("{sql}: {error}")),
        expected,
        "{sql}"
    );
}

#[track_caller]
fn check_error(sql: &str, words: &str) {
    match run(command(sql)) {
        Err(
            SqlError::BadRequest(message)
            | SqlError::Syntax(message)
            | SqlError::UnknownColumn(message)
            | SqlError::NotFound(message),
        ) if message.contains(words) => {
            assert!(message.len() < 1000, "{message}");
        }
        other => panic!("{sql:.200}: expected {words:?}, got {other:?}"),
    }
}

/// Rows of `cpu` that a delete takes, and whether it takes those that the query shows.
#[track_caller]
fn check_delete(condition: &str) {
    let shown = run(rows(&format!(
        "SELECT host, region, time FROM cpu WHERE {condition} ORDER BY 1, 2, 3"
    )))
    .unwrap();
    let sql = format!("DELETE FROM cpu WHERE {condition}");
    let taken = match run(command(&sql)).unwrap_or_else(|error| panic!("{sql}: {error}")) {
        Command::Nothing => 0,
        Command::Delete {
            table,
            matchers,
            range,
        } => {
            assert_eq!(table, "cpu");
            run(taken(matchers, range))
        }
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(taken, shown.len(), "{sql}: {shown:?}");
}

/// How many rows of `cpu` a tombstone takes.
async fn taken(matchers: Vec<Matcher>, range: TimeRange) -> usize {
    let units = source()
        .scan(
            "default",
            "cpu",
            RowRequest {
                fields: Vec::new(),
                matchers,
                range,
                edge: None,
                tags: None,
            },
        )
        .await
        .unwrap();
    let mut taken = 0;
    for unit in units {
        taken += unit.read().await.unwrap().time.len();
    }
    taken
}

#[test]
fn a_delete_takes_what_the_select_shows() {
    for condition in [
        "true",
        "host = 'b'",
        "'b' = host",
        "host != 'b'",
        "host <> 'b' AND region = 'us'",
        "NOT host = 'b'",
        "host IN ('a', 'b', 'x')",
        "host NOT IN ('a', 'x')",
        "host NOT IN ('a', 'b', 'c', 'd', 'e', 'f')",
        "host = 'a' OR host = 'c'",
        "host IS NULL",
        "host IS NOT NULL AND region IS NULL",
        "host = ''",
        "host = NULL",
        "region LIKE 'eu%'",
        "region NOT LIKE 'eu-_entral%'",
        "region ~ 'central'",
        "region ~ '^(eu|us)$'",
        "region !~ '^u'",
        "\"hostName\" = 'B.example'",
        "time >= '2026-11-22T00:01:00Z'",
        "time > '2026-11-22T00:01:00.000000001Z'",
        "time < TIMESTAMP '2026-11-22 00:01:00'",
        "time <= '2026-11-22' AND host = 'a'",
        "time BETWEEN '2026-11-22T00:01:00Z' AND '2026-11-22T00:03:00Z'",
        "time = '2026-11-22T00:02:00Z'",
        "time < '1970-01-01'",
        "time > now() + INTERVAL '1000 days'",
        "time > '2026-11-22T00:01:00Z' AND time < '2026-11-22T00:01:00Z'",
        "time >= '2026-11-22T00:04:00Z'::timestamp - INTERVAL '2 minutes'",
        "host = 'a' AND host = 'b'",
        "1 = 0",
        "upper('x') = 'X' AND host = lower('A')",
    ] {
        check_delete(condition);
    }
}

#[test]
fn deletes() {
    let delete = |matchers: Vec<Matcher>, range| Command::Delete {
        table: "cpu".to_owned(),
        matchers,
        range,
    };
    check_command("DELETE FROM cpu", delete(vec![], TimeRange::ALL));
    check_command(
        "DELETE FROM public.cpu AS c WHERE c.host = $host;",
        delete(vec![Matcher::equal("host", "a")], TimeRange::ALL),
    );
    let range = TimeRange::new(START_S * NS, i64::MAX);
    check_command(
        "DELETE FROM cpu WHERE time >= '2026-11-22'",
        delete(vec![], range),
    );
    let metric = |matchers: &[(&str, &str)], range| Command::Delete {
        table: METRICS_TABLE.to_owned(),
        matchers: matchers
            .iter()
            .map(|(name, value)| Matcher::equal(*name, *value))
            .collect(),
        range,
    };
    let all = [("__name__", "http_requests_total")];
    check_command(
        "DELETE FROM http_requests_total",
        metric(&all, TimeRange::ALL),
    );
    let api = [all[0], ("job", "api")];
    let range = TimeRange::new(i64::MIN, START_S * 1000 - 1);
    check_command(
        "DELETE FROM metrics.http_requests_total WHERE job = 'api' AND time < '2026-11-22'",
        metric(&api, range),
    );
    // A wide table is meant where both are called so, as in a SELECT; a label that a column has the
    // name of is found by its alias.
    check_command(
        "DELETE FROM metrics.cpu WHERE label_time = 't'",
        metric(&[("__name__", "cpu"), ("time", "t")], TimeRange::ALL),
    );
}

#[test]
fn what_a_delete_cannot_select_is_refused() {
    for (condition, words) in [
        ("usage > 5", "usage > Float64(5)"),
        ("up", "cpu.up"),
        ("note = 'three'", "the condition"),
        ("host = 'a' OR region = 'us'", "the condition"),
        ("host = 'a' OR time < '2026-11-22'", "the condition"),
        ("host = region", "the condition"),
        ("host > 'a'", "the condition"),
        ("host ILIKE 'A'", "the condition"),
        ("region LIKE '%'", "the condition"),
        ("upper(host) = 'A'", "upper"),
        ("time != '2026-11-22'", "the condition"),
        ("date_trunc('day', time) = '2026-11-22'", "date_trunc"),
        ("random() < 0.5", "random"),
        ("host IN (SELECT host FROM cpu)", "subquery"),
        (
            "EXISTS (SELECT 1 FROM http_requests_total)",
            "more than one table",
        ),
        ("nothing = 'x'", "nothing"),
        ("host = $nothing", "nothing"),
        ("host ~ '('", "unclosed group"),
        ("count(*) > 1", ""),
    ] {
        check_error(&format!("DELETE FROM cpu WHERE {condition}"), words);
    }
    check_error("DELETE FROM cpu WHERE usage > 5", "joined by AND");
    check_error("DELETE FROM absent", "\"absent\" not found");
    check_error("DELETE FROM other.public.disk", "one database");
    check_error("DELETE FROM information_schema.tables", "only describes");
    check_error(
        &format!("DELETE FROM cpu WHERE {}", "(".repeat(1000)),
        "too complex",
    );
}

#[test]
fn drops_and_retentions() {
    let database = |name: &str, if_exists| Command::DropDatabase {
        database: name.to_owned(),
        if_exists,
    };
    check_command(
        "DROP TABLE \"Mixed Case\"",
        Command::DropTable {
            table: "Mixed Case".to_owned(),
        },
    );
    check_command(
        "DROP TABLE default.public.cpu",
        Command::DropTable {
            table: "cpu".to_owned(),
        },
    );
    check_command("DROP TABLE IF EXISTS absent", Command::Nothing);
    let matchers = vec![Matcher::equal("__name__", "cpu")];
    check_command(
        "DROP TABLE metrics.cpu",
        Command::Delete {
            table: METRICS_TABLE.to_owned(),
            matchers,
            range: TimeRange::ALL,
        },
    );
    check_error("DROP TABLE absent", "\"absent\" not found");
    check_error("DROP TABLE information_schema.tables", "only describes");
    check_error("DROP TABLE nowhere.cpu", "\"nowhere\"");
    check_command("DROP DATABASE other", database("other", false));
    check_command("DROP DATABASE IF EXISTS absent", database("absent", true));

    let retention = |database: &str, table: Option<&str>, retention| {
        let (database, table) = (database.to_owned(), table.map(str::to_owned));
        Command::SetRetention {
            database,
            table,
            retention,
        }
    };
    let day = Retention::Millis(86_400_000);
    check_command(
        "ALTER TABLE cpu SET (retention = '1d')",
        retention("default", Some("cpu"), day),
    );
    check_command(
        "ALTER SCHEMA metrics SET (retention = '24h')",
        retention("default", Some(METRICS_TABLE), day),
    );
    check_command(
        "ALTER DATABASE other SET (retention = 'default')",
        retention("other", None, Retention::Inherit),
    );
    check_error(
        "ALTER TABLE http_requests_total SET (retention = '1d')",
        "ALTER SCHEMA metrics",
    );
    check_error(
        "ALTER SCHEMA public SET (retention = '1d')",
        "ALTER DATABASE",
    );
    check_error(
        "ALTER TABLE absent SET (retention = '1d')",
        "\"absent\" not found",
    );
}

#[test]
fn retention_is_shown() {
    let expected = [
        "default|NULL|NULL|1d|1d",
        "default|public|Mixed Case|default|1d",
        "default|metrics|NULL|default|1d",
        "default|public|cpu|forever|forever",
    ];
    check("SHOW RETENTION", &expected);
    check("show retention;", &expected);
    check(
        "SELECT effective_retention_period FROM information_schema.retention WHERE table_name = \
         'cpu'",
        &["forever"],
    );
}
