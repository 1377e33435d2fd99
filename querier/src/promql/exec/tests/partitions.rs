//! Answers do not depend on how the series of an aggregation are cut into ranges.

use proptest::prelude::*;
use tidelake_catalog::model::Labels;

use super::*;

/// A series for each value, with this value at some steps.
fn source_of(values: &[f64]) -> Arc<MemorySource> {
    let mut source = MemorySource::default();
    for (i, value) in values.iter().enumerate() {
        let labels = Labels::from_pairs([
            ("__name__", "x".to_owned()),
            ("instance", format!("{i}")),
            ("job", format!("{}", i % 3)),
        ]);
        for step in (0..4).filter(|step| i % (step + 2) != 0) {
            let time = step as i64 * MINUTE;
            source.insert(&labels, time, Sample::Float(value * (step + 1) as f64));
        }
        if i % 97 == 0 {
            let histogram = Arc::new(Histogram {
                count: 2.0,
                sum: *value,
                ..Histogram::default()
            });
            source.insert(&labels, 5 * MINUTE, Sample::Histogram(histogram));
        }
    }
    Arc::new(source)
}

/// The bits of an answer, and what was remarked on it.
fn bits(source: &Arc<MemorySource>, query: &str, partitions: usize) -> Vec<String> {
    let params = QueryParams::range(0, 5 * MINUTE, MINUTE);
    let options = EngineOptions {
        partitions,
        ..EngineOptions::default()
    };
    let output = run(source, query, params, &options).unwrap();
    let Value::Vector(rows) = output.value else {
        panic!("{query} is no vector")
    };
    let row = |row: SeriesRow| {
        let bits: Vec<u64> = row.values.iter().map(|value| value.to_bits()).collect();
        format!("{} {bits:?} {:?}", row.labels, row.histograms)
    };
    let remarks = output.annotations;
    let remarks = remarks.warnings.into_iter().chain(remarks.infos);
    rows.into_iter().map(row).chain(remarks).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn partitions_do_not_change_a_bit(
        values in proptest::collection::vec(
            prop_oneof![
                8 => -1e3f64..1e3,
                2 => -1e18f64..1e18,
                1 => Just(0.1),
                1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1e308)],
            ],
            300..500,
        ),
    ) {
        let source = source_of(&values);
        for query in [
            "sum(x)", "sum by (job) (x)", "avg(x)", "avg without (instance) (-x * 3)",
            "stddev(x)", "stdvar by (job) (x)", "min(x)", "max by (job) (x)",
            "count by (job) (x > 0)", "group(x)", "sum(sum_over_time(x[3m]))",
            "sum by (instance) (x)",
        ] {
            let one = bits(&source, query, 1);
            for partitions in [2, 3, 8] {
                prop_assert_eq!(&bits(&source, query, partitions), &one, "{}", query);
            }
        }
    }
}

/// Blocks are met in the middle of partitions: otherwise the test above would not show much.
#[test]
fn sums_of_blocks_are_sums() {
    let values: Vec<f64> = (0..900).map(f64::from).collect();
    let source = source_of(&values);
    let options = EngineOptions {
        partitions: 3,
        ..EngineOptions::default()
    };
    let params = QueryParams::instant(MINUTE);
    let get = |query: &str| render(run(&source, query, params, &options).unwrap().value);
    // At the second step are those that three does not divide, doubled, and of the first step,
    // within the lookback, the odd ones of the others.
    let expected: f64 = (0..900u32)
        .map(|i| match (i % 3 == 0, i % 2 == 0) {
            (false, _) => f64::from(2 * i),
            (true, false) => f64::from(i),
            (true, true) => 0.0,
        })
        .sum();
    assert_eq!(get("sum(x)"), [format!("{{}} {expected}")]);
    let mean = get("avg(x) * count(x) - sum(x)");
    assert_eq!(mean, ["{} 0"]);
    let variance = get("stdvar(x) - (avg(x ^ 2) - avg(x) ^ 2)");
    assert_eq!(variance, ["{} 0"]);
}

/// Long ranges over many series are evaluated some steps after the others where all rows are
/// wanted, with the same answer.
#[test]
fn divided_steps_do_not_change_the_answer() {
    let values: Vec<f64> = (0..60).map(|i| f64::from(i * 7 % 31)).collect();
    let source = source_of(&values);
    let options = EngineOptions::default();
    let get = |query: &str, undivided: usize| {
        let options = EngineOptions {
            undivided_values: undivided,
            count_samples: true,
            ..options.clone()
        };
        let params = QueryParams::range(0, 10 * MINUTE, 10_000);
        let output = run(&source, query, params, &options).unwrap();
        let (steps, remarks) = (output.stats.samples_per_step, output.annotations);
        (render(output.value), steps, remarks)
    };
    for query in [
        "quantile by (job) (0.3, x)",
        "topk(3, x)",
        "bottomk by (job) (scalar(count(x) or vector(20)) / 20, x + 1)",
        "count_values(\"v\", x)",
        "limitk(2, x)",
        "sum(x / on (instance) x)",
        "quantile(0.5, max_over_time(x[2m:20s]))",
        "topk(1, x) + on () group_left () sum(x @ 60)",
        "quantile(2, x)",
    ] {
        let whole = get(query, usize::MAX);
        for undivided in [1, 100, 1000] {
            assert_eq!(get(query, undivided), whole, "{query} {undivided}");
        }
    }
}
