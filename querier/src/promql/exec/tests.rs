//! The engine over samples in memory.
//!
//! Samples are written as `name{labels} values`, a line per series and a value per minute from 0
//! on: `_` is no sample, `stale` a stale marker, `h5` a native histogram of 5 observations, `1+2x3`
//! is `1 3 5 7`. Answers are written in the same way, a value per step.

mod explain;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidelake_catalog::model::{Histogram, LabelsBuilder, METRIC_NAME};

use super::super::parse::{ast::Expr, parse};
use super::super::source::SelectRequest;
use super::super::source::SeriesStream;
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
fn windows_are_open_at_the_left() {
    let samples = "x 0+1x5";
    over(samples, "count_over_time(x[2m])", 0..=3, &["{} 1 2 2 2"]);
    over(samples, "sum_over_time(x[3m])", 0..=3, &["{} 0 1 3 6"]);
    over(samples, "last_over_time(x[2m] @ 120)", 0..=1, &["x{} 2 2"]);
    over(
        "x 1 stale 3",
        "count_over_time(x[5m])",
        0..=2,
        &["{} 1 1 2"],
    );
    at(samples, "sum_over_time(x[5m:2m])", 5, &["{} 6"]);
    at(samples, "x[3m:1m] offset 1m", 5, &["x{} 2@120 3@180 4@240"]);
    over(
        samples,
        "max_over_time((x * 2)[2m:1m])",
        1..=3,
        &["{} 2 4 6"],
    );
}

/// Values a minute apart, each with the minute at which its count began; `None` says nothing.
fn started(samples: &[(f64, Option<f64>)]) -> Arc<MemorySource> {
    let mut source = MemorySource::default();
    let labels = tidelake_catalog::model::Labels::from_pairs([(METRIC_NAME, "c_total")]);
    for (minute, (value, start)) in samples.iter().enumerate() {
        let time = minute as i64 * MINUTE + HOUR;
        source.insert(&labels, time, Sample::Float(*value));
        if let Some(start) = start {
            source.start(&labels, time, HOUR + (start * MINUTE as f64) as i64);
        }
    }
    Arc::new(source)
}

const HOUR: i64 = 60 * MINUTE;

#[test]
fn counters_that_say_when_they_began() {
    let check =
        |samples: &[(f64, Option<f64>)], query: &str, expected: &[&str], warnings: usize| {
            let end = QueryParams::instant(HOUR + (samples.len() as i64 - 1) * MINUTE);
            let output = run(&started(samples), query, end, &EngineOptions::default()).unwrap();
            assert_eq!(
                output.annotations.warnings.len(),
                warnings,
                "{:?}",
                output.annotations
            );
            assert_eq!(render(output.value), expected, "{query}");
        };
    let deltas = [
        (60.0, Some(-1.0)),
        (60.0, Some(0.0)),
        (60.0, Some(1.0)),
        (60.0, Some(2.0)),
    ];
    check(&deltas, "round(increase(c_total[3m1ms]))", &["{} 180"], 0);
    check(&deltas, "resets(c_total[3m1ms])", &["{} 3"], 0);
    check(&deltas, "irate(c_total[3m])", &["{} 1"], 0);
    check(&deltas, "idelta(c_total[3m])", &["{} 0"], 0);
    check(&deltas, "delta(c_total[3m])", &["{} 0"], 0);
    // A window that a subquery makes has no start times.
    check(&deltas, "increase(c_total[3m:1m])", &["{} 0"], 0);
    // Neither have anchored and smoothed windows.
    check(&deltas, "increase(c_total[3m] anchored)", &["{} 0"], 0);
    // Began within the window: it was zero then, and one sample is enough.
    check(
        &[(30.0, Some(-0.5))],
        "increase(c_total[1m])",
        &["{} 30"],
        0,
    );
    check(&[(30.0, Some(-2.0))], "increase(c_total[1m])", &[], 0);
    check(&[(30.0, Some(0.0))], "increase(c_total[1m])", &[], 0);
    check(&[(30.0, None)], "increase(c_total[1m])", &[], 0);
    check(
        &[(30.0, Some(-0.5)), (90.0, Some(-0.5))],
        "increase(c_total[2m])",
        &["{} 90"],
        0,
    );
    // A reset that the values do not show, and beginnings that cannot be.
    check(
        &[(10.0, Some(-9.0)), (20.0, Some(0.5))],
        "round(increase(c_total[1m1ms]))",
        &["{} 20"],
        0,
    );
    check(
        &[(10.0, Some(0.0)), (20.0, Some(0.0))],
        "resets(c_total[2m])",
        &["{} 0"],
        0,
    );
    check(
        &[(10.0, None), (20.0, Some(0.0))],
        "resets(c_total[2m])",
        &["{} 0"],
        0,
    );
    check(
        &[(10.0, Some(5.0)), (20.0, Some(0.0))],
        "resets(c_total[2m])",
        &["{} 0"],
        0,
    );
    check(
        &[(10.0, None), (20.0, Some(1.0))],
        "resets(c_total[2m])",
        &["{} 0"],
        0,
    );
    check(
        &[(10.0, Some(-2.0)), (20.0, Some(-1.0))],
        "resets(c_total[2m])",
        &["{} 0"],
        0,
    );
    check(
        &[(10.0, Some(-2.0)), (20.0, Some(-1.0))],
        "round(increase(c_total[1m1ms]))",
        &["{} 10"],
        1,
    );
    check(
        &[(10.0, Some(-2.0)), (20.0, Some(-1.0))],
        "round(delta(c_total[1m1ms]))",
        &["{} 10"],
        0,
    );

    check(
        &[(10.0, Some(-2.0))],
        "start_timestamp(c_total)",
        &["{} 3480"],
        0,
    );
    check(&[(10.0, None)], "start_timestamp(c_total)", &["{} 0"], 0);
    check(
        &[(10.0, Some(-2.0))],
        "start_timestamp(c_total + 1)",
        &[],
        0,
    );
}

#[test]
fn counters_are_extrapolated_and_corrected() {
    at("c_total 0+60x5", "rate(c_total[5m])", 5, &["{} 1"]);
    at("c_total 0+60x5", "increase(c_total[5m])", 5, &["{} 300"]);
    at("c_total 0 60 30 90", "resets(c_total[10m])", 3, &["{} 1"]);
    at(
        "c_total 10 60 30 90",
        "increase(c_total[4m1ms])",
        3,
        &["{} 150"],
    );
    at("c_total 0 60 30", "irate(c_total[5m])", 2, &["{} 0.5"]);
    at("g 5 3 3 NaN NaN 4", "changes(g[10m])", 5, &["{} 3"]);
    at("g 5 3", "idelta(g[5m])", 1, &["{} -2"]);
    at("g 0+6x5", "deriv(g[10m])", 5, &["{} 0.1"]);
    at("g 0+6x5", "predict_linear(g[10m], 60)", 5, &["{} 36"]);
    at(
        "g 1 2 4",
        "double_exponential_smoothing(g[10m], 0.5, 0.5)",
        2,
        &["{} 3.5"],
    );
    at(
        "g 1",
        "double_exponential_smoothing(none[10m], 0, 2)",
        0,
        &[],
    );
    fails(
        "g 1 1",
        "double_exponential_smoothing(g[10m], 1, 0.5)",
        "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000",
    );
    fails(
        "g 1 1",
        "double_exponential_smoothing(g[10m], 0.5, -2)",
        "invalid trend factor. Expected: 0 < tf < 1, got: -2.000000",
    );
    at("c_total 1", "rate(c_total[5m])", 0, &[]);
    at(
        "c_total 10 20 _ _",
        "increase(c_total[2m] anchored)",
        2,
        &["{} 10"],
    );
    at(
        "c_total 10 _ 30",
        "rate(c_total[1m] smoothed)",
        1,
        &["{} 0.166667"],
    );
}

#[test]
fn aggregations_over_time() {
    let samples = "x 1 2 3 4";
    let cases = [
        ("avg_over_time(x[9m])", "2.5"),
        ("min_over_time(x[9m])", "1"),
        ("stddev_over_time(x[9m])", "1.118034"),
        ("stdvar_over_time(x[9m])", "1.25"),
        ("mad_over_time(x[9m])", "1"),
        ("quantile_over_time(0.5, x[9m])", "2.5"),
        ("quantile_over_time(NaN, x[9m])", "NaN"),
        ("ts_of_max_over_time(x[9m])", "180"),
        ("ts_of_first_over_time(x[2m])", "120"),
        ("present_over_time(x[9m])", "1"),
    ];
    for (query, expected) in cases {
        at(samples, query, 3, &[&format!("{{}} {expected}")]);
    }
    at(samples, "first_over_time(x[2m])", 3, &["x{} 3"]);
    at(
        "x 1e308 1e308 1e308",
        "avg_over_time(x[9m]) / 1e308",
        2,
        &["{} 1"],
    );
    at("x 1e100 1 -1e100", "sum_over_time(x[9m])", 2, &["{} 1"]);
    let uneven = "x 5 1 4 NaN 2 3";
    over(uneven, "max_over_time(x[3m])", 0..=5, &["{} 5 5 5 4 4 3"]);
    over(uneven, "min_over_time(x[3m])", 0..=5, &["{} 5 1 1 1 2 2"]);
    over(uneven, "max_over_time(x[1m])", 0..=5, &["{} 5 1 4 NaN 2 3"]);
    over(
        samples,
        "absent_over_time(x{a=\"b\"}[1m])",
        0..=1,
        &["{a=b} 1 1"],
    );
    over(samples, "absent_over_time(x[1m])", 3..=5, &["{} _ 1 1"]);
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
fn classic_histograms() {
    let samples = "h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 20\nh_bucket{le=\"+Inf\"} 20";
    at(
        samples,
        "histogram_quantile(0.75, h_bucket)",
        0,
        &["{} 1.5"],
    );
    at(samples, "histogram_quantile(2, h_bucket)", 0, &["{} inf"]);
    at(
        samples,
        "histogram_quantile(0.5, h_bucket{le=\"1\"})",
        0,
        &["{} NaN"],
    );
    at(
        samples,
        "histogram_fraction(0, 1.5, h_bucket)",
        0,
        &["{} 0.75"],
    );
    at(
        samples,
        "histogram_quantiles(h_bucket, \"q\", 0.5, 1)",
        0,
        &["{q=0.5} 1", "{q=1.0} 2"],
    );
    remarks(
        "h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 4\nh_bucket{le=\"+Inf\"} 20",
        "histogram_quantile(0.9, h_bucket)",
        &[
            "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
           https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"h_bucket\", from \
           buckets 2 to 2, with a max diff of 6, over 1 samples from 1970-01-01T00:04:00Z to 1970-01-01T00:04:00Z (1:25)",
        ],
    );
}

#[test]
fn native_histograms_are_never_turned_into_floats() {
    let samples = "h h1 h5 h5 2";
    over(samples, "h", 0..=3, &["h{} h1 h5 h5 2"]);
    over(samples, "count_over_time(h[9m])", 3..=3, &["{} 4"]);
    over(samples, "changes(h[9m])", 3..=3, &["{} 2"]);
    over(samples, "resets(h[9m])", 3..=3, &["{} 1"]);
    over(samples, "last_over_time(h[9m])", 2..=3, &["h{} h5 2"]);
    over(samples, "histogram_count(h)", 0..=3, &["{} 1 5 5 _"]);
    over(samples, "count(h)", 0..=3, &["{} 1 1 1 1"]);
    over(samples, "abs(h)", 0..=3, &["{} _ _ _ 2"]);
    over(samples, "h * 2", 0..=3, &["{} h2 h10 h10 4"]);
    over(samples, "-h", 0..=3, &["{} h-1 h-5 h-5 -2"]);
    over(samples, "h / 2 > 0.5", 0..=3, &["{} _ _ _ 1"]);
}

#[test]
fn native_histograms_are_computed_with() {
    let samples = "h{i=\"1\"} h1 h4 h2 h8\nh{i=\"2\"} h2 h2 h2 h2\nf{i=\"1\"} 3 3 3 3";
    over(samples, "sum(h)", 0..=3, &["{} h3 h6 h4 h10"]);
    over(samples, "avg(h)", 0..=1, &["{} h1.5 h3"]);
    over(samples, "h + on(i) h", 0..=0, &["{i=1} h2", "{i=2} h4"]);
    over(samples, "h - on(i) h{i=\"1\"}", 1..=1, &["{i=1} h0"]);
    over(samples, "h == h", 0..=0, &["h{i=1} h1", "h{i=2} h2"]);
    over(samples, "h != bool h", 0..=0, &["{i=1} 0", "{i=2} 0"]);
    over(samples, "h * on(i) f", 0..=0, &["{i=1} h3"]);
    over(
        samples,
        "sum_over_time(h{i=\"1\"}[2m])",
        1..=3,
        &["{i=1} h5 h6 h10"],
    );
    over(
        samples,
        "avg_over_time(h{i=\"1\"}[2m])",
        1..=3,
        &["{i=1} h2.5 h3 h5"],
    );
    over(
        samples,
        "increase(h{i=\"1\"}[3m])",
        2..=3,
        &["{i=1} h6 h12"],
    );
    over(
        samples,
        "irate(h{i=\"1\"}[3m]) * 60",
        1..=3,
        &["{i=1} h3 h2 h6"],
    );
    over(samples, "resets(h{i=\"1\"}[4m])", 3..=3, &["{i=1} 1"]);
    over(
        samples,
        "histogram_avg(h) + histogram_count(h)",
        0..=0,
        &["{i=1} 2", "{i=2} 2.5"],
    );
    over(
        samples,
        "count_values(\"v\", h)",
        2..=2,
        &["{v={count:2, sum:1}} 2"],
    );
    over(samples, "h{i=\"1\"} smoothed", 0..=1, &["h{i=1} h1 h4"]);
    over(
        samples,
        "increase(h{i=\"1\"}[1m] anchored)",
        1..=3,
        &["{i=1} h3 h2 h6"],
    );
}

#[test]
fn remarks_on_native_histograms() {
    let check = |samples: &str, query: &str, expected: &str| remarks(samples, query, &[expected]);
    check(
        "h h1 h2 h3 h4 h5",
        "delta(h[3m])",
        "PromQL warning: this native histogram metric is not a gauge: \"h\" (1:7)",
    );
    check(
        "h h1 h2 h3 h4 h5",
        "idelta(h[3m])",
        "PromQL warning: this native histogram metric is not a gauge: \"h\" (1:8)",
    );
    check(
        "h h1 h2 h3 h4 h5",
        "h + 1",
        "PromQL info: incompatible sample types encountered for binary operator \"+\": histogram \
         + float (1:1)",
    );
    check(
        "h h1 h2 h3 h4 h5",
        "h * h",
        "PromQL info: incompatible sample types encountered for binary operator \"*\": histogram \
         * histogram (1:1)",
    );
    check(
        "h h1 h2 h3 h4 h5\ni 1 2 3 4 5",
        "sum({__name__=~\"h|i\"})",
        "PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)",
    );
    check(
        "h h1 h2 h3 h4 h5",
        "max(h)",
        "PromQL info: ignored histogram in max aggregation (1:5)",
    );
    check(
        "h h1 h2 h3 h4 h5\nh{le=\"1\"} 1 1 1 1 1",
        "histogram_quantile(0.5, h)",
        "PromQL warning: vector contains a mix of classic and native histograms for metric name \
         \"h\" (1:25)",
    );
    // Resets are noted where buckets are left out, and contradict each other then.
    check(
        "h h3 h1 h2 h3 h4",
        "histogram_count(sum_over_time(h[5m]))",
        "PromQL warning: conflicting counter resets during histogram aggregation (1:31)",
    );
    remarks("h h3 h1 h2 h3 h4", "sum_over_time(h[5m])", &[]);
    // A subquery has no position of its own.
    check(
        "h 1 2 3 4 h5",
        "sum_over_time(h[5m:1m])",
        "PromQL warning: encountered a mix of histograms and floats for metric name \"h\" (1:1)",
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

#[test]
fn the_deepest_expression_fits_a_thread() {
    let nest = |open: &str, close: &str, depth: usize| {
        format!("{}x{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [
        ("-", ""),
        ("abs(", ")"),
        ("sum(", ")"),
        ("1 + (", ")"),
        ("(x and ", ")"),
        ("max_over_time(", "[1m:1m])"),
    ] {
        let deepest = (1..2000)
            .rev()
            .map(|depth| nest(open, close, depth))
            .find(|query| parse(query).is_ok())
            .unwrap();
        // Threads of a server have 2 MiB.
        let samples = source("x 1");
        let work = move || {
            run(
                &samples,
                &deepest,
                QueryParams::instant(0),
                &EngineOptions::default(),
            )
            .map(|_| ())
        };
        let result = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(work)
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(result, Ok(()), "{open}");
    }
}

#[test]
fn limits_hold() {
    let samples = source("x{a=\"1\"} 0+1x200\nx{a=\"2\"} 0+1x200");
    let params = QueryParams::range(0, 200 * MINUTE, MINUTE);
    let few = EngineOptions {
        max_samples: 500,
        ..EngineOptions::default()
    };
    assert_eq!(
        run(&samples, "x", params, &few).map(|_| ()),
        Err(QueryError::TooManySamples(500))
    );
    assert!(run(&samples, "x{a=\"1\"}", params, &few).is_ok());
    let slow = EngineOptions {
        timeout: Duration::ZERO,
        ..EngineOptions::default()
    };
    assert_eq!(
        run(&samples, "x", params, &slow).map(|_| ()),
        Err(QueryError::Timeout)
    );
    let narrow = EngineOptions {
        max_series: 1,
        ..EngineOptions::default()
    };
    assert_eq!(
        run(&samples, "x", params, &narrow).map(|_| ()),
        Err(QueryError::Source(SourceError::LimitExceeded(
            "2 series".to_owned()
        )))
    );
    assert!(matches!(
        run(&samples, "x[5m]", params, &few),
        Err(QueryError::BadData(_))
    ));
}

#[test]
fn a_histogram_counts_as_many_samples() {
    let samples = source("h h1 h5 h5 2");
    let params = QueryParams::range(0, 3 * MINUTE, MINUTE);
    let options = EngineOptions {
        max_samples: 20,
        count_samples: true,
        ..EngineOptions::default()
    };
    assert_eq!(
        run(&samples, "h", params, &options).map(|_| ()),
        Err(QueryError::TooManySamples(20))
    );
    let options = EngineOptions {
        max_samples: 200,
        ..options
    };
    let counted = |query: &str| {
        run(&samples, query, params, &options)
            .unwrap()
            .stats
            .samples_per_step
    };
    assert_eq!(counted("h"), [11, 11, 11, 1]);
    assert_eq!(counted("count_over_time(h[2m])"), [11, 22, 22, 12]);
}

/// A source with a defect.
struct Broken;

#[async_trait]
impl SampleSource for Broken {
    async fn select(&self, _: SelectRequest) -> Result<SeriesStream, SourceError> {
        panic!("provoked by a test")
    }
}

#[test]
fn a_panic_is_a_defect_and_no_fault_of_the_query() {
    let options = EngineOptions::default();
    let result = run(
        &Arc::new(Broken),
        "sum(x)",
        QueryParams::instant(0),
        &options,
    );
    assert!(matches!(result, Err(QueryError::Panicked(_))), "{result:?}");
}
