//! The engine over samples in memory.
//!
//! Samples are written as `name{labels} values`, a line per series and a value per minute from 0
//! on: `_` is no sample, `stale` a stale marker, `h5` a native histogram of 5 observations, `1+2x3`
//! is `1 3 5 7`. Answers are written in the same way, a value per step.

mod explain;
mod histograms;
mod limits;
mod memory;
mod partitions;
mod spread;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidelake_catalog::model::{Histogram, LabelsBuilder, METRIC_NAME};
use tidelake_catalog::snapshot::Snapshot;

use super::super::parse::{ast::Expr, parse};
use super::super::source::SelectRequest;
use super::super::source::SelectedSeries;
use super::super::source::memory::{MemorySource, Sample};
use super::*;

const MINUTE: i64 = 60_000;

fn source(text: &str) -> Arc<MemorySource> {
    let mut source = MemorySource::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let end = line
            .rfind('}')
            .map_or_else(|| line.find(' ').unwrap_or(line.len()), |at| at + 1);
        let Expr::Vector(selector) = parse(&line[..end]).unwrap() else {
            panic!("no series: {line}")
        };
        let mut labels = LabelsBuilder::new();
        for matcher in &selector.matchers {
            labels.set(&matcher.name, &matcher.value);
        }
        let labels = labels.build();
        let mut time = 0;
        for word in line[end..].split_whitespace() {
            for sample in samples(word) {
                if let Some(sample) = sample {
                    source.insert(&labels, time, sample);
                }
                time += MINUTE;
            }
        }
    }
    Arc::new(source)
}

fn samples(word: &str) -> Vec<Option<Sample>> {
    if let Some((series, count)) = word.split_once('x') {
        let (first, step) = series.split_once('+').unwrap();
        let (first, step): (f64, f64) = (first.parse().unwrap(), step.parse().unwrap());
        return (0..=count.parse().unwrap())
            .map(|i: u32| Some(Sample::Float(first + step * f64::from(i))))
            .collect();
    }
    vec![match word {
        "_" => None,
        "stale" => Some(Sample::Float(ABSENT)),
        _ => Some(match word.strip_prefix('h') {
            Some(count) => Sample::Histogram(Arc::new(Histogram {
                count: count.parse().unwrap(),
                sum: 1.0,
                ..Histogram::default()
            })),
            None => Sample::Float(word.parse().unwrap()),
        }),
    }]
}

fn run(
    source: &Arc<impl SampleSource + 'static>,
    query: &str,
    params: QueryParams,
    options: &EngineOptions,
) -> Result<QueryOutput, QueryError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let expr = parse(query).map_err(|error| QueryError::BadData(error.to_string()))?;
    let source: Arc<dyn SampleSource> = source.clone();
    runtime.block_on(sendable(evaluate(&expr, query, params, source, options)))
}

/// A server polls queries from any of its threads.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

fn show(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    if is_absent(value) {
        "_".to_owned()
    } else {
        format!("{rounded}")
    }
}

fn render(value: Value) -> Vec<String> {
    match value {
        Value::Scalar(values) => vec![values.into_iter().map(show).collect::<Vec<_>>().join(" ")],
        Value::String(text) => vec![text],
        Value::Vector(rows) => rows
            .into_iter()
            .map(|row| {
                let values = row.values.iter().enumerate().map(|(step, value)| {
                    match row.histograms.as_ref().and_then(|all| all[step].as_ref()) {
                        Some(histogram) => format!("h{}", histogram.count),
                        None => show(*value),
                    }
                });
                format!(
                    "{} {}",
                    name(&row.labels),
                    values.collect::<Vec<_>>().join(" ")
                )
            })
            .collect(),
        Value::RangeVector(series) => series
            .into_iter()
            .map(|series| {
                let floats = series
                    .floats
                    .iter()
                    .map(|(time, value)| format!("{}@{}", show(*value), time / 1000));
                let histograms = series
                    .histograms
                    .iter()
                    .map(|(time, value)| format!("h{}@{}", value.count, time / 1000));
                format!(
                    "{} {}",
                    name(&series.labels),
                    floats.chain(histograms).collect::<Vec<_>>().join(" ")
                )
            })
            .collect(),
    }
}

fn name(labels: &tidelake_catalog::model::Labels) -> String {
    let rest: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{}{{{}}}", labels.metric_name(), rest.join(","))
}

/// An instant query at a minute.
fn at(samples: &str, query: &str, minute: i64, expected: &[&str]) {
    let output = run(
        &source(samples),
        query,
        QueryParams::instant(minute * MINUTE),
        &EngineOptions::default(),
    );
    assert_eq!(
        render(
            output
                .unwrap_or_else(|error| panic!("{query}: {error}"))
                .value
        ),
        expected,
        "{query}"
    );
}

/// A range query with a step of a minute.
fn over(samples: &str, query: &str, minutes: std::ops::RangeInclusive<i64>, expected: &[&str]) {
    let params = QueryParams::range(minutes.start() * MINUTE, minutes.end() * MINUTE, MINUTE);
    let output = run(&source(samples), query, params, &EngineOptions::default());
    assert_eq!(
        render(
            output
                .unwrap_or_else(|error| panic!("{query}: {error}"))
                .value
        ),
        expected,
        "{query}"
    );
}

fn fails(samples: &str, query: &str, expected: &str) {
    match run(
        &source(samples),
        query,
        QueryParams::instant(MINUTE),
        &EngineOptions::default(),
    ) {
        Ok(output) => panic!("{query} gave {:?}", output.value),
        Err(error) => assert!(error.to_string().contains(expected), "{query}: {error}"),
    }
}

fn remarks(samples: &str, query: &str, expected: &[&str]) {
    let output = run(
        &source(samples),
        query,
        QueryParams::instant(4 * MINUTE),
        &EngineOptions::default(),
    )
    .unwrap();
    let all: Vec<String> = output
        .annotations
        .warnings
        .into_iter()
        .chain(output.annotations.infos)
        .collect();
    assert_eq!(all, expected, "{query}");
}

#[test]
fn no_label_has_a_name_that_is_not_utf8() {
    let samples = "x{a=\"1\"} 1";
    fails(
        samples,
        r#"count_values("a\xc5z", x)"#,
        r#"invalid label name "a\xc5z""#,
    );
    fails(
        samples,
        r#"label_replace(x, "\xff", "", "a", "(.*)")"#,
        "invalid destination label name in label_replace(): \u{fffd}",
    );
    fails(
        samples,
        r#"label_replace(x, "a", "", "a", "\xff")"#,
        "invalid regular expression in label_replace(): \u{fffd}",
    );
    fails(
        samples,
        r#"label_join(x, "\xff", "", "a")"#,
        "invalid destination label name in label_join(): \u{fffd}",
    );
    fails(
        samples,
        r#"label_join(x, "b", "", "a", "\xff")"#,
        "invalid source label name in label_join(): \u{fffd}",
    );
}

#[test]
fn patterns_are_those_of_prometheus() {
    let samples = "x{a=\"\u{e9}[\"} 1";
    at(samples, r#"x{a=~`\w.`}"#, 0, &[]);
    at(samples, r#"x{a=~`.[[]`} * 2"#, 0, &["{a=\u{e9}[} 2"]);
    at(
        samples,
        r#"label_replace(x, "a", "$1", "a", `(\W)[[&&]`)"#,
        0,
        &["x{a=\u{e9}} 1"],
    );
    fails(
        samples,
        r#"label_replace(x, "a", "$1", "a", "b**")"#,
        "invalid regular expression in label_replace(): b**",
    );
}

#[test]
fn selectors_look_back_and_stop_at_stale_markers() {
    let samples = "up{job=\"a\"} 1 _ _ 4\nup{job=\"b\"} 5 stale _ 8";
    over(
        samples,
        "up",
        0..=4,
        &["up{job=a} 1 1 1 4 4", "up{job=b} 5 _ _ 8 8"],
    );
    over("x 1", "x", 4..=6, &["x{} 1 _ _"]);
    over(
        samples,
        "up{job=\"a\"} offset 1m",
        0..=4,
        &["up{job=a} _ 1 1 1 4"],
    );
    over(
        samples,
        "up{job=\"a\"} offset -3m",
        0..=1,
        &["up{job=a} 4 4"],
    );
    over(samples, "up{job=\"a\"} @ 180", 0..=2, &["up{job=a} 4 4 4"]);
    over(
        samples,
        "up{job=\"a\"} @ end() offset 1m",
        2..=4,
        &["up{job=a} 4 4 4"],
    );
    over(
        samples,
        "timestamp(up{job=\"a\"})",
        0..=4,
        &["{job=a} 0 0 0 180 180"],
    );
    over(
        samples,
        "timestamp(-up{job=\"a\"})",
        0..=1,
        &["{job=a} 0 60"],
    );
    at(
        samples,
        "up[3m]",
        3,
        &["up{job=a} 4@180", "up{job=b} 8@180"],
    );
}

#[test]
fn aggregations_group_rows() {
    let samples = "x{a=\"1\",b=\"1\"} 1 10\nx{a=\"1\",b=\"2\"} 2 stale\nx{a=\"2\",b=\"1\"} 4 40";
    over(
        samples,
        "sum by (a) (x)",
        0..=1,
        &["{a=1} 3 10", "{a=2} 4 40"],
    );
    over(
        samples,
        "sum without (a) (x)",
        0..=1,
        &["{b=1} 5 50", "{b=2} 2 _"],
    );
    over(samples, "count(x)", 0..=1, &["{} 3 2"]);
    over(samples, "group by (a) (x)", 0..=0, &["{a=1} 1", "{a=2} 1"]);
    over(samples, "max(x) - min(x)", 0..=1, &["{} 3 30"]);
    over(samples, "avg(x)", 0..=1, &["{} 2.333333 25"]);
    over(samples, "quantile(0.5, x)", 0..=1, &["{} 2 25"]);
    over(samples, "stdvar(x)", 0..=1, &["{} 1.555556 225"]);
    over(samples, "topk(1, x)", 0..=1, &["x{a=2,b=1} 4 40"]);
    at(
        samples,
        "bottomk(2, x)",
        0,
        &["x{a=1,b=1} 1", "x{a=1,b=2} 2"],
    );
    at(
        samples,
        "limitk by (a) (1, x)",
        0,
        &["x{a=1,b=1} 1", "x{a=2,b=1} 4"],
    );
    at(
        samples,
        "count(limit_ratio(0.3, x) or limit_ratio(-0.7, x))",
        0,
        &["{} 3"],
    );
    at(
        samples,
        "count_values(\"v\", x > bool 1)",
        0,
        &["{v=0} 1", "{v=1} 2"],
    );
    at(samples, "sum by (__name__) (x)", 0, &["x{} 7"]);
    at(samples, "sum by (__name__) (abs(x))", 0, &["{} 7"]);
    at(
        "x{a=\"1\"} 1e100\nx{a=\"2\"} 1\nx{a=\"3\"} -1e100",
        "sum(x)",
        0,
        &["{} 1"],
    );
    at("x NaN\ny 1", "max({__name__=~\"x|y\"})", 0, &["{} 1"]);
}

#[test]
fn no_parameter_panics() {
    let samples = "x{a=\"1\"} 1\nx{a=\"2\"} NaN";
    at(samples, "topk(-1, x)", 0, &[]);
    at(samples, "topk(1, x)", 0, &["x{a=1} 1"]);
    at(samples, "bottomk(5, x)", 0, &["x{a=1} 1", "x{a=2} NaN"]);
    fails(samples, "topk(NaN, x)", "Parameter value is NaN");
    fails(samples, "topk(Inf, x)", "overflows int64");
    fails(samples, "limitk(1e30, x)", "overflows int64");
    fails(samples, "limit_ratio(NaN, x)", "Ratio value is NaN");
    at(samples, "clamp(x, 5, 1)", 0, &[]);
    at(samples, "clamp(x, -Inf, Inf)", 0, &["{a=1} 1", "{a=2} NaN"]);
    at(samples, "quantile(-3, x)", 0, &["{} -inf"]);
    for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        for query in [
            "x",
            "rate(x[100y] offset -100y)",
            "sum_over_time(x[5m:1m] offset 100y)",
            "predict_linear(x[5m] anchored, 9e300)",
        ] {
            let _ = run(
                &source(samples),
                query,
                QueryParams::instant(time),
                &EngineOptions::default(),
            );
            let all = QueryParams::range(i64::MIN, time, i64::MAX);
            let _ = run(&source(samples), query, all, &EngineOptions::default());
        }
        assert_eq!(
            run(
                &source(samples),
                "x",
                QueryParams::range(0, time, 1),
                &EngineOptions::default()
            )
            .is_ok(),
            time < 0
        );
    }
    at(samples, "year(vector(1e18))", 0, &["{} 31688740476"]);
    at(samples, "year(vector(NaN)) > 0", 0, &["{} 292277026596"]);
    at(samples, "rate(x[100y] offset -100y)", 0, &[]);
    at(samples, "round(vector(5), 0)", 0, &["{} NaN"]);
    for query in ["sum_over_time(x[1y:1ms])", "sum_over_time(x[100y:1ms])"] {
        let result = run(
            &source(samples),
            query,
            QueryParams::instant(0),
            &EngineOptions::default(),
        );
        assert_eq!(
            result.map(|_| ()),
            Err(QueryError::TooManySamples(50_000_000)),
            "{query}"
        );
    }
}

#[test]
fn binary_operators_match_labels() {
    let samples = "a{i=\"1\",k=\"x\"} 1 2\na{i=\"2\",k=\"x\"} 3 4\nb{i=\"1\"} 10 20\nb{i=\"3\"} \
                   30 30\ninfo{k=\"x\",v=\"7\"} 1 1";
    over(samples, "a + on(i) b", 0..=1, &["{i=1} 11 22"]);
    over(samples, "a + ignoring(k) b", 0..=1, &["{i=1} 11 22"]);
    over(
        samples,
        "a * on(k) group_left(v) info",
        0..=1,
        &["{i=1,k=x,v=7} 1 2", "{i=2,k=x,v=7} 3 4"],
    );
    over(
        samples,
        "info * on(k) group_right(v) a",
        0..=0,
        &["{i=1,k=x,v=7} 1", "{i=2,k=x,v=7} 3"],
    );
    over(samples, "a > 2", 0..=1, &["a{i=2,k=x} 3 4"]);
    over(
        samples,
        "2 < bool a",
        0..=1,
        &["{i=1,k=x} 0 0", "{i=2,k=x} 1 1"],
    );
    over(samples, "2 < a", 0..=0, &["a{i=2,k=x} 3"]);
    over(samples, "a and on(i) b", 0..=0, &["a{i=1,k=x} 1"]);
    over(samples, "b unless on(i) a", 0..=0, &["b{i=3} 30"]);
    over(
        samples,
        "(a > 3) or b",
        0..=1,
        &["a{i=2,k=x} _ 4", "b{i=1} 10 20", "b{i=3} 30 30"],
    );
    over(
        samples,
        "a + on(i) fill_right(100) b",
        0..=0,
        &["{i=1} 11", "{i=2} 103"],
    );
    // The left of these is the side that may have several series of a match, as in Prometheus.
    let grouped = "meta{i=\"1\"} 100\nmeta{i=\"3\"} 300\n\
                   cpu{i=\"1\",c=\"0\"} 2\ncpu{i=\"2\",c=\"0\"} 3";
    over(
        grouped,
        "meta * on(i) group_right fill_left(1) cpu",
        0..=0,
        &["{c=0,i=1} 200", "{i=3} 300"],
    );
    over(
        grouped,
        "meta * on(i) group_right fill_right(0) cpu",
        0..=0,
        &["{c=0,i=1} 200", "{c=0,i=2} 0"],
    );
    over(
        grouped,
        "cpu * on(i) group_left fill_left(1) meta",
        0..=0,
        &["{c=0,i=1} 200", "{i=3} 300"],
    );
    over(samples, "1 + 2 ^ 3 % 5", 0..=0, &["4"]);
    over(samples, "-a{i=\"1\"}", 0..=1, &["{i=1,k=x} -1 -2"]);
    fails(
        "m{instance=\"a\"} 1\nh{instance=\"a\"} h5",
        "info(m, {__name__=\"h\"})",
        "info sample should be float",
    );
    fails(
        samples,
        "a + on(k) info",
        "multiple matches for labels: many-to-one matching must be explicit",
    );
    fails(
        samples,
        "info + on(k) a",
        "found duplicate series for the match group {k=\"x\"} on the right hand-side",
    );
    fails(
        samples,
        "a + on(k) group_left() (a > 0)",
        "found duplicate series for the match group {k=\"x\"} on the right hand-side",
    );
    fails(
        samples,
        "a * on(k) group_left(i) info",
        "multiple matches for labels: grouping labels must ensure unique matches",
    );
    fails(
        "p 1\nq 2",
        "abs({__name__=~\"p|q\"})",
        "vector cannot contain metrics with the same labelset",
    );
    over(
        "p 1 stale\nq _ 2",
        "abs({__name__=~\"p|q\"})",
        0..=1,
        &["{} 1 2"],
    );
}

#[test]
fn functions_over_vectors() {
    let samples = "x{src=\"a-1\"} 4\nx{src=\"a-10\"} -2\nx{src=\"a-2\"} 9";
    at(
        samples,
        "sort(x)",
        0,
        &["x{src=a-10} -2", "x{src=a-1} 4", "x{src=a-2} 9"],
    );
    at(
        samples,
        "sort_desc(x)",
        0,
        &["x{src=a-2} 9", "x{src=a-1} 4", "x{src=a-10} -2"],
    );
    at(
        samples,
        "sort_by_label(x, \"src\")",
        0,
        &["x{src=a-1} 4", "x{src=a-2} 9", "x{src=a-10} -2"],
    );
    at(samples, "sqrt(x{src=\"a-1\"})", 0, &["{src=a-1} 2"]);
    at(samples, "sgn(x{src=\"a-10\"})", 0, &["{src=a-10} -1"]);
    at(
        samples,
        "round(x{src=\"a-1\"} / 3, 0.5)",
        0,
        &["{src=a-1} 1.5"],
    );
    at(
        samples,
        "label_replace(x{src=\"a-1\"}, \"dst\", \"$1!\", \"src\", \".*-(.*)\")",
        0,
        &["x{dst=1!,src=a-1} 4"],
    );
    at(
        samples,
        "label_join(x{src=\"a-1\"}, \"dst\", \"+\", \"src\", \"src\")",
        0,
        &["x{dst=a-1+a-1,src=a-1} 4"],
    );
    at(
        samples,
        "label_replace(abs(x{src=\"a-1\"}), \"__name__\", \"y\", \"\", \"\")",
        0,
        &["y{src=a-1} 4"],
    );
    at(samples, "absent(x)", 0, &[]);
    at(samples, "absent(y{src=\"a\", z!=\"b\"})", 0, &["{src=a} 1"]);
    at(samples, "scalar(x)", 0, &["NaN"]);
    at(samples, "scalar(x{src=\"a-1\"}) + time()", 1, &["64"]);
    at(samples, "\"text\"", 0, &["text"]);
    at("", "day_of_year(vector(1709164800))", 0, &["{} 60"]);
    at(
        "",
        "days_in_month(vector(1709164800)) * 100 + day_of_week(vector(1709164800))",
        0,
        &["{} 2904"],
    );
    at(
        "",
        "month(vector(-1)) * 10000 + year(vector(-1))",
        0,
        &["{} 121969"],
    );
    fails(
        samples,
        "label_replace(x, \"src\", \"same\", \"src\", \".*\")",
        "vector cannot contain metrics with the same labelset",
    );
}

#[test]
fn no_bound_of_parameters_is_told_beside_nan() {
    let check = |params: &[f64], expected: &str| {
        assert_eq!(format!("{:?}", super::aggregate::bounds(params)), expected)
    };
    check(&[0.5, -2.0, 3.0], "(-2.0, 3.0)");
    check(&[-2.0, f64::NAN, 3.0], "(NaN, NaN)");
    check(&[f64::NAN, f64::INFINITY], "(NaN, inf)");
}

#[test]
fn remarks_say_where() {
    remarks(
        "x 1 2 3 4 5",
        "sum(\n  rate(x[5m]))",
        &[
            "PromQL info: metric might not be a counter, name does not end in \
             _total/_sum/_count/_bucket: \"x\" (2:8)",
        ],
    );
    remarks(
        "x 1 2 3 4 5",
        "quantile(1.5, x)",
        &["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)"],
    );
    remarks(
        "h{le=\"x\"} 1",
        "histogram_quantile(0.5, h)",
        &[
            "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"x\" for \
             metric name \"h\" (1:25)",
        ],
    );
    remarks(
        "x 1 2 3 4 h5",
        "sum_over_time(x[9m])",
        &[
            "PromQL warning: encountered a mix of histograms and floats for metric name \"x\" \
             (1:15)",
        ],
    );
}

#[test]
fn durations_are_computed() {
    let params = QueryParams::range(0, 4 * MINUTE, 2 * MINUTE);
    let output = run(
        &source("x 0+1x5"),
        "sum_over_time(x[step()])",
        params,
        &EngineOptions::default(),
    )
    .unwrap();
    assert_eq!(render(output.value), ["{} 0 3 7"]);
    at("x 0+1x5", "sum_over_time(x[1m * 2])", 2, &["{} 3"]);
    fails("x 1", "x[1m - 1m]", "duration must be greater than 0");
    // Less than a millisecond is nothing.
    at("x 1", "count_over_time(x[0.0001])", 0, &[]);
    at("x 1", "rate(x[0.0001] anchored)", 0, &[]);
    at("x 1", "count_over_time(x[5m:0.0001])", 0, &["{} 1"]);
    fails("x 1", "x offset (1m / 0)", "division by zero");
}
