use super::super::ast::{Dimension, Expr, Field, Fill, Operator, Select, Source};
use super::*;

fn select(text: &str) -> Select {
    match parse(text, &Params::new()).unwrap().remove(0) {
        Statement::Select(select) => *select,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    match parse(text, &Params::new()) {
        Ok(parsed) => panic!("{text} was read as {parsed:?}"),
        Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
    }
}

#[test]
fn names_are_bare_or_quoted_and_have_parts() {
    let query =
        select(r#"select "a b"::tag, "say \"x\"" from "my db"."two weeks"."m-1", b..c, /^x\/y/"#);
    let measurement = |at: usize| match &query.sources[at] {
        Source::Measurement(found) => found.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(measurement(0).database.as_deref(), Some("my db"));
    assert_eq!(measurement(0).policy.as_deref(), Some("two weeks"));
    assert_eq!(
        (measurement(1).database.as_deref(), measurement(1).policy),
        (Some("b"), None)
    );
    let super::super::ast::MeasurementName::Regex(pattern) = measurement(2).name else {
        panic!("no pattern");
    };
    assert_eq!(pattern.text, "^x/y");
    let names: Vec<&str> = query
        .fields
        .iter()
        .map(|field| match &field.expr {
            Expr::Reference(reference) => reference.name.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["a b", "say \"x\""]);
}

#[test]
fn operators_bind_as_in_influxdb() {
    let Field { expr, .. } = select("SELECT 1 + a * b - c FROM m").fields.remove(0);
    let Expr::Binary(Operator::Subtract, left, _) = expr else {
        panic!("{expr:?}");
    };
    assert!(matches!(*left, Expr::Binary(Operator::Add, ..)));
    let condition =
        select("SELECT a FROM m WHERE x = 1 OR y = 2 AND z = 3 OR w =~ /a b/").condition;
    let Some(Expr::Logical(Operator::Or, terms)) = condition else {
        panic!("{condition:?}");
    };
    assert_eq!(terms.len(), 3);
    assert!(matches!(&terms[1], Expr::Logical(Operator::And, both) if both.len() == 2));
}

#[test]
fn a_select_has_all_its_parts() {
    let query = select(
        "SELECT mean(f) AS x FROM m WHERE time > now() - 1h30m GROUP BY host, time(1m, -5s), /^r/ \
         fill(-1.5) ORDER BY time DESC LIMIT 3 OFFSET 1 SLIMIT 2 SOFFSET 4 tz('Europe/Berlin')",
    );
    assert_eq!(query.fields[0].alias.as_deref(), Some("x"));
    assert_eq!(query.dimensions.len(), 3);
    assert!(matches!(&query.dimensions[1], Dimension::Time(args) if args.len() == 2));
    assert_eq!(query.fill, Fill::Number(-1.5));
    assert!(query.descending && query.is_ordered);
    let limits = [
        query.limit,
        query.offset,
        query.series_limit,
        query.series_offset,
    ];
    assert_eq!(limits, [3, 1, 2, 4]);
    assert_eq!(query.zone, Some(chrono_tz::Europe::Berlin));
}

#[test]
fn statements_come_one_after_the_other() {
    let parsed = parse(
        "SELECT a FROM m;; SHOW DATABASES -- the end\n;",
        &Params::new(),
    )
    .unwrap();
    assert_eq!(parsed.len(), 2);
    assert_eq!(parsed[1], Statement::ShowDatabases);
    assert_eq!(parse(" ; ", &Params::new()).unwrap(), []);
}

#[test]
fn parameters_are_values_never_text() {
    let mut params = Params::new();
    params.insert("p".to_owned(), Literal::String("x' OR 'a' = 'a".to_owned()));
    let parsed = parse("SELECT a FROM m WHERE host = $p", &params).unwrap();
    let Statement::Select(query) = &parsed[0] else {
        panic!("{parsed:?}");
    };
    let Some(Expr::Binary(Operator::Equal, _, value)) = &query.condition else {
        panic!("{query:?}");
    };
    let text = "x' OR 'a' = 'a".to_owned();
    assert_eq!(**value, Expr::Literal(Literal::String(text)));
    let missing = parse("SELECT a FROM m WHERE host = $q", &params).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "error parsing query: missing parameter: q"
    );
}

#[test]
fn durations() {
    let check = |text: &str, expected: Option<i64>| {
        assert_eq!(
            super::super::lexer::parse_duration(text),
            expected,
            "{text}"
        );
    };
    check("10s", Some(10_000_000_000));
    check("1h30m", Some(5_400_000_000_000));
    check("5u", Some(5_000));
    check("5µ", Some(5_000));
    check("2w", Some(1_209_600_000_000_000));
    check("5x", None);
    check("s", None);
    check("99999999999w", None);
}

#[test]
fn errors_say_where_and_what_was_expected() {
    refused("SELEC a FROM m", "found SELEC, expected SELECT, SHOW");
    refused(
        "SELECT a FROM m m2",
        "found m2, expected ; at line 1, char 17",
    );
    refused(
        "SELECT a\nFROM m WHERE x = ",
        "found EOF, expected identifier, string, number, bool at line 2, char 18",
    );
    refused(
        "SELECT a FROM m LIMIT x",
        "found x, expected integer at line 1, char 23",
    );
    refused("SELECT a FROM m ORDER BY a", "only ORDER BY time supported");
    refused("SELECT a FROM /(/", "error parsing regexp");
    refused(
        "SELECT a FROM m WHERE t > now() - 5x",
        "invalid duration at line 1, char 35",
    );
    refused(
        "SELECT a FROM m WHERE l > 99999999999999999999",
        "unable to parse integer",
    );
    refused(
        "SELECT a FROM m tz('No/Where')",
        "unable to find time zone No/Where",
    );
    refused(
        "SELECT 'a FROM m",
        "the quote that begins here does not end at line 1, char 8",
    );
    refused(
        "SELECT a /* FROM m",
        "the comment that begins here does not end",
    );
    refused("CREATE DATABASE", "found EOF, expected identifier");
    refused("SELECT a INTO b FROM m", "is not supported");
    refused("GRANT ALL TO x", "access is by tokens");
    refused(
        "CREATE CONTINUOUS QUERY",
        "continuous queries are not supported",
    );
}

#[test]
fn nesting_is_bounded_and_conditions_are_not() {
    let deep = format!(
        "SELECT a FROM m WHERE {}x = 1{}",
        "(".repeat(5000),
        ")".repeat(5000)
    );
    refused(&deep, "nests deeper than");
    let deep = format!(
        "{}SELECT a FROM m{}",
        "SELECT a FROM (".repeat(5000),
        ")".repeat(5000)
    );
    refused(&deep, "nests deeper than");
    let chain = format!("SELECT a FROM m WHERE x = 1{}", " + 1".repeat(5000));
    refused(&chain, "too many operands");
    let many: Vec<String> = (0..20_000).map(|n| format!("host = 'h{n}'")).collect();
    let query = select(&format!("SELECT a FROM m WHERE {}", many.join(" OR ")));
    assert!(matches!(query.condition, Some(Expr::Logical(_, terms)) if terms.len() == 20_000));
    let patterns = "a =~ /x{1000}y{1000}z{500}/ OR ".repeat(300);
    refused(
        &format!("SELECT a FROM m WHERE {patterns} b = 1"),
        "error parsing regexp",
    );
}
