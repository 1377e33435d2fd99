//! Functions over windows of samples.

use super::*;

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
