use super::*;

#[track_caller]
fn check(text: &str, expected: Command) {
    assert_eq!(Command::parse(text), Ok(expected), "{text}");
}

#[track_caller]
fn check_bad(text: &str, state: &str, words: &str) {
    let error = Command::parse(text).unwrap_err();
    assert_eq!(error.code, state, "{text}: {error}");
    assert!(error.message.contains(words), "{text}: {error}");
}

fn set(name: &str, value: Option<&str>) -> Command {
    Command::Set {
        name: name.into(),
        value: value.map(Into::into),
        is_local: false,
    }
}

#[test]
fn settings() {
    check("SET a TO 'b'", set("a", Some("b")));
    check(
        "set session DateStyle = ISO, MDY",
        set("datestyle", Some("ISO, MDY")),
    );
    check(
        "SET extra_float_digits = 3",
        set("extra_float_digits", Some("3")),
    );
    check(
        "SET TIME ZONE 'Europe/Berlin'",
        set("timezone", Some("Europe/Berlin")),
    );
    check("SET TIME ZONE -7", set("timezone", Some("-7")));
    check("SET TimeZone TO DEFAULT", set("timezone", None));
    check("SET NAMES 'utf8'", set("client_encoding", Some("utf8")));
    check("SET my.app = x", set("my.app", Some("x")));
    check(
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        Command::Nothing("SET"),
    );
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        Command::Nothing("SET"),
    );
    let local = Command::Set {
        name: "a".into(),
        value: Some("1".into()),
        is_local: true,
    };
    check("SET LOCAL a = 1", local);
    check("SHOW ALL", Command::ShowAll);
    check("SHOW TIME ZONE", Command::Show("timezone".into()));
    check(
        "SHOW TRANSACTION ISOLATION LEVEL",
        Command::Show("transaction_isolation".into()),
    );
    check("SHOW TABLES", Command::Query { sets: vec![] });
    check("RESET ALL", Command::ResetAll);
    check("DISCARD ALL", Command::Discard);
    check_bad("SET a", "42601", "expected TO or =");
    check_bad("SET a = 1 2", "42601", "found \"2\"");
    let set_config = SetConfig {
        name: "a".into(),
        value: "b".into(),
        is_local: true,
    };
    let sets = vec![set_config];
    check(
        "SELECT pg_catalog.set_config('a', 'b', true)",
        Command::Query { sets },
    );
    check_bad(
        "SELECT set_config($1, 'b', true)",
        "42601",
        "takes constants",
    );
}

#[test]
fn cursors_and_transactions() {
    check(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        Command::Begin,
    );
    check("START TRANSACTION", Command::Begin);
    check("end", Command::Commit);
    check("ROLLBACK TO SAVEPOINT x", Command::Savepoint("ROLLBACK"));
    let declare = |is_held| Command::Declare {
        name: "Cur".into(),
        query: "SELECT 1".into(),
        is_held,
        is_binary: false,
    };
    check("DECLARE \"Cur\" CURSOR FOR SELECT 1", declare(false));
    check(
        "DECLARE \"Cur\" NO SCROLL CURSOR WITH HOLD FOR SELECT 1",
        declare(true),
    );
    check(
        "DECLARE \"Cur\" CURSOR WITHOUT HOLD FOR SELECT 1",
        declare(false),
    );
    let quoted = Command::Declare {
        name: "without".into(),
        query: "SELECT 1".into(),
        is_held: true,
        is_binary: false,
    };
    check("DECLARE \"without\" CURSOR WITH HOLD FOR SELECT 1", quoted);
    check("COMMIT AND NO CHAIN", Command::Commit);
    check_bad("COMMIT AND CHAIN", "0A000", "AND CHAIN");
    check_bad("ROLLBACK AND CHAIN", "0A000", "AND CHAIN");
    let fetch = |rows, is_move| Command::Fetch {
        name: "c".into(),
        rows,
        is_move,
    };
    check("FETCH c", fetch(Some(1), false));
    check("FETCH FORWARD 100 FROM \"c\"", fetch(Some(100), false));
    check("fetch all in c", fetch(None, false));
    check("MOVE 5 c", fetch(Some(5), true));
    check_bad("FETCH BACKWARD 1 FROM c", "55000", "forward only");
    check_bad("DECLARE c SCROLL CURSOR FOR SELECT 1", "0A000", "SCROLL");
    check_bad("DECLARE c CURSOR FOR DELETE FROM t", "42601", "reads");
    check("CLOSE ALL", Command::CloseCursor(None));
    check("UNLISTEN *", Command::Nothing("UNLISTEN"));
}

#[test]
fn a_statement_within_another_is_looked_at_once() {
    let depth = 100_000;
    let declares = "DECLARE c CURSOR FOR ".repeat(depth);
    check_bad(&format!("{declares}SELECT 1"), "42601", "reads");
    let copies = "COPY (".repeat(depth);
    let ends = ") TO STDOUT".repeat(depth);
    check_bad(&format!("{copies}SELECT 1{ends}"), "42601", "reads");
}

#[test]
fn copies() {
    let copy = |query: &str, options: &[(&str, &str)]| {
        let mut all = CopyOptions::default();
        options
            .iter()
            .for_each(|(name, value)| all.set(name, value).unwrap());
        Command::Copy {
            query: query.into(),
            options: all,
        }
    };
    check("COPY (SELECT (1)) TO STDOUT", copy("SELECT (1)", &[]));
    check(
        "COPY public.\"T\" (a, b) TO STDOUT WITH (FORMAT csv, HEADER, DELIMITER '|')",
        copy(
            "SELECT a, b FROM public.\"T\"",
            &[("format", "csv"), ("header", "true"), ("delimiter", "|")],
        ),
    );
    check(
        "COPY t TO STDOUT CSV HEADER",
        copy("SELECT * FROM t", &[("format", "csv"), ("header", "true")]),
    );
    check(
        "COPY t TO STDOUT (FORMAT BINARY)",
        copy("SELECT * FROM t", &[("format", "binary")]),
    );
    check_bad("COPY t FROM STDIN", "0A000", "line protocol");
    check_bad("COPY t TO '/etc/passwd'", "42501", "no files");
    check_bad("COPY t TO PROGRAM 'sh'", "42501", "no files");
    check_bad("COPY (DELETE FROM t) TO STDOUT", "42601", "reads");
    check_bad("COPY t TO STDOUT (FORMAT x)", "22023", "format");
    check_bad("COPY (SELECT 1 TO STDOUT", "42601", "expected )");
}

#[test]
fn what_writes_is_told_where_to_go() {
    check_bad("INSERT INTO t VALUES (1)", "0A000", "line protocol");
    check_bad("CREATE TABLE t (a int)", "0A000", "first rows");
    check("DELETE FROM t", Command::Change("DELETE 0"));
    check("DROP DATABASE d", Command::Change("DROP DATABASE"));
    check("/* x */ (SELECT 1)", Command::Query { sets: vec![] });
}
