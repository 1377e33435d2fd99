//! Queries that are accepted, with their normal forms.

use super::*;

#[test]
fn numbers() {
    check_number("0", 0.0);
    check_number("42", 42.0);
    check_number("1.5", 1.5);
    check_number(".25", 0.25);
    check_number("7.", 7.0);
    check_number("1e3", 1000.0);
    check_number("1E+2", 100.0);
    check_number("2.5e-3", 0.0025);
    check_number("1_000", 1000.0);
    check_number("1_000.5", 1000.5);
    check_number("0x1F", 31.0);
    check_number("0Xff", 255.0);
    check_number("0x_f", 15.0);
    check_number("0xe", 14.0);
    check_number("0xee", 238.0);
    check_number("017", 15.0);
    check_number("089", 89.0);
    check_number("00", 0.0);
    check_number("9223372036854775807", 9223372036854775807.0);
    check_number("18446744073709551616", 18446744073709551616.0);
    check_number("Inf", f64::INFINITY);
    check_number("iNf", f64::INFINITY);
    check_number("+Inf", f64::INFINITY);
    check_number("-inf", f64::NEG_INFINITY);
    check_number("NaN", f64::NAN);
    check_number("nan", f64::NAN);
    check_number("-0", -0.0);
    check_number("- 3", -3.0);
    check_number("--3", 3.0);
    check_number("+-3", -3.0);
}

#[test]
fn durations_are_numbers() {
    check_number("5m", 300.0);
    check_number("1h30m", 5400.0);
    check_number("250ms", 0.25);
    check_number("1y", 31_536_000.0);
    check_number("1w2d", 777_600.0);
    check_number("-10s", -10.0);
    check_number("0s", 0.0);
    check("5m", "5m");
    check("300s", "5m");
    check("-90m", "-1h30m");
    check("1d12h", "1d12h");
    check("14d", "2w");
    check("15d", "15d");
    check("365d", "1y");
    check("366d", "366d");
    check("5m + 30", "5m + 30");
}

#[test]
fn texts() {
    check_text(r#""plain""#, "plain");
    check_text("'single'", "single");
    check_text(r#""a\xc5z\xe2\x82""#, "a\u{fffd}z\u{fffd}");
    assert_eq!(
        parse(r#""a\xc5z\xe2\x82\xac""#).unwrap().to_string(),
        r#""a\xc5z€""#
    );
    check_text(r"'it\'s'", "it's");
    check_text(r#""say \"hi\"""#, "say \"hi\"");
    check_text("`raw \\n 'x' \"y\"`", "raw \\n 'x' \"y\"");
    check_text("`two\nlines`", "two\nlines");
    check_text(r#""\a\b\f\n\r\t\v\\""#, "\x07\x08\x0c\n\r\t\x0b\\");
    check_text(r#""\x41\102\u00e9\U0001F600""#, "ABé😀");
    check_text(r#""\xc3\xa9""#, "é");
    check_text("\"# no comment\"", "# no comment");
    check_text("''", "");
    check(r#"'a"b'"#, r#""a\"b""#);
    check("`a\\b\n`", r#""a\\b\n""#);
    check("\"\\u200bé\\x01\\u00a0\"", "\"\\u200bé\\x01\\u00a0\"");
}

#[test]
fn precedence() {
    check_grouping("1 + 2 * 3", "[1 + [2 * 3]]");
    check_grouping("1 * 2 + 3", "[[1 * 2] + 3]");
    check_grouping("1 - 2 - 3", "[[1 - 2] - 3]");
    check_grouping("2 ^ 3 ^ 2", "[2 ^ [3 ^ 2]]");
    check_grouping("2 * 3 ^ 2", "[2 * [3 ^ 2]]");
    check_grouping("2 ^ 3 * 2", "[[2 ^ 3] * 2]");
    check_grouping("-1 ^ 2", "[-[1 ^ 2]]");
    check_grouping("-a ^ 2 * b", "[[-[a ^ 2]] * b]");
    check_grouping("-a * b", "[[-a] * b]");
    check_grouping("2 ^ -a * b", "[[2 ^ [-a]] * b]");
    check_grouping("2 ^ -1", "[2 ^ -1]");
    check_grouping("a - -b", "[a - [-b]]");
    check_grouping("--a", "[-[-a]]");
    check_grouping("-(1)", "[-(1)]");
    check_grouping("(1 + 2) * 3", "[([1 + 2]) * 3]");
    check_grouping("a or b and c", "[a or [b and c]]");
    check_grouping("a and b unless c", "[[a and b] unless c]");
    check_grouping("a unless b and c", "[[a unless b] and c]");
    check_grouping("a or b or c", "[[a or b] or c]");
    check_grouping("a > b and c < d", "[[a > b] and [c < d]]");
    check_grouping("a + b > c", "[[a + b] > c]");
    check_grouping("a > b > c", "[[a > b] > c]");
    check_grouping("a </ 1 + 2", "[a </ [1 + 2]]");
    check_grouping("a >/ b == c", "[[a >/ b] == c]");
    check_grouping("a atan2 b * c", "[[a atan2 b] * c]");
    check_grouping("a % b atan2 c", "[[a % b] atan2 c]");
    check_grouping("a atan2 b ^ c", "[a atan2 [b ^ c]]");
    check_grouping("-a offset 5m", "[-a offset 5m]");
    check_grouping("a + b offset 5m", "[a + b offset 5m]");
    check_grouping("-a @ 5 ^ 2", "[-[a @ 5.000 ^ 2]]");
}

#[test]
fn operators() {
    for op in [
        "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", "<=", ">", ">=", "and", "or",
        "unless", "</", ">/",
    ] {
        check(&format!("a {op} b"), &format!("a {op} b"));
    }
    for op in ["==", "!=", "<", "<=", ">", ">="] {
        check(&format!("1 {op} bool 2"), &format!("1 {op} bool 2"));
        check(&format!("a {op} BOOL 2"), &format!("a {op} bool 2"));
        check(&format!("a {op} 2"), &format!("a {op} 2"));
    }
    check("a AND b", "a and b");
    check("a Or b", "a or b");
    check("a+b", "a + b");
    check("+a", "+a");
    check("- -a", "--a");
}

#[test]
fn matching() {
    check("a * on(x) b", "a * on (x) b");
    check("a * on() b", "a * on () b");
    check("a * ignoring(x, y) b", "a * ignoring (x, y) b");
    check("a * ignoring() b", "a * b");
    check("a * on(x,) b", "a * on (x) b");
    check("a * on(x) group_left b", "a * on (x) group_left () b");
    check("a * on(x) group_left() (b)", "a * on (x) group_left () (b)");
    check(
        "a * ON(x) GROUP_RIGHT(y, z) b",
        "a * on (x) group_right (y, z) b",
    );
    check(
        "a * ignoring() group_left(x) b",
        "a * ignoring () group_left (x) b",
    );
    check(
        "a * ignoring(x) group_left(x) b",
        "a * ignoring (x) group_left (x) b",
    );
    check("a == bool on(x) b", "a == bool on (x) b");
    check("a and on(x, y) b", "a and on (x, y) b");
    check("a unless ignoring(x) b", "a unless ignoring (x) b");
    check("a * on(\"my.label\", 'x') b", "a * on (\"my.label\", x) b");
    check(
        "a * on(on, by, sum, offset, bool, atan2, start, fill) b",
        "a * on (on, by, sum, offset, bool, atan2, start, fill) b",
    );
    check(
        "a * on(\"without\", \"nan\") b",
        "a * on (\"without\", \"nan\") b",
    );
    check("a + fill(0) b", "a + fill (0) b");
    check("a + on(x) fill_left(1) b", "a + on (x) fill_left (1) b");
    check("a + fill_right(-2.5) b", "a + fill_right (-2.5) b");
    check(
        "a + fill_right(1) fill_left(2) b",
        "a + fill_left (2) fill_right (1) b",
    );
    check("a + fill_left(3) fill_right(3) b", "a + fill (3) b");
    check(
        "a + on(x) group_left(y) fill(5m) b",
        "a + on (x) group_left (y) fill (300) b",
    );
    check("a + fill(1e21) b", "a + fill (1e+21) b");
    check("a + fill(0.00001) b", "a + fill (1e-05) b");
    check("fill + fill_left", "fill + fill_left");
    check("a + fill", "a + fill");
}

#[test]
fn matching_is_settled_by_types() {
    let matching = |query: &str| match parse(query).unwrap() {
        Expr::Binary(binary) => binary.matching.map(|matching| matching.cardinality),
        other => panic!("{other:?}"),
    };
    assert_eq!(matching("a + b"), Some(Cardinality::OneToOne));
    assert_eq!(matching("a and b"), Some(Cardinality::ManyToMany));
    assert_eq!(matching("a or on(x) b"), Some(Cardinality::ManyToMany));
    assert_eq!(
        matching("a * on(x) group_left b"),
        Some(Cardinality::ManyToOne)
    );
    assert_eq!(
        matching("a * on(x) group_right b"),
        Some(Cardinality::OneToMany)
    );
    assert_eq!(matching("a + 1"), None);
    assert_eq!(matching("1 + a"), None);
    assert_eq!(matching("1 + 1"), None);
    assert_eq!(matching("a + on() 1"), None);
}

#[test]
fn selectors() {
    check("up", "up");
    check("a:b:c", "a:b:c");
    check(":a", ":a");
    check("_x1", "_x1");
    check("up{}", "up");
    check("up{ }", "up");
    check("up{b=\"2\", a=\"1\",}", "up{a=\"1\",b=\"2\"}");
    check(
        "up{a!='1', b=~`x.*`, c!~\"y|z\"}",
        "up{a!=\"1\",b=~\"x.*\",c!~\"y|z\"}",
    );
    check("{a=\"1\"}", "{a=\"1\"}");
    check("{__name__=\"up\"}", "{__name__=\"up\"}");
    check(
        "{__name__=~\"up|down\", __name__!=\"x\"}",
        "{__name__!=\"x\",__name__=~\"up|down\"}",
    );
    check("{\"my.metric\"}", "{__name__=\"my.metric\"}");
    check(
        "{\"my.metric\", \"my.label\"=\"x\", y='z'}",
        "{\"my.label\"=\"x\",__name__=\"my.metric\",y=\"z\"}",
    );
    check("{'up'}", "{__name__=\"up\"}");
    check("{`up`, a=\"b\"}", "{__name__=\"up\",a=\"b\"}");
    check("up{\"été\"=\"1\"}", "up{\"été\"=\"1\"}");
    check(
        "up{sum=\"1\", by=\"2\", offset=\"3\", nan=\"4\"}",
        "up{by=\"2\",nan=\"4\",offset=\"3\",sum=\"1\"}",
    );
    check("up{a=\"}\"}", "up{a=\"}\"}");
    check("up{a=\"\"}", "up{a=\"\"}");
    check("{a=\"\", b=\"c\"}", "{a=\"\",b=\"c\"}");
    check("{a!=\"\"}", "{a!=\"\"}");
    check("{a=~\".+\"}", "{a=~\".+\"}");
    check("up{a=\"x\\ny\"}", "up{a=\"x\\ny\"}");
}

#[test]
fn a_name_before_the_braces_is_a_matcher_too() {
    let Expr::Vector(vector) = parse("up{a=\"b\"}").unwrap() else {
        panic!()
    };
    assert_eq!(vector.name.as_deref(), Some("up"));
    assert!(
        vector
            .matchers
            .iter()
            .any(|matcher| matcher.name == "__name__" && matcher.value == "up")
    );
    assert_eq!(vector.matchers.len(), 2);
    let Expr::Vector(vector) = parse("{\"up\"}").unwrap() else {
        panic!()
    };
    assert_eq!((vector.name, vector.matchers.len()), (None, 1));
}

#[test]
fn keywords_as_metric_names() {
    for name in [
        "sum",
        "avg",
        "topk",
        "limit_ratio",
        "by",
        "without",
        "offset",
        "and",
        "or",
        "unless",
        "start",
        "end",
        "step",
        "range",
        "min_of",
        "max_of",
        "anchored",
        "smoothed",
        "fill",
        "fill_left",
        "fill_right",
        "count_values",
        "quantile",
        "info",
        "time",
    ] {
        check(name, name);
        check(&format!("{name}{{a=\"b\"}}"), &format!("{name}{{a=\"b\"}}"));
        check(&format!("rate({name}[5m])"), &format!("rate({name}[5m])"));
    }
    check("and and and", "and and and");
    check("offset offset 5m", "offset offset 5m");
    check("sum(sum) by (sum)", "sum by (sum) (sum)");
    check("sum by (by) (by)", "sum by (by) (by)");
}

#[test]
fn ranges() {
    check("a[5m]", "a[5m]");
    check("a[ 5m ]", "a[5m]");
    check("a[300]", "a[5m]");
    check("a[1.5]", "a[1s500ms]");
    check("a[0.0015]", "a[1ms]");
    // Nanoseconds are not exact any more there.
    check("a[1767227214.725]", "a[20454d26m54s724ms]");
    check("a{b=\"c\"}[1h30m]", "a{b=\"c\"}[1h30m]");
    check("a[5m] offset 1h", "a[5m] offset 1h");
    check("a[5m] @ 10 offset 1h", "a[5m] @ 10.000 offset 1h");
    check("a[5m] offset 1h @ 10", "a[5m] @ 10.000 offset 1h");
    check("a[5m] anchored", "a[5m] anchored");
    check("a[5m] SMOOTHED @ end()", "a[5m] smoothed @ end()");
    check("a anchored [5m]", "a[5m] anchored");
    check("a smoothed", "a smoothed");
    check("a @ 10 anchored offset 5m", "a @ 10.000 anchored offset 5m");
}

#[test]
fn offsets() {
    check("a offset 5m", "a offset 5m");
    check("a OFFSET -5m", "a offset -5m");
    check("a offset +5m", "a offset 5m");
    check("a offset 90", "a offset 1m30s");
    check("a offset -1.5", "a offset -1s500ms");
    check("a offset 0", "a");
    check("a offset 0s offset 5m", "a offset 5m");
    check("a offset 0x10", "a offset 16s");
    check("(a) + a offset 1w", "(a) + a offset 1w");
    check_grouping("a offset 5m * 2", "[a offset 5m * 2]");
    check_grouping("a offset -2 ^ 2", "[a offset -2s ^ 2]");
    check_grouping("a offset 5m - 1", "[a offset 5m - 1]");
    check_grouping("a offset step() * 2", "[a offset step() * 2]");
    check_grouping("a offset -(5m) * 2", "[a offset -(5m) * 2]");
}

#[test]
fn at_modifiers() {
    check("a @ 1600000000", "a @ 1600000000.000");
    check("a @ 1.2346", "a @ 1.235");
    check("a @ -10", "a @ -10.000");
    check("a @ +10", "a @ 10.000");
    check("a @ 1e3", "a @ 1000.000");
    check("a @ 5m", "a @ 300.000");
    check("a@start()", "a @ start()");
    check("a @ END ( )", "a @ end()");
    check("a offset 5m @ 10", "a @ 10.000 offset 5m");
    check("a[5m:] @ start() offset 1m", "a[5m:] @ start() offset 1m");
    check("a @ 10 [5m:]", "a @ 10.000[5m:]");
}

#[test]
fn subqueries() {
    check("a[1h:5m]", "a[1h:5m]");
    check("a[1h:]", "a[1h:]");
    check("a[1h : 5m]", "a[1h:5m]");
    check("a[3600:60]", "a[1h:1m]");
    check("a offset 5m [1h:]", "a offset 5m[1h:]");
    check("rate(a[5m])[1h:1m]", "rate(a[5m])[1h:1m]");
    check("(a + b)[1h:] offset 1d", "(a + b)[1h:] offset 1d");
    check(
        "max_over_time(sum_over_time(a[5m:])[10m:1m] offset 1m)",
        "max_over_time(sum_over_time(a[5m:])[10m:1m] offset 1m)",
    );
}

#[test]
fn duration_expressions() {
    check("a[5m*2]", "a[5m * 2]");
    check("a[5m * 2 + 1s]", "a[5m * 2 + 1s]");
    check("a[(5m)]", "a[(5m)]");
    check("a[(5m+1)*2]", "a[(5m + 1) * 2]");
    check("a[step()]", "a[step()]");
    check("a[ STEP ( ) * 2 ]", "a[step() * 2]");
    check("a[range()/2]", "a[range() / 2]");
    check("a[-step()+5m]", "a[-step() + 5m]");
    check("a[+step()]", "a[step()]");
    check("a[--step()]", "a[--step()]");
    check("a[2^3^1]", "a[2 ^ 3 ^ 1]");
    check("a[-2s+5s]", "a[-2s + 5s]");
    check("a[5m%2m]", "a[5m % 2m]");
    check("a[min_of(5m, step())]", "a[min_of(5m, step())]");
    check("a[max_of(range(), 1h) - 1m]", "a[max_of(range(), 1h) - 1m]");
    check("a[min(5m, step())]", "a[min_of(5m, step())]");
    check(
        "a[max(range(), min(1, 2))]",
        "a[max_of(range(), min_of(1, 2))]",
    );
    check("a[step():step()]", "a[step():step()]");
    check("a[1h*2:step()*2]", "a[1h * 2:step() * 2]");
    check("a[1h:max_of(step(), 1m)]", "a[1h:max_of(step(), 1m)]");
    check("a offset step()", "a offset step()");
    check("a offset -step()", "a offset -step()");
    check("a offset (5m*2)", "a offset (5m * 2)");
    check("a offset (5m)*2", "a offset (5m) * 2");
    check("a offset -(5m)", "a offset -(5m)");
    check("a offset +(5)", "a offset (5)");
    check("a offset min_of(5m, step())", "a offset min_of(5m, step())");
    check("a offset max(5m, step())", "a offset max_of(5m, step())");
    check("a offset -max_of(5m, 1)", "a offset -max_of(5m, 1)");
}

#[test]
fn aggregations() {
    for op in [
        "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar",
    ] {
        check(&format!("{op}(a)"), &format!("{op}(a)"));
    }
    for op in ["topk", "bottomk", "quantile", "limitk", "limit_ratio"] {
        check(&format!("{op}(0.5, a)"), &format!("{op}(0.5, a)"));
    }
    check("count_values(\"v\", a)", "count_values(\"v\", a)");
    check("SUM(a)", "sum(a)");
    check("sum by (x) (a)", "sum by (x) (a)");
    check("sum(a) by (x, y)", "sum by (x, y) (a)");
    check("sum by () (a)", "sum(a)");
    check("sum without (x) (a)", "sum without (x) (a)");
    check("sum(a) without ()", "sum without () (a)");
    check("sum WITHOUT (x,) (a)", "sum without (x) (a)");
    check("topk by (x) (5, a)", "topk by (x) (5, a)");
    check("topk(scalar(b), a)", "topk(scalar(b), a)");
    check(
        "sum by (\"a.b\", 'c') ({\"d.e\"})",
        "sum by (\"a.b\", c) ({__name__=\"d.e\"})",
    );
    check("sum by (a:b) (x)", "sum by (\"a:b\") (x)");
    check("sum(a)[5m:]", "sum(a)[5m:]");
    check("sum((a))", "sum((a))");
    check("sum(a) + sum(b)", "sum(a) + sum(b)");
}

#[test]
fn calls() {
    check("time()", "time()");
    check("rate(a[5m])", "rate(a[5m])");
    check("rate (a[5m])", "rate(a[5m])");
    check("round(a)", "round(a)");
    check("round(a, 0.5)", "round(a, 0.5)");
    check("hour()", "hour()");
    check("hour(vector(time()))", "hour(vector(time()))");
    check(
        "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")",
        "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")",
    );
    check("label_join(a, \"b\", \",\")", "label_join(a, \"b\", \",\")");
    check(
        "label_join(a, \"b\", \",\", \"c\", \"d\", \"e\")",
        "label_join(a, \"b\", \",\", \"c\", \"d\", \"e\")",
    );
    check("sort_by_label(a)", "sort_by_label(a)");
    check(
        "sort_by_label_desc(a, \"b\", \"c\")",
        "sort_by_label_desc(a, \"b\", \"c\")",
    );
    check(
        "histogram_quantile(0.9, sum by (le) (rate(a[5m])))",
        "histogram_quantile(0.9, sum by (le) (rate(a[5m])))",
    );
    check(
        "histogram_quantiles(a, \"q\", 0.5, 0.9, 0.99)",
        "histogram_quantiles(a, \"q\", 0.5, 0.9, 0.99)",
    );
    check(
        "quantile_over_time(0.5, a[5m])",
        "quantile_over_time(0.5, a[5m])",
    );
    check("predict_linear(a[1h], 5m)", "predict_linear(a[1h], 5m)");
    check(
        "vector(start()) + vector(end())",
        "vector(start()) + vector(end())",
    );
    check("a * step() / range()", "a * step() / range()");
    check(
        "vector(max_of(1, min_of(2, 3)))",
        "vector(max_of(1, min_of(2, 3)))",
    );
    check("info(a)", "info(a)");
    check("info(a, {})", "info(a, {})");
    check("info(a, {b=\"c\"})", "info(a, {b=\"c\"})");
    check(
        "info(a, {__name__=~\".+_info\"})",
        "info(a, {__name__=~\".+_info\"})",
    );
    check("absent(a{b=\"c\"})", "absent(a{b=\"c\"})");
    for name in [
        "first_over_time",
        "mad_over_time",
        "ts_of_max_over_time",
        "ts_of_last_over_time",
        "stdvar_over_time",
        "resets",
    ] {
        check(&format!("{name}(a[5m])"), &format!("{name}(a[5m])"));
    }
}

#[test]
fn blanks_and_comments() {
    check("  a  ", "a");
    check("a # comment", "a");
    check("# comment\na", "a");
    check("sum # x\n by # y\r (b) (\n\ta\r\n)", "sum by (b) (a)");
    check("a{ # c\n b=\"d\" # e\n}", "a{b=\"d\"}");
    check("a[5m # c\n]", "a[5m]");
    check("a\n+\nb", "a + b");
}

#[test]
fn types() {
    check_type("1 + time()", ValueType::Scalar);
    check_type("a + 1", ValueType::InstantVector);
    check_type("a[5m]", ValueType::RangeVector);
    check_type("(a)[5m:]", ValueType::RangeVector);
    check_type("-(1)", ValueType::Scalar);
    check_type("'x'", ValueType::String);
    check_type("('x')", ValueType::String);
    check_type("scalar(a)", ValueType::Scalar);
    check_type("sum(a)", ValueType::InstantVector);
    check_type("rate(a[1m])", ValueType::InstantVector);
}
