//! Queries that are refused, with place and words.

use super::*;

#[test]
fn nothing() {
    check_error("", "0:0", "no expression found in input");
    check_error("  ", "1:1", "no expression found in input");
    check_error("# only a comment\n", "1:1", "no expression found in input");
}

#[test]
fn tokens() {
    check_error("$", "1:1", "unexpected character: '$'");
    check_error("a ~ b", "1:3", "unexpected character: '~'");
    check_error("é", "1:1", "unexpected character: 'é'");
    check_error(".", "1:1", "unexpected character: '.'");
    check_error("a =~ b", "1:3", "unexpected character after '=': '~'");
    check_error("a ! b", "1:3", "unexpected character after '!': ' '");
    check_error("a !", "1:3", "unexpected character after '!'");
    check_error("a & b", "1:3", "unexpected character: '&'");
    check_error("a; b", "1:2", "unexpected character: ';'");
    check_error("}", "1:1", "unexpected character: '}'");
    check_error("]", "1:1", "unexpected right bracket ']'");
    check_error("a)", "1:2", "unexpected right parenthesis ')'");
    check_error("(a", "1:3", "unclosed left parenthesis");
    check_error("(a))", "1:4", "unexpected right parenthesis ')'");
    check_error("a\n  + (b", "2:7", "unclosed left parenthesis");
}

#[test]
fn numbers() {
    check_error("1..2", "1:1", "bad number or duration syntax: \"1..\"");
    check_error("1.2.3", "1:1", "bad number or duration syntax: \"1.2.\"");
    check_error("1abc", "1:1", "bad number or duration syntax: \"1\"");
    check_error("0b11", "1:1", "bad number or duration syntax: \"0\"");
    check_error("0xg", "1:1", "bad number or duration syntax: \"0x\"");
    check_error("1__0", "1:1", "bad number or duration syntax: \"1__\"");
    check_error("1_", "1:1", "bad number or duration syntax: \"1_\"");
    check_error("1e", "1:1", "bad number or duration syntax: \"1e\"");
    check_error("1e+", "1:1", "bad number or duration syntax: \"1e+\"");
    check_error("1ee3", "1:1", "bad number or duration syntax");
    check_error(
        "(1e)",
        "1:2",
        "error parsing number: \"1e\": invalid syntax",
    );
    check_error("1e999", "1:1", "value out of range");
    check_error("0x10000000000000000", "1:1", "error parsing number");
    check_error("5mm", "1:1", "bad number or duration syntax: \"5mm\"");
    check_error("5m1", "1:1", "bad number or duration syntax: \"5m1\"");
    check_error("5hs", "1:1", "unknown unit \"hs\" in duration \"5hs\"");
    check_error("5m1h", "1:1", "not a valid duration string: \"5m1h\"");
    check_error("5m5m", "1:1", "not a valid duration string: \"5m5m\"");
    check_error("1000000y", "1:1", "duration out of range");
    check_error("99999999999999999999s", "1:1", "duration out of range");
}

#[test]
fn texts() {
    check_error("\"open", "1:1", "unterminated quoted string");
    check_error("\"two\nlines\"", "1:1", "unterminated quoted string");
    check_error("`open", "1:1", "unterminated raw string");
    check_error(r#""\q""#, "1:1", "unknown escape sequence U+0071 'q'");
    check_error(r#"'\"'"#, "1:1", "unknown escape sequence U+0022 '\"'");
    check_error(
        r#""\xg1""#,
        "1:1",
        "illegal character U+0067 'g' in escape sequence",
    );
    check_error(r#""\x4""#, "1:1", "illegal character U+0022");
    check_error(r#""\u12"#, "1:1", "escape sequence not terminated");
    check_error(r#""\"#, "1:1", "escape sequence not terminated");
    check_error(
        r#""\ud800""#,
        "1:1",
        "escape sequence is an invalid Unicode code point",
    );
    check_error(
        r#""\U00110000""#,
        "1:1",
        "escape sequence is an invalid Unicode code point",
    );
    check_error(
        r#""\400""#,
        "1:1",
        "escape sequence is an invalid Unicode code point",
    );
    check_error(r#"a{b="\xff"}"#, "1:5", "not valid UTF-8");
    check_error("a{b=\"\u{fffd}\"}", "1:5", "invalid UTF-8 rune");
    check_error("`\u{fffd}`", "1:1", "invalid UTF-8 rune");
}

#[test]
fn syntax() {
    check_error("1 +", "1:4", "unexpected end of input");
    check_error("* 1", "1:1", "unexpected <op:*>");
    check_error("a b", "1:3", "unexpected identifier \"b\"");
    check_error("a b:c", "1:3", "unexpected metric identifier \"b:c\"");
    check_error("a 1", "1:3", "unexpected number \"1\"");
    check_error("a 5m", "1:3", "unexpected duration \"5m\"");
    check_error("a 'b'", "1:3", "unexpected string \"'b'\"");
    check_error(
        "a 'a long text that is cut'",
        "1:3",
        "unexpected string \"'a long te\"...",
    );
    check_error("a = b", "1:3", "unexpected \"=\"");
    check_error("a, b", "1:2", "unexpected \",\"");
    check_error("a sum", "1:3", "unexpected <aggr:sum>");
    check_error("a by (b)", "1:3", "unexpected <by>");
    check_error("a step", "1:3", "unexpected \"step\"");
    check_error("@ 5", "1:1", "unexpected <op:@>");
    check_error("()", "1:2", "unexpected \")\"");
    check_error("(a b)", "1:4", "unexpected identifier \"b\"");
    check_error("on", "1:1", "unexpected <on>");
    check_error("bool", "1:1", "unexpected <bool>");
    check_error("atan2", "1:1", "unexpected <op:atan2>");
    check_error("a:b(c)", "1:4", "unexpected \"(\"");
    check_error("offset(a)", "1:7", "unexpected \"(\"");
    check_error("a + on(b) ignoring(c) d", "1:11", "unexpected <ignoring>");
    check_error("a + group_left(b) c", "1:5", "unexpected <group_left>");
    check_error("a + on(b) bool c", "1:11", "unexpected <bool>");
    check_error("a + fill(b) c", "1:10", "unexpected identifier \"b\"");
    check_error("a + fill(1) fill(2) b", "1:17", "unexpected \"(\"");
    check_error(
        "a + fill_left(1) fill_left(2) b",
        "1:27",
        "unexpected \"(\"",
    );
    check_error("a + fill() c", "1:10", "unexpected \")\"");
    check_error("-", "1:2", "unexpected end of input");
}

#[test]
fn groupings() {
    check_error(
        "sum by x (a)",
        "1:8",
        "unexpected identifier \"x\" in grouping opts, expected \"(\"",
    );
    check_error(
        "sum by (==) (a)",
        "1:9",
        "unexpected <op:==> in grouping opts, expected label",
    );
    check_error(
        "sum by (,) (a)",
        "1:9",
        "unexpected \",\" in grouping opts, expected label",
    );
    check_error(
        "sum by (x,,) (a)",
        "1:11",
        "unexpected \",\" in grouping opts, expected label",
    );
    check_error(
        "sum by (x y) (a)",
        "1:11",
        "unexpected identifier \"y\" in grouping opts, expected \",\" or \")\"",
    );
    check_error(
        "sum by (1) (a)",
        "1:9",
        "unexpected number \"1\" in grouping opts, expected label",
    );
    check_error(
        "sum by (without) (a)",
        "1:9",
        "unexpected <without> in grouping opts, expected label",
    );
    check_error(
        "sum by (\"\") (a)",
        "1:9",
        "invalid label name for grouping: \"\"",
    );
    check_error(
        "a * on b",
        "1:8",
        "unexpected identifier \"b\" in grouping opts, expected \"(\"",
    );
    check_error(
        "a * on(b) group_left(c + d) e",
        "1:24",
        "unexpected <op:+> in grouping opts, expected \",\" or \")\"",
    );
}

#[test]
fn aggregations() {
    check_error(
        "sum()",
        "1:1",
        "no arguments for aggregate expression provided",
    );
    check_error(
        "sum(a, b)",
        "1:1",
        "wrong number of arguments for aggregate expression provided, expected 1, got 2",
    );
    check_error(
        "topk(a)",
        "1:1",
        "wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    check_error("topk(1, a, b)", "1:1", "expected 2, got 3");
    check_error("sum(a) by (x) by (y)", "1:15", "unexpected <by>");
    check_error("sum by (x) (a) by (y)", "1:16", "unexpected <by>");
    check_error("sum by (x) a", "1:12", "unexpected identifier \"a\"");
    check_error("sum a", "1:5", "unexpected identifier \"a\"");
    check_error(
        "sum(a b)",
        "1:7",
        "unexpected identifier \"b\" in aggregation",
    );
    check_error(
        "sum(abs(a b))",
        "1:11",
        "unexpected identifier \"b\" in aggregation",
    );
    check_error("sum(a) b", "1:8", "unexpected identifier \"b\"");
    check_error(
        "sum(a,)",
        "1:6",
        "trailing commas not allowed in function call args",
    );
    check_error(
        "sum(1)",
        "1:5",
        "expected type instant vector in aggregation expression, got scalar",
    );
    check_error(
        "sum(a[5m])",
        "1:5",
        "expected type instant vector in aggregation expression, got range vector",
    );
    check_error(
        "topk(a, b)",
        "1:6",
        "expected type scalar in aggregation parameter, got instant vector",
    );
    check_error(
        "count_values(1, a)",
        "1:14",
        "expected type string in aggregation parameter, got scalar",
    );
    check_error(
        "quantile('x', a)",
        "1:10",
        "expected type scalar in aggregation parameter, got string",
    );
    check_error("sum(", "1:5", "unclosed left parenthesis");
}

#[test]
fn calls() {
    check_error("nope(a)", "1:1", "unknown function with name \"nope\"");
    check_error("a > nope()", "1:5", "unknown function with name \"nope\"");
    check_error("RATE(a[5m])", "1:1", "unknown function with name \"RATE\"");
    check_error("START()", "1:1", "unknown function with name \"START\"");
    check_error("holt_winters(a[5m], 1, 1)", "1:1", "unknown function");
    check_error("nope(a b)", "1:8", "unexpected identifier \"b\"");
    check_error(
        "abs()",
        "1:1",
        "expected 1 argument(s) in call to \"abs\", got 0",
    );
    check_error(
        "abs(a, b)",
        "1:1",
        "expected 1 argument(s) in call to \"abs\", got 2",
    );
    check_error(
        "time(a)",
        "1:1",
        "expected 0 argument(s) in call to \"time\", got 1",
    );
    check_error(
        "round()",
        "1:1",
        "expected at least 1 argument(s) in call to \"round\", got 0",
    );
    check_error(
        "round(a, 1, 2)",
        "1:1",
        "expected at most 2 argument(s) in call to \"round\", got 3",
    );
    check_error(
        "hour(a, b)",
        "1:1",
        "expected at most 1 argument(s) in call to \"hour\", got 2",
    );
    check_error(
        "label_join(a, 'b')",
        "1:1",
        "expected at least 3 argument(s) in call to \"label_join\", got 2",
    );
    check_error(
        "histogram_quantiles(a, 'q')",
        "1:1",
        "expected at least 3 argument(s)",
    );
    check_error(
        "histogram_quantiles(a, 'q', 1,1,1,1,1,1,1,1,1,1,1)",
        "1:1",
        "expected at most 12 argument(s)",
    );
    check_error(
        "abs(a,)",
        "1:6",
        "trailing commas not allowed in function call args",
    );
    check_error(
        "abs(a, *)",
        "1:6",
        "trailing commas not allowed in function call args",
    );
    check_error("abs(, a)", "1:5", "unexpected \",\"");
    check_error(
        "rate(a)",
        "1:6",
        "expected type range vector in call to function \"rate\", got instant vector",
    );
    check_error(
        "abs(a[5m])",
        "1:5",
        "expected type instant vector in call to function \"abs\", got range vector",
    );
    check_error(
        "abs(1)",
        "1:5",
        "expected type instant vector in call to function \"abs\", got scalar",
    );
    check_error(
        "vector(a)",
        "1:8",
        "expected type scalar in call to function \"vector\", got instant vector",
    );
    check_error(
        "label_join(a, 'b', ',', c)",
        "1:25",
        "expected type string in call to function \"label_join\", got instant vector",
    );
    check_error("abs(rate(a))", "1:10", "expected type range vector");
    check_error(
        "info(a, b)",
        "1:9",
        "expected label selectors only, got vector selector instead",
    );
    check_error(
        "info(a, b{c=\"d\"})",
        "1:9",
        "expected label selectors only, got vector selector instead",
    );
    check_error(
        "info(a, {c=\"d\"} + 1)",
        "1:9",
        "expected label selectors only",
    );
    check_error(
        "info(a, 1)",
        "1:9",
        "expected type instant vector in call to function \"info\", got scalar",
    );
    check_error("info({}, {})", "1:6", "at least one non-empty matcher");
}

#[test]
fn matchers() {
    check_error("{", "1:2", "unexpected end of input inside braces");
    check_error("a{b=\"c\"", "1:8", "unexpected end of input inside braces");
    check_error(
        "a{,}",
        "1:3",
        "unexpected \",\" in label matching, expected identifier or \"}\"",
    );
    check_error(
        "a{b}",
        "1:4",
        "unexpected \"}\" in label matching, expected label matching operator",
    );
    check_error(
        "a{b=}",
        "1:5",
        "unexpected \"}\" in label matching, expected string",
    );
    check_error(
        "a{b=c}",
        "1:5",
        "unexpected identifier \"c\" in label matching, expected string",
    );
    check_error(
        "a{b==\"c\"}",
        "1:5",
        "unexpected \"=\" in label matching, expected string",
    );
    check_error(
        "a{b=\"c\" d=\"e\"}",
        "1:9",
        "unexpected identifier \"d\" in label matching, expected \",\" or \"}\"",
    );
    check_error(
        "a{b=\"c\",,}",
        "1:9",
        "unexpected \",\" in label matching, expected identifier or \"}\"",
    );
    check_error(
        "a{\"b\"=}",
        "1:7",
        "unexpected \"}\" in label matching, expected string",
    );
    check_error(
        "a{1=\"b\"}",
        "1:3",
        "unexpected character inside braces: '1'",
    );
    check_error(
        "a{b>\"c\"}",
        "1:4",
        "unexpected character inside braces: '>'",
    );
    check_error(
        "a{b:c=\"d\"}",
        "1:4",
        "unexpected character inside braces: ':'",
    );
    check_error(
        "a{b!\"c\"}",
        "1:4",
        "unexpected character after '!' inside braces: '\"'",
    );
    check_error("a{{", "1:3", "unexpected left brace '{'");
    check_error("a{b=~\"(\"}", "1:3", "invalid regular expression");
    check_error(
        "a{b=~\"c**\"}",
        "1:3",
        "invalid regular expression \"c**\": invalid nested repetition operator: `**`",
    );
    check_error("a{b=\"c\", d!~\"[\"}", "1:10", "invalid regular expression");
    check_error(
        "{}",
        "1:1",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "{a=\"\"}",
        "1:1",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "{a=~\".*\"}",
        "1:1",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "{a!=\"b\"}",
        "1:1",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "{a!~\"b.+\"}",
        "1:1",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "rate({a=~\"b*\"}[5m])",
        "1:6",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "{\"\"}",
        "1:1",
        "vector selector must contain at least one non-empty matcher",
    );
    check_error(
        "a{__name__=\"b\"}",
        "1:1",
        "metric name must not be set twice: \"a\" or \"b\"",
    );
    check_error(
        "a{\"b\"}",
        "1:1",
        "metric name must not be set twice: \"a\" or \"b\"",
    );
    check_error(
        "c + a{__name__=~\"b\"}",
        "1:5",
        "metric name must not be set twice",
    );
}

#[test]
fn modifiers() {
    check_error(
        "1 offset 5m",
        "1:1",
        "offset modifier must be preceded by an instant vector selector",
    );
    check_error(
        "(a) offset 5m",
        "1:1",
        "offset modifier must be preceded by an instant vector selector",
    );
    check_error(
        "sum(a) offset 5m",
        "1:1",
        "offset modifier must be preceded by an instant vector selector",
    );
    check_error(
        "a offset 5m offset 1m",
        "1:1",
        "offset may not be set multiple times",
    );
    check_error(
        "a offset",
        "1:9",
        "unexpected end of input in offset, expected number, duration, step(), or range()",
    );
    check_error(
        "a offset b",
        "1:10",
        "unexpected identifier \"b\" in offset, expected number, duration, step(), or range()",
    );
    check_error("sum(a offset)", "1:13", "unexpected \")\" in offset");
    check_error(
        "a offset (5m) + b",
        "1:17",
        "unexpected identifier \"b\" in offset",
    );
    check_error("a offset 1e12", "1:10", "duration out of range");
    check_error("a offset Inf", "1:10", "duration out of range");
    check_error("a offset NaN", "1:10", "duration out of range");
    check_error(
        "1 @ 5",
        "1:1",
        "@ modifier must be preceded by an instant vector selector",
    );
    check_error(
        "rate(a[5m]) @ 5",
        "1:1",
        "@ modifier must be preceded by an instant vector selector",
    );
    check_error(
        "a @ 5 @ 6",
        "1:1",
        "@ <timestamp> may not be set multiple times",
    );
    check_error(
        "a @ start() offset 5m @ 6",
        "1:1",
        "@ <timestamp> may not be set multiple times",
    );
    check_error(
        "a @",
        "1:4",
        "unexpected end of input in @, expected timestamp",
    );
    check_error(
        "a @ b",
        "1:5",
        "unexpected identifier \"b\" in @, expected timestamp",
    );
    check_error(
        "a @ start",
        "1:10",
        "unexpected end of input in @, expected timestamp",
    );
    check_error(
        "a @ step()",
        "1:5",
        "unexpected \"step\" in @, expected timestamp",
    );
    check_error(
        "a @ Inf",
        "1:1",
        "timestamp out of bounds for @ modifier: +Inf",
    );
    check_error(
        "a @ -inf",
        "1:1",
        "timestamp out of bounds for @ modifier: -Inf",
    );
    check_error(
        "a @ NaN",
        "1:1",
        "timestamp out of bounds for @ modifier: NaN",
    );
    check_error(
        "a @ 1e18",
        "1:1",
        "timestamp out of bounds for @ modifier: 1000000000000000000.000000",
    );
    check_error(
        "a anchored smoothed",
        "1:1",
        "anchored and smoothed modifiers cannot be used together",
    );
    check_error(
        "a[5m] smoothed anchored",
        "1:1",
        "anchored and smoothed modifiers cannot be used together",
    );
    check_error(
        "a[5m:] anchored",
        "1:1",
        "anchored modifier is not supported for subqueries",
    );
    check_error(
        "a[5m:] smoothed",
        "1:1",
        "smoothed modifier is not supported for subqueries",
    );
    check_error("1 anchored", "1:1", "anchored modifier not implemented");
    check_error("(a) smoothed", "1:1", "smoothed modifier not implemented");
}

#[test]
fn ranges() {
    check_error(
        "a[",
        "1:3",
        "unexpected end of input in duration expression",
    );
    check_error("a[5m", "1:5", "unclosed left bracket");
    check_error(
        "a[]",
        "1:3",
        "unexpected \"]\" in subquery or range selector, expected number, duration, step(), or \
         range()",
    );
    check_error(
        "a[b]",
        "1:3",
        "unexpected character in duration expression: 'b'",
    );
    check_error(
        "a[\"5m\"]",
        "1:3",
        "unexpected character in duration expression: '\"'",
    );
    check_error(
        "a[[",
        "1:3",
        "unexpected character in duration expression: '['",
    );
    check_error("a[5m [", "1:6", "unexpected left bracket '['");
    check_error("a[5m x]", "1:6", "unexpected character: 'x', expected ':'");
    check_error("a[5m:1m:]", "1:8", "unexpected colon ':'");
    check_error("a[5m::]", "1:6", "unexpected colon ':'");
    check_error(
        "a[5m 1m]",
        "1:6",
        "unexpected duration \"1m\" in subquery or range, expected \":\" or \"]\"",
    );
    check_error(
        "a[5m:*]",
        "1:6",
        "unexpected <op:*> in subquery selector, expected number, duration, step(), range(), or \
         \"]\"",
    );
    check_error(
        "a[5m:1m 1m]",
        "1:9",
        "unexpected duration \"1m\" in subquery selector, expected \"]\"",
    );
    check_error(
        "a[5m*]",
        "1:6",
        "unexpected \"]\" in subquery or range selector",
    );
    check_error(
        "a[(5m]",
        "1:6",
        "unexpected \"]\" in subquery or range selector",
    );
    check_error(
        "a[step]",
        "1:7",
        "unexpected \"]\" in subquery or range selector",
    );
    check_error(
        "a[min_of(1)]",
        "1:11",
        "unexpected \")\" in subquery or range selector",
    );
    check_error(
        "a[start()]",
        "1:3",
        "unexpected character in duration expression: 's'",
    );
    check_error("a[0]", "1:3", "duration must be greater than 0");
    check_error("a[0s]", "1:3", "duration must be greater than 0");
    check_error("a[-5m]", "1:3", "duration must be greater than 0");
    check_error("a[-0.0001]", "1:3", "duration must be greater than 0");
    check_error("a[5m:0]", "1:6", "duration must be greater than 0");
    check_error("a[1e12]", "1:3", "duration out of range");
    check_error("a[5m/0]", "1:5", "division by zero");
    check_error("a[step()%0s]", "1:9", "modulo by zero");
    check_error("1[5m]", "1:2", "ranges only allowed for vector selectors");
    check_error("(a)[5m]", "1:4", "ranges only allowed for vector selectors");
    check_error(
        "a[5m][5m]",
        "1:6",
        "ranges only allowed for vector selectors",
    );
    check_error(
        "a offset 5m [5m]",
        "1:13",
        "no offset modifiers allowed before range",
    );
    check_error("a @ 5 [5m]", "1:7", "no @ modifiers allowed before range");
    check_error(
        "a[5m][1h:]",
        "1:1",
        "subquery is only allowed on instant vector, got matrix instead",
    );
    check_error(
        "1[5m:]",
        "1:1",
        "subquery is only allowed on instant vector, got scalar instead",
    );
    check_error(
        "'x'[5m:]",
        "1:1",
        "subquery is only allowed on instant vector, got string instead",
    );
}

#[test]
fn types_of_operands() {
    check_error(
        "-'x'",
        "1:1",
        "unary expression only allowed on expressions of type scalar or instant vector, got \
         \"string\"",
    );
    check_error(
        "-a[5m]",
        "1:1",
        "unary expression only allowed on expressions of type scalar or instant vector, got \
         \"range vector\"",
    );
    check_error(
        "a + 'x'",
        "1:5",
        "binary expression must contain only scalar and instant vector types",
    );
    check_error(
        "a[5m] + b",
        "1:1",
        "binary expression must contain only scalar and instant vector types",
    );
    check_error(
        "1 == 1",
        "1:3",
        "comparisons between scalars must use BOOL modifier",
    );
    check_error(
        "1  <\n(2)",
        "1:4",
        "comparisons between scalars must use BOOL modifier",
    );
    check_error(
        "a + bool b",
        "1:3",
        "bool modifier can only be used on comparison operators",
    );
    check_error(
        "a and bool b",
        "1:3",
        "bool modifier can only be used on comparison operators",
    );
    check_error(
        "a and 1",
        "1:1",
        "set operator \"and\" not allowed in binary scalar expression",
    );
    check_error(
        "1 or a",
        "1:1",
        "set operator \"or\" not allowed in binary scalar expression",
    );
    check_error(
        "1 unless 1",
        "1:1",
        "set operator \"unless\" not allowed in binary scalar expression",
    );
    check_error(
        "a + on(x) 1",
        "1:1",
        "vector matching only allowed between instant vectors",
    );
    check_error(
        "1 + ignoring(x) 1",
        "1:1",
        "vector matching only allowed between instant vectors",
    );
    check_error(
        "a + fill(0) 1",
        "1:1",
        "filling in missing series only allowed between instant vectors",
    );
    check_error(
        "a and on(x) group_left b",
        "1:1",
        "no grouping allowed for \"and\" operation",
    );
    check_error(
        "a or on(x) group_right(y) b",
        "1:1",
        "no grouping allowed for \"or\" operation",
    );
    check_error(
        "a or fill(0) b",
        "1:1",
        "filling in missing series not allowed for set operators",
    );
    check_error(
        "a + on(x, y) group_left(z, y) b",
        "1:3",
        "label \"y\" must not occur in ON and GROUP clause at once",
    );
    check_error(
        "b + (a + 'x')",
        "1:10",
        "binary expression must contain only scalar and instant vector types",
    );
}
