//! The decimal layout of metrics: answers do not change by what layout a merge writes, nor by what
//! its inputs have.
use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::Client;
use crate::files::data_of;
use crate::on_durable_places;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_durable_places!(layouts, super::answers_are_the_same_in_every_layout);

const BEGIN: i64 = 1_700_000_000_000;

/// Counters in hundredths, whole numbers, floats of all digits, and what is no decimal; some later
/// than others.
async fn write(client: &Client, part: i64) {
    let times = |n: i64| (0..n).map(move |i| BEGIN + (part * n + i) * 15_000);
    let mut message = Message::default();
    for cpu in 0..4 {
        let hundredths: Vec<_> = times(40)
            .map(|t| (t, (t / 10 * (cpu + 1) % 1_000_000_007) as f64 / 100.0))
            .collect();
        message = message.series(
            &[("__name__", "cpu_seconds_total"), ("cpu", &cpu.to_string())],
            &hundredths,
        );
    }
    let whole: Vec<_> = times(40).map(|t| (t, (t / 15_000 * 4096) as f64)).collect();
    let noise: Vec<_> = times(40).map(|t| (t, (t as f64).sqrt() / 7.0)).collect();
    let odd = [
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.1,
        f64::NAN,
        5e-324,
        0.1 + 0.2,
        f64::MAX,
    ];
    let odd: Vec<_> = times(8).zip(odd).collect();
    let message = message
        .series(&[("__name__", "bytes_total")], &whole)
        .series(&[("__name__", "noise")], &noise);
    client
        .write_samples(&message.series(&[("__name__", "odd")], &odd))
        .await;
    // A sample that was there already is another one now.
    client
        .write_samples(
            &Message::default().series(&[("__name__", "noise")], &[(BEGIN, part as f64 / 10.0)]),
        )
        .await;
    client.flush().await;
}

/// Everything, in words that keep the bits of floats.
async fn answers(client: &Client) -> Vec<Value> {
    let mut answers = Vec::new();
    for table in ["cpu_seconds_total", "bytes_total", "noise", "odd"] {
        answers.push(Value::Array(
            client
                .sql(&format!(
                    "SELECT * FROM metrics.{table} ORDER BY time, value"
                ))
                .await,
        ));
        answers.push(Value::Array(
            client.promql(&format!("{table}[1d]"), "1700020000").await,
        ));
    }
    for query in [
        "SELECT cpu, count(*) AS n, min(value) AS lo, max(value) AS hi FROM \
         metrics.cpu_seconds_total WHERE value > 100.25 GROUP BY cpu ORDER BY cpu",
        "SELECT time, value FROM metrics.bytes_total WHERE value >= 464213606400.0 AND value < \
         464213700000.0 ORDER BY time",
        "SELECT count(*) AS n FROM metrics.noise WHERE value IS NULL",
        "SELECT value FROM metrics.odd WHERE value = 0.1 OR value = 5e-324 ORDER BY value",
    ] {
        answers.push(Value::Array(client.sql(query).await));
    }
    for query in [
        "sum(rate(cpu_seconds_total[5m]))",
        "bytes_total > 4096",
        "avg_over_time(noise[10m])",
        "odd",
    ] {
        answers.push(Value::Array(client.promql(query, "1700000300").await));
    }
    answers
}

async fn answers_are_the_same_in_every_layout(place: &Place) {
    let split = BTreeSet::from(["mantissa".to_owned(), "scale".to_owned()]);
    let mut part = 0;
    // Merges of plain files, of decimal and plain ones, and back.
    for layout in ["decimal", "decimal", "plain", "decimal"] {
        let mut server = Server::start_with(place, &["--value-layout", layout]).await;
        let client = server.client();
        write(&client, part).await;
        write(&client, part + 1).await;
        part += 2;
        let expected = answers(&client).await;
        assert!(
            expected
                .iter()
                .filter(|answer| answer.as_array().is_some_and(|rows| !rows.is_empty()))
                .count()
                >= 15,
            "{expected:?}"
        );
        client.compact().await;
        assert_eq!(
            answers(&client).await,
            expected,
            "after a merge to the {layout} layout"
        );
        server.stop().await;
        let files = data_of(place, "__metrics__").await;
        let columns: BTreeSet<_> = files
            .iter()
            .flat_map(|rows| {
                rows.schema()
                    .fields()
                    .iter()
                    .map(|field| field.name().clone())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            columns.is_superset(&split),
            layout == "decimal",
            "{columns:?}"
        );
        assert_eq!(crate::server::finish(&["verify"], place).0, Some(0));
    }
}
