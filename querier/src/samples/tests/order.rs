//! The order of series, and the parts that they are cut into.

use super::*;

/// Several series of a metrics table and of two wide tables, not in the order of their labels.
fn rows() -> Vec<(&'static str, Vec<Row>)> {
    let mut metrics = Vec::new();
    let (mut cpu, mut disk) = (Vec::new(), Vec::new());
    for (number, host) in ["d", "a", "c", "b", "e"].into_iter().enumerate() {
        for time in [10, 20] {
            let value = number as f64;
            metrics.push(sample(&format!("up job={host} instance=x"), time, value));
            metrics.push(sample(&format!("go instance={host} job=y"), time, value));
            let fields = [("usage", Float(value)), ("idle", Float(1.0))];
            let series = format!("host={host} zone={}", number % 2);
            cpu.push(row(&series, time * MS, &fields));
            disk.push(row(&series, time * MS, &[("free", Integer(number as i64))]));
        }
    }
    vec![(METRICS_TABLE, metrics), ("cpu", cpu), ("disk", disk)]
}

/// The rows in one segment of each table.
async fn together() -> TestTables {
    let test = TestTables::new().await;
    for (table, rows) in rows() {
        test.flush(table, &rows).await;
    }
    test
}

/// The rows in a segment each, the last first, and every third in memory.
async fn apart() -> TestTables {
    let test = TestTables::new().await;
    for (table, rows) in rows() {
        for (number, row) in rows.into_iter().enumerate().rev() {
            match number % 3 {
                0 => test.buffer(table, &[row]).await,
                _ => drop(test.flush(table, &[row]).await),
            }
        }
    }
    test
}

const ANY: &str = r#"{__name__=~".+"}"#;

async fn selected(test: &TestTables, request: SelectRequest) -> Vec<String> {
    let series = select(test, request).await.unwrap();
    series.iter().map(text).collect()
}

#[tokio::test]
async fn the_order_of_series_does_not_depend_on_segments() {
    let (together, apart) = (together().await, apart().await);
    for selector in [ANY, "up", r#"{host=~"a|d|e"}"#] {
        let expected = selected(&together, request(selector)).await;
        assert_eq!(selected(&apart, request(selector)).await, expected);
    }
    let expected = selected(&together, request("up")).await;
    let hosts = [("a", 1), ("b", 3), ("c", 2), ("d", 0), ("e", 4)];
    let expected_hosts = hosts.map(|(host, n)| format!("up instance=x job={host}: {n}@10 {n}@20"));
    assert_eq!(expected, expected_hosts);
}

#[tokio::test]
async fn without_an_order_the_series_are_the_same() {
    for test in [together().await, apart().await] {
        let unordered = SelectRequest {
            is_ordered: false,
            alone: false,
            ..request(ANY)
        };
        let mut found = selected(&test, unordered).await;
        let mut expected = selected(&test, request(ANY)).await;
        assert_eq!(expected.len(), 25);
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn parts_one_after_the_other_are_the_whole() {
    let (together, apart) = (together().await, apart().await);
    let expected = selected(&together, request(ANY)).await;
    for of in 1..=6 {
        let mut found = Vec::new();
        let mut sizes = Vec::new();
        for index in 0..of {
            let part = SelectRequest {
                part: Part { index, of },
                ..request(ANY)
            };
            // Each process may see the series in other segments.
            let test = if index % 2 == 0 { &together } else { &apart };
            let series = selected(test, part).await;
            sizes.push(series.len());
            found.extend(series);
        }
        assert_eq!(found, expected, "{of} parts");
        // Four batches, of which the metrics table is one, are divided.
        let used = sizes.iter().filter(|size| **size > 0).count();
        assert_eq!(used, of.min(4), "{sizes:?}");
    }
}

#[tokio::test]
async fn a_part_beyond_the_last_is_empty() {
    let test = together().await;
    for (index, of) in [(3, 3), (usize::MAX, 3)] {
        let part = SelectRequest {
            part: Part { index, of },
            ..request(ANY)
        };
        assert!(selected(&test, part).await.is_empty());
    }
}

#[tokio::test]
async fn series_are_told_before_they_are_read() {
    let test = together().await;
    let samples = DatabaseSamples::new(test.tables.clone(), DATABASE);
    let selected = samples.select(request(ANY)).await.unwrap();
    assert_eq!(selected.series, 25);
    let meter = ReadMeter::unlimited(Vec::new());
    let counted = SelectRequest {
        meter: Arc::clone(&meter),
        ..request(ANY)
    };
    let selected = samples.select(counted).await.unwrap();
    assert_eq!(meter.counts().rows, 0);
    let batches: Vec<SeriesBatch> = selected.stream.try_collect().await.unwrap();
    assert_eq!((batches.len(), meter.counts().rows), (4, 50));
}
