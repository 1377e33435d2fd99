//! The answer to a range query as JSON.
//!
//! `cargo bench -p tidelake`; criterion's "elem" is a sample.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidelake_api::node::backend::Steps;
use tidelake_api::prometheus::answer::encoded;
use tidelake_catalog::model::Labels;
use tidelake_querier::memory::QueryMemory;
use tidelake_querier::promql::exec::{Annotations, QueryOutput, QueryStats, SeriesRow, Value};

const SERIES: usize = 100;
const STEPS: usize = 240;

fn output(value: impl Fn(usize, usize) -> f64) -> QueryOutput {
    let series = |i: usize| SeriesRow {
        labels: Labels::from_pairs([
            ("__name__", "node_cpu_seconds_total".to_owned()),
            ("instance", format!("host-{i:05}:9100")),
            ("job", "node".to_owned()),
        ]),
        values: (0..STEPS).map(|step| value(i, step)).collect(),
        histograms: None,
    };
    let held = QueryMemory::unlimited().pool().try_hold(0);
    QueryOutput {
        value: Value::Vector((0..SERIES).map(series).collect()),
        annotations: Annotations::default(),
        stats: QueryStats {
            preparation: Duration::ZERO,
            ..QueryStats::default()
        },
        held: held.unwrap_or_else(|error| panic!("{error}")),
    }
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements((SERIES * STEPS) as u64));
    let steps = Steps {
        start_ms: 1_700_000_000_000,
        end_ms: 1_700_000_000_000 + 15_000 * (STEPS as i64 - 1),
        step_ms: 15_000,
    };
    let values: [(&str, fn(usize, usize) -> f64); 3] = [
        ("integers", |i, step| (i * 1000 + step) as f64),
        ("two digits", |i, step| (i * 1000 + step) as f64 / 100.0),
        ("all digits", |i, step| 1.0 / (i * 1000 + step + 1) as f64),
    ];
    for (name, value) in values {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let make = || output(value);
            let encode = |output| black_box(encoded(output, steps));
            bencher.iter_batched(make, encode, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, answers);
criterion_main!(benches);
