//! Tests of the whole way: text, tree, text. What is accepted, what is refused and with which
//! words, and that nothing overflows.

mod accepted;
mod refused;

use proptest::prelude::*;

use super::ast::*;
use super::{MAX_DEPTH, MAX_QUERY_BYTES, parse};
use crate::promql::functions::{self, FUNCTIONS};

/// Parses, compares the normal form, and demands that the normal form is a fixed point.
#[track_caller]
fn check(query: &str, expected: &str) {
    let expr = parse(query).unwrap_or_else(|error| panic!("{query:?} is refused: {error}"));
    assert_eq!(expr.to_string(), expected, "normal form of {query:?}");
    let again = parse(expected)
        .unwrap_or_else(|error| panic!("the normal form {expected:?} is refused: {error}"));
    assert_eq!(
        again.to_string(),
        expected,
        "the normal form is not a fixed point"
    );
}

/// Demands an error at a place, with a message that contains a text.
#[track_caller]
fn check_error(query: &str, place: &str, message: &str) {
    match parse(query) {
        Ok(expr) => panic!("{query:?} is accepted as {expr}"),
        Err(error) => {
            assert_eq!(
                format!("{}:{}", error.line, error.column),
                place,
                "place of the error in {query:?}: {error}"
            );
            assert!(
                error.message.contains(message),
                "error in {query:?} is {:?}, which lacks {message:?}",
                error.message
            );
            assert!(
                error.span.start <= error.span.end && error.span.end as usize <= query.len(),
                "{:?} in {query:?}",
                error.span
            );
        }
    }
}

/// Groups binary operators and signs visibly, so that precedence can be seen.
fn grouped(expr: &Expr) -> String {
    match expr {
        Expr::Binary(binary) => format!(
            "[{} {} {}]",
            grouped(&binary.lhs),
            binary.op.as_str(),
            grouped(&binary.rhs)
        ),
        Expr::Unary(unary) => format!(
            "[{}{}]",
            if unary.negative { '-' } else { '+' },
            grouped(&unary.expr)
        ),
        Expr::Paren(paren) => format!("({})", grouped(&paren.expr)),
        other => other.to_string(),
    }
}

#[track_caller]
fn check_grouping(query: &str, expected: &str) {
    assert_eq!(grouped(&parse(query).unwrap()), expected, "{query:?}");
}

#[track_caller]
fn check_number(query: &str, expected: f64) {
    match parse(query).unwrap() {
        Expr::Number(number) => assert_eq!(
            number.value.to_bits(),
            expected.to_bits(),
            "{query:?} is {}",
            number.value
        ),
        other => panic!("{query:?} is {other:?}"),
    }
}

#[track_caller]
fn check_text(query: &str, expected: &str) {
    match parse(query).unwrap() {
        Expr::String(text) => assert_eq!(text.value, expected, "{query:?}"),
        other => panic!("{query:?} is {other:?}"),
    }
}

#[track_caller]
fn check_type(query: &str, expected: ValueType) {
    assert_eq!(parse(query).unwrap().value_type(), expected, "{query:?}");
}

/// Runs everything that recurses over a tree on a stack of a quarter of what the server's threads
/// have.
fn on_small_stack(queries: Vec<String>) {
    let run = move || {
        for query in queries {
            match parse(&query) {
                Ok(expr) => {
                    let copy = expr.clone();
                    assert_eq!(copy, expr);
                    assert!(expr.to_string().len() >= 100);
                    assert_ne!(expr.value_type(), ValueType::String);
                }
                Err(error) => assert!(
                    ["nested too deeply", "unclosed"]
                        .iter()
                        .any(|text| error.message.contains(text)),
                    "{error}"
                ),
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn trees_of_any_size_fit_a_small_stack() {
    let mut queries = Vec::new();
    for levels in [
        100,
        MAX_DEPTH - 10,
        MAX_DEPTH - 1,
        MAX_DEPTH,
        MAX_DEPTH + 1,
        50_000,
    ] {
        let (before, after) = (
            |text: &str| text.repeat(levels),
            |text: &str| text.repeat(levels),
        );
        queries.push(format!("{}1{}", before("("), after(")")));
        queries.push(before("("));
        queries.push(format!("{}a", before("-")));
        queries.push(format!("{}a", before("-(")));
        queries.push(format!("1{}", after("+1")));
        queries.push(format!("a{}", after(" or a")));
        queries.push(format!("1{}", after("^1")));
        queries.push(format!("a{}", after(" * on(a) group_left(b) a")));
        queries.push(format!("{}a{}", before("abs("), after(")")));
        queries.push(format!("{}a{}", before("sum by (x) ("), after(")")));
        queries.push(format!("{}a{}", before("topk(1,"), after(")")));
        queries.push(format!("{}a{}", before("sum_over_time("), after("[1m:])")));
        queries.push(format!("a[{}1{}]", before("("), after(")")));
        queries.push(format!("a[{}step()]", before("-")));
        queries.push(format!("a[1{}]", after("+1")));
        queries.push(format!("a[1{}]", after("^1")));
        queries.push(format!("a[{}1{}]", before("min_of(1,"), after(")")));
        queries.push(format!("a offset {}1{}", before("("), after(")")));
    }
    on_small_stack(
        queries
            .into_iter()
            .filter(|query| query.len() <= MAX_QUERY_BYTES)
            .collect(),
    );
}

#[test]
fn depth_counts_chains_nesting_and_durations() {
    let chain = |terms: usize| vec!["a"; terms].join(" + ");
    assert!(parse(&chain(MAX_DEPTH)).is_ok());
    check_error(&chain(MAX_DEPTH + 1), "1:802", "nested too deeply");
    let half = MAX_DEPTH / 2;
    assert!(
        parse(&format!(
            "sum(({}) + {}1{})",
            chain(half),
            "(".repeat(half),
            ")".repeat(half)
        ))
        .is_ok()
    );
    let deep = format!(
        "{}a[{}1{}]{}",
        "abs(".repeat(half),
        "(".repeat(half),
        ")".repeat(half),
        ")".repeat(half)
    );
    assert!(
        parse(&deep)
            .unwrap_err()
            .message
            .contains("nested too deeply")
    );
}

#[test]
fn signs_before_a_number_make_no_tree_but_are_bounded_too() {
    check_number(&format!("{}1", "-".repeat(100)), 1.0);
    check_number(&format!("{}1", "-".repeat(101)), -1.0);
    check_error(
        &format!("{}1", "-".repeat(1000)),
        "1:201",
        "nested too deeply",
    );
}

#[test]
fn sizes_are_bounded() {
    let long = format!("{{a=\"{}\"}}", "x".repeat(MAX_QUERY_BYTES - 7));
    assert_eq!(long.len(), MAX_QUERY_BYTES - 1);
    assert!(parse(&long).is_ok());
    check_error(
        &format!("{long}  "),
        "1:1",
        "query is too long: 1048577 bytes",
    );
    let wide = |args: usize| format!("label_join(a, \"b\", \"c\"{})", ", \"d\"".repeat(args));
    assert!(parse(&wide(49_000)).is_ok());
    assert!(
        parse(&wide(60_000))
            .unwrap_err()
            .message
            .contains("more than 100000 tokens")
    );
    let patterns = |count: usize| format!("a{{{}}}", vec!["b=~\"c.\""; count].join(","));
    assert!(parse(&patterns(1_000)).is_ok());
    assert!(
        parse(&patterns(1_001))
            .unwrap_err()
            .message
            .contains("more than 1000 regular expression matchers")
    );
}

#[test]
fn long_label_lists_are_checked_in_time() {
    let labels = |prefix: &str| {
        (0..20_000)
            .map(|at| format!("{prefix}{at}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert!(
        parse(&format!(
            "a * on({}) group_left({}) b",
            labels("x"),
            labels("y")
        ))
        .is_ok()
    );
}

#[test]
fn functions_are_sorted_and_found() {
    assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(FUNCTIONS.len(), 90);
    for function in FUNCTIONS {
        assert!(
            std::ptr::eq(functions::lookup(function.name).unwrap(), function),
            "{}",
            function.name
        );
        assert!(
            function.variadic == 0 || !function.args.is_empty(),
            "{}",
            function.name
        );
    }
    assert!(functions::lookup("RATE").is_none());
}

#[test]
fn errors_display_as_prometheus_writes_them() {
    assert_eq!(
        parse("").unwrap_err().to_string(),
        "unknown position: parse error: no expression found in input"
    );
    assert_eq!(
        parse("rate(").unwrap_err().to_string(),
        "1:6: parse error: unclosed left parenthesis"
    );
    assert_eq!(
        parse("a\n+\n  *").unwrap_err().to_string(),
        "3:3: parse error: unexpected <op:*>"
    );
}

#[test]
fn spans_name_the_text_of_a_node() {
    let query = "  sum by (x) ( rate(a{b=\"c\"}[5m] offset 1m) ) / -b @ 10 ";
    let text = |span: Span| &query[span.start as usize..span.end as usize];
    let Expr::Binary(division) = parse(query).unwrap() else {
        panic!()
    };
    assert_eq!(text(division.span), query.trim());
    let Expr::Aggregate(sum) = &*division.lhs else {
        panic!()
    };
    assert_eq!(
        text(sum.span),
        "sum by (x) ( rate(a{b=\"c\"}[5m] offset 1m) )"
    );
    let Expr::Call(rate) = &*sum.expr else {
        panic!()
    };
    assert_eq!(text(rate.span), "rate(a{b=\"c\"}[5m] offset 1m)");
    let Expr::Matrix(matrix) = &rate.args[0] else {
        panic!()
    };
    assert_eq!(text(matrix.span), "a{b=\"c\"}[5m] offset 1m");
    assert_eq!(text(matrix.selector.span), "a{b=\"c\"}");
    assert_eq!(text(matrix.range.span()), "5m");
    let Expr::Unary(minus) = &*division.rhs else {
        panic!()
    };
    assert_eq!(text(minus.span), "-b @ 10");
    assert_eq!(text(minus.expr.span()), "b @ 10");
}

/// Words that make deep use of the grammar when thrown together.
const WORDS: &[&str] = &[
    "a",
    "b:c",
    "sum",
    "topk",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "@",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "max",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "and",
    "or",
    "unless",
    "atan2",
    "rate",
    "info",
    "abs",
    "(",
    ")",
    "()",
    "[",
    "]",
    "[5m]",
    "[5m:]",
    "{",
    "}",
    "{x=\"y\"}",
    ",",
    ":",
    "=",
    "==",
    "!=",
    "=~",
    "!~",
    "<",
    "</",
    ">/",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "1",
    "5m",
    "1h30m",
    "0x1f",
    "1e3",
    "1_0",
    ".5",
    "Inf",
    "NaN",
    "\"t\"",
    "'u'",
    "`v`",
    "\"",
    "\\",
    "#",
    "\n",
    " ",
    "é",
    "\u{fffd}",
    "x",
];

/// Expressions that are valid by construction, but for types.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "a{b=\"c\"}",
        "{\"d.e\"}",
        "a[5m]",
        "a[5m:1m]",
        "a[step()*2]",
        "1",
        "-2",
        "5m",
        "0x10",
        "a offset -5m",
        "a @ end()",
        "NaN",
        "a[2m] anchored",
        "time()",
        "a offset (5m)*2",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(6, 48, 3, |inner| {
            prop_oneof![
                (
                    inner.clone(),
                    prop::sample::select(vec![
                        "+",
                        "-",
                        "^",
                        "*",
                        "< bool",
                        "or",
                        "atan2",
                        "* on(x) group_left",
                        ">/"
                    ]),
                    inner.clone()
                )
                    .prop_map(|(lhs, op, rhs)| format!("{lhs} {op} {rhs}")),
                inner.clone().prop_map(|inner| format!("({inner})")),
                inner.clone().prop_map(|inner| format!("-{inner}")),
                inner.clone().prop_map(|inner| format!("abs({inner})")),
                inner
                    .clone()
                    .prop_map(|inner| format!("sum by (\"without\", y) ({inner})")),
                inner
                    .clone()
                    .prop_map(|inner| format!("rate({inner}[5m:])")),
                inner.prop_map(|inner| format!("count_values(\"v\", {inner}) without ()")),
            ]
        })
}

proptest! {
    #[test]
    fn any_text_is_accepted_or_refused(query in "\\PC{0,60}") {
        let _ = parse(&query).map(|expr| expr.to_string());
    }

    #[test]
    fn any_words_are_accepted_or_refused(words in prop::collection::vec(prop::sample::select(WORDS), 0..24), glue in "[ ]?") {
        let query = words.join(&glue);
        match parse(&query) {
            Ok(expr) => {
                let printed = expr.to_string();
                prop_assert!(parse(&printed).is_ok(), "{query:?} prints {printed:?}");
                prop_assert_eq!(expr.span().end as usize <= query.len(), true);
            }
            Err(error) => {
                prop_assert!(!error.message.is_empty() && error.span.start <= error.span.end && error.span.end as usize <= query.len());
                prop_assert!(query.is_empty() || (error.line > 0 && error.column > 0));
            }
        }
    }

    #[test]
    fn the_normal_form_is_a_fixed_point(query in expression()) {
        if let Ok(expr) = parse(&query) {
            let printed = expr.to_string();
            let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{query:?} prints {printed:?}: {error}")))?;
            prop_assert_eq!(grouped(&again), grouped(&expr));
            prop_assert_eq!(again.to_string(), printed);
        }
    }
}
