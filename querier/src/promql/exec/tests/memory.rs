//! What queries hold: they fail when it is too much, and give everything back.

use std::fmt::Write as _;

use async_trait::async_trait;
use futures::StreamExt;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_catalog::model::Labels;

use super::*;
use crate::memory::QueryPool;
use crate::promql::source::{SelectRequest, SeriesBatch, SeriesSamples};

/// Evaluates a query in a pool.
fn run_over(
    pool: &Arc<QueryPool>,
    source: Arc<dyn SampleSource>,
    query: &str,
    params: QueryParams,
) -> Result<QueryOutput, QueryError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let expr = parse(query).map_err(|error| QueryError::BadData(error.to_string()))?;
    let options = EngineOptions {
        max_samples: u64::MAX,
        count_samples: true,
        ..EngineOptions::default()
    };
    // Tasks that are left over end with the runtime.
    let planned = Query::new(&expr, params, &options)?;
    runtime.block_on(planned.run(query, source, &options, Arc::clone(pool), false))
}

fn run_in(
    pool: &Arc<QueryPool>,
    source: &Arc<MemorySource>,
    query: &str,
    params: QueryParams,
) -> Result<QueryOutput, QueryError> {
    run_over(pool, source.clone(), query, params)
}

/// Evaluates a query that may hold so many bytes; everything is given back at the end.
fn run_within(
    max_bytes: usize,
    source: &Arc<MemorySource>,
    query: &str,
    params: QueryParams,
) -> Result<Vec<String>, QueryError> {
    let budget = MemoryBudget::unlimited();
    let pool = QueryMemory::new(Arc::clone(&budget), max_bytes).pool();
    let output = run_in(&pool, source, query, params);
    if let Ok(output) = &output {
        assert_eq!(pool.used(), output.held.bytes(), "{query}");
    }
    let result = output.map(|output| render(output.value));
    assert_eq!((pool.used(), budget.used()), (0, 0), "{query}");
    result
}

/// A query is refused by a limit of a megabyte.
fn bomb(query: &str, params: QueryParams) {
    let text = "x{i=\"1\"} 1+1x9\nx{i=\"2\"} 2+1x9\nh 5 h5 h6";
    let error = run_within(1_000_000, &source(text), query, params).unwrap_err();
    let shown = query.get(..200).unwrap_or(query);
    assert!(matches!(error, QueryError::Memory(_)), "{shown}: {error}");
    let text = error.to_string();
    assert!(text.contains("max_query_memory_bytes"), "{shown}: {text}");
}

/// A call around another, many times.
fn nested(times: usize, innermost: &str, before: &str, after: &str) -> String {
    format!("{}{innermost}{}", before.repeat(times), after.repeat(times))
}

const NOW: QueryParams = QueryParams {
    start_ms: 540_000,
    end_ms: 540_000,
    step_ms: 0,
    lookback_delta_ms: None,
};

#[test]
fn labels_that_grow_are_refused_before_they_are_made() {
    let long = "label_replace(vector(1), \"a\", \"xxxxxxxxxxxxxxxx\", \"\", \"\")";
    let join = nested(20, long, "label_join(", ", \"a\", \"\", \"a\", \"a\")");
    assert!(join.len() < 1000);
    bomb(&join, NOW);
    let many = ", \"a\"".repeat(30);
    let join = nested(20, long, "label_join(", &format!(", \"a\", \"\"{many})"));
    bomb(&join, NOW);
    let doubled = ", \"a\", \"$1$1\", \"a\", \"(.*)\")";
    bomb(&nested(40, long, "label_replace(", doubled), NOW);
    let hundredfold = format!(", \"a\", \"{}\", \"a\", \"(.*)\")", "$1".repeat(100));
    bomb(&nested(12, long, "label_replace(", &hundredfold), NOW);
    // The name of a metric, which annotations quote.
    let name = nested(
        30,
        "label_replace(vector(1), \"__name__\", \"xxxxxxxxxxxxxxxx\", \"\", \"\")",
        "label_join(",
        ", \"__name__\", \"\", \"__name__\", \"__name__\")",
    );
    bomb(&format!("histogram_quantile(0.5, {name})"), NOW);
}

#[test]
fn many_steps_are_refused_before_they_are_allocated() {
    for query in [
        "vector(1)[1y:1s]",
        "vector(1)[1y:1ms]",
        "max_over_time(vector(1)[1y:1s])",
        "max_over_time(vector(time())[1y:1s])",
        "sum_over_time(sum_over_time(vector(1)[1d:1s])[1y:1s])",
        "max_over_time(absent(nothing)[1y:1s])",
        "max_over_time(absent_over_time(nothing[1m])[1y:1s])",
        "max_over_time(hour()[1y:1s])",
        "max_over_time((x @ 100)[1y:1s])",
        "max_over_time((h @ 100)[1y:1s])",
        "max_over_time(vector(scalar(x))[1y:1s])",
        "max_over_time(vector(pi())[1y:1s])",
        "max_over_time(count_values(\"v\", vector(time()))[1h:1s])",
        "max_over_time(histogram_quantiles(vector(1), \"q\", time())[1y:1s])",
        "quantile_over_time(time(), vector(1)[1y:1s])",
        "predict_linear(vector(1)[1y:1s], 5)",
        "double_exponential_smoothing(vector(1)[1y:1s], 0.5, 0.5)",
        "vector(1)[1y:1s] offset 1d",
        "vector(1)[1y:1s] @ 1000",
        "x[1y:1s]",
        "limitk(1, x)[1y:1s]",
        "limit_ratio(0.5, x)[1y:1s]",
        "topk(1, x)[1y:1s]",
        "quantile(0.5, x)[1y:1s]",
        "(x and x)[1y:1s]",
        "(x * on (i) group_left x)[1y:1s]",
        "info(x)[1y:1s]",
    ] {
        bomb(query, NOW);
    }
    bomb("1", QueryParams::range(0, 100_000_000, 1));
}

#[test]
fn patterns_are_bounded_together() {
    let large = "[ab]{1000}".repeat(30);
    let selectors = vec![format!("{{a=~\"{large}\"}}"); 70].join(" or ");
    let error = parse(&selectors).unwrap_err().to_string();
    assert!(error.contains("take more than"), "{error}");
    let calls = (0..50)
        .map(|_| format!("label_replace(x, \"a\", \"b\", \"c\", \"{large}\")"))
        .collect::<Vec<_>>()
        .join(" or ");
    let source = source("x 1");
    let error = run_in(&QueryMemory::unlimited().pool(), &source, &calls, NOW).unwrap_err();
    assert!(error.to_string().contains("take more than"), "{error}");
    // They count as a part of the plan.
    bomb(&format!("{{a=~\"{large}\"}}"), NOW);
}

/// Whatever a query may hold: either it is enough, or the query says that it is not.
#[test]
fn queries_fail_cleanly_wherever_memory_ends() {
    let mut text = String::new();
    for i in 0..20 {
        let _ = writeln!(text, "x{{i=\"{i}\", g=\"{}\"}} {i}+1x30", i % 4);
        let _ = writeln!(text, "y{{i=\"{i}\"}} {i}+2x30");
        let _ = writeln!(text, "b{{le=\"{i}\"}} {i}+2x30");
    }
    text.push_str("b{le=\"+Inf\"} 100+2x30\n");
    text.push_str("target_info{instance=\"a\", job=\"j\", version=\"1\"} 1+0x30\n");
    text.push_str("z{instance=\"a\", job=\"j\"} 1+0x30\n");
    let _ = writeln!(text, "h{{i=\"1\"}} {}", "h5 h6 h7 ".repeat(10));
    let _ = writeln!(text, "h{{i=\"2\"}} {}", "h1 h2 h3 ".repeat(10));
    let source = source(&text);
    let params = QueryParams::range(60_000, 1_800_000, 2_000);
    for query in [
        "x",
        "-x",
        "x + 1",
        "x + time()",
        "x - on (i) y",
        "x - ignoring (g) group_left y",
        "x and y",
        "x or y",
        "x unless on (i) y",
        "sum by (g) (x)",
        "avg (x)",
        "stddev by (g) (x)",
        "count_values by (g) (\"v\", x)",
        "quantile by (g) (0.5, x)",
        "topk by (g) (2, x)",
        "limitk (5, x)",
        "limit_ratio (0.5, x)",
        "rate(x[5m])",
        "quantile_over_time(0.5, x[5m])",
        "avg_over_time(rate(x[2m])[5m:10s])",
        "label_replace(x, \"d\", \"a-$1\", \"i\", \"(.*)\")",
        "label_join(x, \"d\", \"-\", \"i\", \"g\")",
        "sort_by_label(x, \"g\")",
        "clamp(x, 1, 5)",
        "round(x, 2)",
        "timestamp(x)",
        "scalar(x) + 1",
        "absent(x)",
        "absent_over_time(x[1m])",
        "histogram_quantile(0.9, b)",
        "histogram_quantiles(b, \"q\", 0.5, 0.9)",
        "histogram_fraction(0, 5, b)",
        "histogram_count(h)",
        "sum(h)",
        "avg(h)",
        "h + h",
        "h * 2",
        "-h",
        "rate(h[5m])",
        "sum_over_time(h[5m])",
        "count_values(\"v\", h)",
        "info(z)",
        "x @ 100",
        "predict_linear(x[5m], 60)",
    ] {
        let expected = run_within(usize::MAX, &source, query, params).unwrap();
        let mut max_bytes: usize = 6_000;
        let mut refused = 0;
        loop {
            match run_within(max_bytes, &source, query, params) {
                Ok(answer) => {
                    assert!(answer == expected, "{query} in {max_bytes} bytes");
                    break;
                }
                Err(QueryError::Memory(_)) => refused += 1,
                Err(error) => panic!("{query} in {max_bytes} bytes: {error}"),
            }
            max_bytes += max_bytes / 3;
            assert!(max_bytes < 100_000_000, "{query}");
        }
        assert!(refused > 0, "{query}");
    }
}

/// Many series, made when they are asked for, a thousand a batch.
struct Many {
    series: usize,
    /// Of each series, a minute apart.
    samples: i64,
}

#[async_trait]
impl SampleSource for Many {
    async fn select(&self, request: SelectRequest) -> Result<SelectedSeries, SourceError> {
        let (series, samples) = (self.series, self.samples);
        let one = move |i: usize| SeriesSamples {
            labels: Labels::from_pairs([
                ("__name__", "x".to_owned()),
                ("instance", format!("some-instance-of-some-length-{i}")),
                ("job", "some-job".to_owned()),
            ]),
            times: (0..samples).map(|at| at * MINUTE).collect(),
            values: vec![i as f64; samples as usize].into(),
            ..SeriesSamples::default()
        };
        let batches = (0..series).step_by(1000).map(move |first| {
            let batch = (first..series.min(first + 1000)).map(one).collect();
            Ok(SeriesBatch::counted(batch, &request.pool)?)
        });
        Ok(SelectedSeries {
            series,
            rows: 0,
            batches: series.div_ceil(1000),
            stream: futures::stream::iter(batches).boxed(),
            parts: None,
        })
    }
}

/// Kilobytes of a line of the process' status.
fn status_kb(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const ALONE: &str = "TIDELAKE_TEST_ALONE";

/// Queries of at least 100 MB each hold about what is counted, at their peak. Each is evaluated in
/// a process of its own, in which nothing else allocates.
#[test]
#[cfg(target_os = "linux")]
fn what_is_counted_is_what_is_held() {
    let wide: fn() -> (Arc<dyn SampleSource>, QueryParams) = || {
        (
            Arc::new(Many {
                series: 250_000,
                samples: 1,
            }),
            QueryParams::instant(0),
        )
    };
    let long: fn() -> (Arc<dyn SampleSource>, QueryParams) = || {
        (
            Arc::new(Many {
                series: 100,
                samples: 1,
            }),
            QueryParams::range(0, 299_000, 2),
        )
    };
    let one: fn() -> (Arc<dyn SampleSource>, QueryParams) =
        || (Arc::new(MemorySource::default()), QueryParams::instant(0));
    let cases = [
        ("vector(1)[60d:1s]", one),
        ("stddev by (instance) (x)", long),
        (
            "label_join(x, \"copy\", \"-\", \"instance\", \"job\")",
            wide,
        ),
        ("sum by (instance) (x)", wide),
        ("x + on (instance) x", wide),
    ];
    let Ok(number) = std::env::var(ALONE) else {
        for (number, (query, _)) in cases.iter().enumerate() {
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let path = module_path!().split_once("::").unwrap().1;
            let name = format!("{path}::what_is_counted_is_what_is_held");
            let done = alone
                .args(["--exact", &name, "--nocapture"])
                .env(ALONE, number.to_string())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&done.stdout);
            assert!(
                done.status.success() && text.contains("1 passed"),
                "{query}: {text} {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        return;
    };
    let (query, make) = cases[number.parse::<usize>().unwrap()];
    let (source, params) = make();
    let budget = MemoryBudget::unlimited();
    let pool = QueryMemory::new(Arc::clone(&budget), usize::MAX).pool();
    let (before, code_before) = (status_kb("VmRSS"), status_kb("RssFile"));
    let output = run_over(&pool, source, query, params).unwrap();
    let peak = budget.state(Share::Queries).peak / 1024;
    // Pages of code that were loaded meanwhile are not held by the query.
    let code = status_kb("RssFile") - code_before;
    let real = status_kb("VmHWM") - before - code;
    assert!(real > 50_000, "{query}: {real}");
    assert!(peak >= real * 7 / 10, "{query}: {peak} {real}");
    assert!(peak <= real * 16 / 10, "{query}: {peak} {real}");
    drop(output);
    assert_eq!((pool.used(), budget.used()), (0, 0));
}
