//! What bounds a query, and what a defect becomes.

use super::*;

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
    async fn select(&self, _: SelectRequest) -> Result<SelectedSeries, SourceError> {
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
