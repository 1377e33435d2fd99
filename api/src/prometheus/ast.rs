//! A PromQL tree as `/api/v1/parse_query` shows it: the nodes, fields and names that Prometheus'
//! own pages and Grafana draw.
use serde_json::{Value, json};
use tidelake_catalog::model::{METRIC_NAME, Matcher};
use tidelake_querier::promql::digits::plain;
use tidelake_querier::promql::parse::ast::*;

/// The tree as JSON. As deep as the tree, which the parser bounds.
pub fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(number) => json!({ "type": "numberLiteral", "val": plain(number.value) }),
        Expr::String(text) => json!({ "type": "stringLiteral", "val": text.value }),
        Expr::Vector(selector) => object("vectorSelector", selector_fields(selector)),
        Expr::Matrix(matrix) => object(
            "matrixSelector",
            [
                selector_fields(&matrix.selector),
                duration_fields("range", Some(&matrix.range)),
            ]
            .concat(),
        ),
        Expr::Subquery(subquery) => subquery_node(subquery),
        Expr::Call(call) => json!({
            "type": "call",
            "func": {
                "name": call.function.name,
                "argTypes": call.function.args.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
                "variadic": call.function.variadic,
                "returnType": call.function.result.name(),
            },
            "args": call.args.iter().map(tree).collect::<Vec<_>>(),
        }),
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": tree(&aggregate.expr),
            "param": aggregate.param.as_deref().map(tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        Expr::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": tree(&binary.lhs),
            "rhs": tree(&binary.rhs),
            "matching": binary.matching.as_ref().map(matching),
            "bool": binary.return_bool,
        }),
        Expr::Unary(unary) => {
            json!({
                "type": "unaryExpr", "op": if unary.negative { "-" } else { "+" },
                "expr": tree(&unary.expr)
            })
        }
        Expr::Paren(paren) => json!({ "type": "parenExpr", "expr": tree(&paren.expr) }),
    }
}

type Fields = Vec<(&'static str, Value)>;

fn object(kind: &str, fields: Fields) -> Value {
    let kind = ("type", Value::from(kind));
    Value::Object(
        fields
            .into_iter()
            .chain([kind])
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn selector_fields(selector: &VectorSelector) -> Fields {
    let name = selector.name.as_deref().unwrap_or("");
    let mut fields = vec![
        ("name", json!(name)),
        ("matchers", matchers(name, &selector.matchers)),
        ("anchored", json!(selector.reach == Reach::Anchored)),
        ("smoothed", json!(selector.reach == Reach::Smoothed)),
    ];
    fields.extend(duration_fields("offset", selector.offset.as_ref()));
    fields.extend(at_fields(selector.at));
    fields
}

fn subquery_node(subquery: &Subquery) -> Value {
    let mut fields = vec![("expr", tree(&subquery.expr))];
    fields.extend(duration_fields("range", Some(&subquery.range)));
    fields.extend(duration_fields("step", subquery.step.as_ref()));
    fields.extend(duration_fields("offset", subquery.offset.as_ref()));
    fields.extend(at_fields(subquery.at));
    object("subquery", fields)
}

/// The matcher that is the metric's name comes last there.
fn matchers(name: &str, all: &[Matcher]) -> Value {
    let position = all.iter().position(|matcher| {
        !name.is_empty() && matcher.name == METRIC_NAME && matcher.value == name
    });
    let others = all
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != position)
        .map(|(_, matcher)| matcher);
    let shown = others.chain(position.and_then(|at| all.get(at)));
    let tree = |matcher: &Matcher| {
        let op = matcher.op.as_str();
        json!({ "name": matcher.name, "value": matcher.value, "type": op })
    };
    shown.map(tree).collect()
}

fn at_fields(at: Option<At>) -> Fields {
    let (time, word) = match at {
        None => (None, None),
        Some(At::Time(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    };
    vec![("timestamp", json!(time)), ("startOrEnd", json!(word))]
}

/// `range` in ms and `rangeExpr`: one is a plain duration, the other one that has to be computed.
fn duration_fields(name: &'static str, duration: Option<&DurationExpr>) -> Fields {
    let expr_name = match name {
        "range" => "rangeExpr",
        "step" => "stepExpr",
        _ => "offsetExpr",
    };
    let (ms, expr) = match duration {
        None => (0, Value::Null),
        Some(DurationExpr::Literal { ms, .. }) => (*ms, Value::Null),
        Some(other) => (0, duration_tree(other)),
    };
    vec![(name, json!(ms)), (expr_name, expr)]
}

fn duration_tree(duration: &DurationExpr) -> Value {
    let number = |value: f64, duration: bool| {
        json!({
            "type": "numberLiteral", "val": plain(value), "duration": duration
        })
    };
    let node = |op: &str, lhs: Value, rhs: Value| {
        json!({
            "type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": false
        })
    };
    match duration {
        DurationExpr::Literal { ms, .. } => number(*ms as f64 / 1000.0, true),
        DurationExpr::Number { value, .. } => number(*value, false),
        DurationExpr::Step(_) => node("step", Value::Null, Value::Null),
        DurationExpr::Range(_) => node("range", Value::Null, Value::Null),
        DurationExpr::Unary { negative, expr, .. } => node(
            if *negative { "-" } else { "+" },
            Value::Null,
            duration_tree(expr),
        ),
        DurationExpr::Binary { op, lhs, rhs, .. } => {
            node(op.as_str(), duration_tree(lhs), duration_tree(rhs))
        }
        DurationExpr::Extreme { max, lhs, rhs, .. } => node(
            if *max { "max_of" } else { "min_of" },
            duration_tree(lhs),
            duration_tree(rhs),
        ),
        DurationExpr::Paren(inner, _) => {
            let mut inner = duration_tree(inner);
            // Only an operation can be in parentheses there: a number becomes one by a plus.
            if inner["type"] == "numberLiteral" {
                inner = node("+", Value::Null, inner);
            }
            inner["wrapped"] = json!(true);
            inner
        }
    }
}

fn matching(matching: &VectorMatching) -> Value {
    let cardinality = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": cardinality,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": { "lhs": matching.fill_left.map(number), "rhs": matching.fill_right.map(number) },
    })
}

/// A whole number without the fraction that it has not; what JSON has no number for is null.
fn number(value: f64) -> Value {
    if value.trunc() == value && value.abs() < 1e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use tidelake_querier::promql::parse::parse;

    use super::*;

    fn check(query: &str, expected: Value) {
        assert_eq!(tree(&parse(query).unwrap()), expected, "{query}");
    }

    /// A selector of one metric without anything else.
    fn plain(name: &str) -> Value {
        json!({
            "type": "vectorSelector", "name": name,
            "matchers": [{ "name": "__name__", "type": "=", "value": name }],
            "offset": 0, "offsetExpr": null,
            "timestamp": null, "startOrEnd": null, "anchored": false, "smoothed": false,
        })
    }

    fn changed(mut value: Value, changes: Value) -> Value {
        for (name, change) in changes.as_object().unwrap() {
            value[name] = change.clone();
        }
        value
    }

    fn operation(op: &str, lhs: Value, rhs: Value, wrapped: bool) -> Value {
        json!({ "type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped })
    }

    fn seconds(text: &str, duration: bool) -> Value {
        json!({ "type": "numberLiteral", "val": text, "duration": duration })
    }

    #[test]
    fn literals() {
        check("1", json!({ "type": "numberLiteral", "val": "1" }));
        check(
            "1e30",
            json!({ "type": "numberLiteral", "val": "1000000000000000000000000000000" }),
        );
        check("-Inf", json!({ "type": "numberLiteral", "val": "-Inf" }));
        check("5m", json!({ "type": "numberLiteral", "val": "300" }));
        check("'a\\n'", json!({ "type": "stringLiteral", "val": "a\n" }));
        check(
            "(+x)",
            json!({ "type": "parenExpr", "expr": { "type": "unaryExpr", "op": "+", "expr": plain("x") } }),
        );
    }

    #[test]
    fn selectors() {
        check("up", plain("up"));
        let matchers = json!([
            { "name": "a", "type": "!~", "value": "b.*" },
            { "name": "__name__", "type": "=", "value": "up" },
        ]);
        let expected = changed(
            plain("up"),
            json!({ "matchers": matchers, "offset": -60_000, "timestamp": 1500, "smoothed": true }),
        );
        check("up{a!~'b.*'} smoothed offset -1m @ 1.5", expected);
        check(
            "up @ end()",
            changed(plain("up"), json!({ "startOrEnd": "end" })),
        );
        let quoted = json!({ "name": "", "matchers": [{ "name": "__name__", "type": "=", "value": "d.e" }] });
        check("{'d.e'}", changed(plain("d.e"), quoted));
        let matrix = json!({
            "type": "matrixSelector", "range": 300_000, "rangeExpr": null, "anchored": true
        });
        check("up[5m] anchored", changed(plain("up"), matrix));
    }

    #[test]
    fn durations_that_are_computed() {
        let sum = operation("+", seconds("300", true), seconds("60", true), false);
        let range = json!({ "type": "matrixSelector", "range": 0, "rangeExpr": sum });
        check("x[5m+1m]", changed(plain("x"), range.clone()));
        let quotient = operation("/", seconds("600", true), seconds("2", false), true);
        check(
            "x[5m+1m] offset (10m/2)",
            changed(
                plain("x"),
                changed(range, json!({ "offsetExpr": quotient })),
            ),
        );
        let step = || operation("step", Value::Null, Value::Null, false);
        let negated = operation(
            "-",
            Value::Null,
            operation("min_of", seconds("5", true), step(), false),
            false,
        );
        check(
            "x offset -min_of(5s,step())",
            changed(plain("x"), json!({ "offsetExpr": negated })),
        );
        let in_parentheses = operation("+", Value::Null, seconds("300", true), true);
        check(
            "x[((5m))]",
            changed(
                plain("x"),
                json!({ "type": "matrixSelector", "range": 0, "rangeExpr": in_parentheses }),
            ),
        );
        let subquery = json!({
            "type": "subquery", "expr": plain("x"), "range": 300_000, "rangeExpr": null, "step": 0,
            "stepExpr": operation("*", step(), seconds("2", false), false),
            "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": "start",
        });
        check("x[5m:step()*2] @ start()", subquery);
    }

    #[test]
    fn calls_and_aggregations() {
        let function = json!({
            "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1,
            "returnType": "vector"
        });
        check(
            "round(x)",
            json!({ "type": "call", "func": function, "args": [plain("x")] }),
        );
        let time = json!({ "name": "time", "argTypes": [], "variadic": 0, "returnType": "scalar" });
        check(
            "time()",
            json!({ "type": "call", "func": time, "args": [] }),
        );
        let sum = json!({
            "type": "aggregation", "op": "sum", "expr": plain("x"), "param": null,
            "grouping": [], "without": false
        });
        check("sum(x)", sum.clone());
        let three = json!({ "type": "numberLiteral", "val": "3" });
        let top = json!({ "op": "topk", "param": three, "grouping": ["a", "b"], "without": true });
        check("topk without(a,b) (3, x)", changed(sum, top));
    }

    #[test]
    fn operators() {
        let fill = json!({ "lhs": null, "rhs": null });
        let plainly = json!({
            "card": "one-to-one", "labels": [], "on": false, "include": [], "fillValues": fill
        });
        let sum = json!({
            "type": "binaryExpr", "op": "+", "lhs": plain("x"), "rhs": plain("y"),
            "matching": plainly, "bool": false
        });
        check("x + y", sum.clone());
        let two = json!({ "type": "numberLiteral", "val": "2" });
        check(
            "x >= bool 2",
            changed(
                sum.clone(),
                json!({ "op": ">=", "rhs": two, "matching": null, "bool": true }),
            ),
        );
        let many = changed(
            plainly.clone(),
            json!({ "card": "many-to-many", "on": true, "labels": ["a"] }),
        );
        check(
            "x and on(a) y",
            changed(sum.clone(), json!({ "op": "and", "matching": many })),
        );
        let left = json!({
            "card": "many-to-one", "on": true, "labels": ["a"], "include": ["b"],
            "fillValues": { "lhs": null, "rhs": 0.5 }
        });
        let left = json!({ "op": "*", "matching": changed(plainly.clone(), left) });
        check(
            "x * on(a) group_left(b) fill_right(0.5) y",
            changed(sum.clone(), left),
        );
        let filled = changed(
            plainly,
            json!({ "labels": ["a"], "fillValues": { "lhs": -3, "rhs": -3 } }),
        );
        check(
            "x + ignoring(a) fill(-3) y",
            changed(sum, json!({ "matching": filled })),
        );
    }
}
