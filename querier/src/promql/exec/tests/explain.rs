//! The operators of queries, and what they did.

use tokio::time::Instant;

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

#[track_caller]
fn plan(query: &str, expected: &str) {
    let params = QueryParams::range(0, 10 * MINUTE, MINUTE);
    let explained = explain(&parse(query).unwrap(), params, &EngineOptions::default()).unwrap();
    let lines: Vec<&str> = expected
        .lines()
        .map(|line| line.trim_start_matches('|'))
        .collect();
    assert_eq!(explained.text.lines().collect::<Vec<_>>(), lines, "{query}");
}

#[test]
fn a_plan_is_a_tree_of_operators() {
    plan(
        "sum by (job, a) (rate(x_total{job=~\"a.*\"}[5m] offset 90s)) / on (job) group_left (b) \
         max without (c) (y)",
        "PromFinishExec: start=0.000, end=600.000, step=60, steps=11
|  PromBinaryExec: / on (job) group_left (b)
|    PromAggregateExec: mode=Final, sum by (job, a)
|      PromAggregateExec: mode=Partial, sum by (job, a)
|        PromSelectExec: rate(x_total{job=~\"a.*\"}[5m] offset 90s)
|    PromAggregateExec: mode=Final, max without (c)
|      PromAggregateExec: mode=Partial, max without (c)
|        PromSelectExec: y",
    );
    plan(
        "topk(2, -abs(x) * 8) > bool 1 + scalar(y @ 60)",
        "PromFinishExec: start=0.000, end=600.000, step=60, steps=11
|  PromMapExec: > bool ...
|    PromAggregateExec: mode=Single, topk(2)
|      PromMapExec: abs, -, * 8
|        PromSelectExec: x
|    PromRepeatExec: evaluated once for all steps
|      PromBinaryExec: 1 + ...
|        PromScalarExec
|          PromSelectExec: y @ 60.000",
    );
    plan(
        "quantile_over_time(0.5, abs({__name__=~\"a|b\",c!=\"\"})[1h:30s]) or vector(time())",
        "PromFinishExec: start=0.000, end=600.000, step=60, steps=11
|  PromBinaryExec: or
|    PromRangeExec: quantile_over_time(0.5)
|      PromSubqueryExec: [1h:30s]
|        PromMapExec: abs
|          PromSelectExec: {__name__=~\"a|b\", c!=\"\"}
|    PromVectorExec: vector()
|      PromTimeExec",
    );
}

fn analyze(samples: &str, query: &str, params: QueryParams) -> Explained {
    let source: Arc<dyn SampleSource> = source(samples);
    let expr = parse(query).unwrap();
    block_on(explain_analyze(
        &expr,
        query,
        params,
        source,
        &EngineOptions::default(),
    ))
    .unwrap()
}

fn find<'a>(operator: &'a Operator, name: &str) -> &'a Operator {
    fn search<'a>(operator: &'a Operator, name: &str) -> Option<&'a Operator> {
        if format!("{}: {}", operator.operator, operator.detail) == name {
            Some(operator)
        } else {
            operator
                .children
                .iter()
                .find_map(|child| search(child, name))
        }
    }
    search(operator, name).unwrap()
}

#[test]
fn an_analysis_says_what_each_operator_did() {
    let samples = "x{a=\"1\"} 0+1x20\nx{a=\"2\"} 0+1x20\nx{a=\"3\"} _ _ _ _ 4\ny 0+1x20";
    let params = QueryParams::range(5 * MINUTE, 9 * MINUTE, MINUTE);
    let explained = analyze(samples, "sum(rate(x[3m])) + quantile(2, y)", params);
    let plan = &explained.plan;
    let size = |operator: &str| {
        find(plan, operator)
            .measured
            .map(|m| (m.rows, m.values))
            .unwrap()
    };
    assert_eq!(
        (
            size("PromSelectExec: rate(x[3m])"),
            size("PromAggregateExec: mode=Single, quantile(2)"),
            size("PromSelectExec: y"),
            size("PromBinaryExec: +")
        ),
        ((2, 10), (1, 5), (1, 5), (1, 5))
    );
    let read = |operator: &str| {
        find(plan, operator)
            .read
            .map(|r| (r.series, r.samples, r.batches))
            .unwrap()
    };
    // The third series has one sample, of which no rate can be computed.
    assert_eq!(read("PromSelectExec: rate(x[3m])"), (3, 7 + 7 + 1, 3));
    assert_eq!(read("PromSelectExec: y"), (1, 9, 1));
    let own: f64 = {
        fn sum(operator: &Operator) -> f64 {
            operator.measured.map_or(0.0, |m| m.own_ms)
                + operator.children.iter().map(sum).sum::<f64>()
        }
        sum(plan)
    };
    let total = plan.measured.unwrap().total_ms;
    assert!(
        own <= total * 2.0 + 1.0,
        "operands run side by side, at most two at a time: {own} {total}"
    );
    assert!(explained.annotations.warnings[0].contains("quantile value should be between 0 and 1"));
    let text = &explained.text;
    let line = text
        .lines()
        .find(|line| line.contains("rate(x[3m])"))
        .unwrap();
    for figure in [
        "output_series=2",
        "series=3",
        "samples=15",
        "batches=3",
        "compute_time=",
    ] {
        assert!(line.contains(figure), "{figure}: {text}");
    }
}

#[test]
fn the_deepest_expression_can_be_analyzed() {
    for (open, close) in [
        ("sum(", ")"),
        ("quantile(0.5, ", ")"),
        ("y + (", ")"),
        ("max_over_time(", "[1m:1m])"),
    ] {
        let nest = |depth: usize| format!("{}x{}", open.repeat(depth), close.repeat(depth));
        let deepest = (1..2000)
            .rev()
            .map(nest)
            .find(|query| parse(query).is_ok())
            .unwrap();
        let work = move || {
            analyze("x 1", &deepest, QueryParams::instant(0))
                .text
                .lines()
                .count()
        };
        let lines = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(work)
            .unwrap()
            .join()
            .unwrap();
        assert!(lines > 60, "{open} {lines}");
    }
}

#[test]
fn work_stops_when_nobody_waits_for_it() {
    let samples: String = (0..20)
        .map(|i| format!("x{{i=\"{i}\"}} 0+1x2000\n"))
        .collect();
    let source: Arc<dyn SampleSource> = source(&samples);
    // Each step sorts a window of two thousand samples: minutes in all.
    let params = QueryParams::range(2000 * MINUTE, 2000 * MINUTE + 20_000_000, 1000);
    let query = "quantile_over_time(0.5, x[2000m])";
    let expr = parse(query).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = EngineOptions::default();
        let query = evaluate(&expr, query, params, source, &options);
        assert!(
            tokio::time::timeout(Duration::from_millis(300), query)
                .await
                .is_err(),
            "it ended too early to be a test"
        );
        let handle = tokio::runtime::Handle::current();
        let begun = Instant::now();
        while handle.metrics().num_alive_tasks() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "its tasks go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn names_go_early_without_experiments() {
    let early = EngineOptions {
        experimental: false,
        ..EngineOptions::default()
    };
    let get = |query: &str, options: &EngineOptions| {
        run(
            &source("x_total 0+60x9\ny_total 0+60x9"),
            query,
            QueryParams::instant(5 * MINUTE),
            options,
        )
        .map(|output| render(output.value))
    };
    let named = "label_replace(rate(x_total[5m]), \"m\", \"$1\", \"__name__\", \"(.+)\")";
    assert_eq!(
        get(named, &EngineOptions::default()).unwrap(),
        ["{m=x_total} 1"]
    );
    assert_eq!(get(named, &early).unwrap(), ["{} 1"]);
    let both =
        "label_replace(rate({__name__=~\"._total\"}[5m]), \"m\", \"$1\", \"__name__\", \"(.+)\")";
    assert_eq!(
        get(both, &EngineOptions::default()).unwrap(),
        ["{m=x_total} 1", "{m=y_total} 1"]
    );
    let repeated =
        QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned());
    assert_eq!(get(both, &early).unwrap_err(), repeated);
}
