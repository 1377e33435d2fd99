//! Classic and native histograms.

use super::*;

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
