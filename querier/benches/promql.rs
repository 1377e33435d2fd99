//! PromQL over samples in memory: what operators cost beside reading.
//!
//! `cargo bench -p tidelake-querier`; criterion's "elem" is a value of the selector at a step.

use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt;
use tidelake_catalog::model::{Labels, Matcher};
use tidelake_querier::promql::exec::{EngineOptions, QueryParams, evaluate};
use tidelake_querier::promql::parse::parse;
use tidelake_querier::promql::source::{
    SampleSource, SelectRequest, SelectedSeries, SeriesBatch, SeriesSamples, SourceError,
};
use tokio::runtime::Runtime;

const SERIES: usize = 2000;
/// A sample each 15 seconds for an hour.
const SAMPLES: i64 = 240;
const STEPS: i64 = 60;

/// Series of `x` and `y`, in batches of a thousand.
struct Samples(Vec<SeriesSamples>);

impl Samples {
    fn new() -> Self {
        let one = |name: &'static str| {
            (0..SERIES).map(move |i| SeriesSamples {
                labels: Labels::from_pairs([
                    ("__name__", name.to_owned()),
                    ("instance", format!("host-{i:05}")),
                    ("job", format!("job-{}", i % 20)),
                ]),
                times: (0..SAMPLES).map(|at| at * 15_000).collect(),
                values: (0..SAMPLES)
                    .map(|at| (at * 7 + i as i64 % 100) as f64)
                    .collect(),
                ..SeriesSamples::default()
            })
        };
        Self(one("x").chain(one("y")).collect())
    }
}

#[async_trait]
impl SampleSource for Samples {
    async fn select(&self, request: SelectRequest) -> Result<SelectedSeries, SourceError> {
        let matches = |labels: &Labels| {
            let matches = |matcher: &Matcher| matcher.matches_labels(labels);
            request.matchers.iter().all(matches)
        };
        let selected = self.0.iter().filter(|series| matches(&series.labels));
        let selected: Vec<_> = selected.cloned().collect();
        let series = selected.len();
        let batch =
            |series: &[SeriesSamples]| Ok(SeriesBatch::counted(series.to_vec(), &request.pool)?);
        let batches: Vec<_> = selected.chunks(1000).map(batch).collect();
        Ok(SelectedSeries {
            series,
            rows: 0,
            batches: batches.len(),
            stream: futures::stream::iter(batches).boxed(),
            parts: None,
        })
    }
}

fn operators(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap_or_else(|error| panic!("no threads: {error}"));
    let source: Arc<dyn SampleSource> = Arc::new(Samples::new());
    let options = EngineOptions::default();
    let params = QueryParams::range(300_000, 300_000 + (STEPS - 1) * 55_000, 55_000);
    let mut group = criterion.benchmark_group("promql");
    group.throughput(Throughput::Elements(SERIES as u64 * STEPS as u64));
    for (name, query) in [
        ("select", "x"),
        ("range function", "rate(x[5m])"),
        ("aggregation", "sum by (job) (rate(x[5m]))"),
        ("quantile", "quantile by (job) (0.9, x)"),
        ("topk", "topk(5, x)"),
        ("map", "abs(x) * 8 > 100"),
        ("binary matching", "x / on (instance) y"),
        ("small", "x{instance=\"host-00042\"}"),
    ] {
        let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let source = Arc::clone(&source);
                let work = evaluate(&expr, query, params, source, &options);
                let output = runtime.block_on(work);
                black_box(output.unwrap_or_else(|error| panic!("{query}: {error}")))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, operators);
criterion_main!(benches);
