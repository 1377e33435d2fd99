//! What clients of a Prometheus ask besides queries: status pages, texts and trees of queries,
//! statistics, limits, large answers, and remote read.
use std::io::Read;

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::place::Place;
use crate::protobuf::{Field, Message, fields, read_request, snappy};
use crate::server::Server;

/// 2023-11-14T22:13:20Z
const TIME_MS: i64 = 1_700_000_000_000;
const TIME: &str = "1700000000";
const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

async fn data(client: &Client, path: &str, query: &[(&str, &str)]) -> Value {
    client.get(path, query).await.expect(200).json()["data"].take()
}

#[tokio::test]
async fn status_pages_tell_what_is_so() {
    let mut server = Server::start_with(&Place::Memory, &["--lookback-ms", "123456"]).await;
    let client = server.client();
    let series = |host: &'static str| [("__name__", "up"), ("job", "node"), ("host", host)];
    let message = Message::default()
        .series(&series("a"), &[(TIME_MS, 1.0)])
        .series(&series("bb"), &[(TIME_MS + 5, 1.0)]);
    client.write_samples(&message).await;
    client
        .write_lines("cpu,host=a user=1,system=2i,note=\"x\" 1700000000000000000")
        .await;
    let flags = data(&client, "/api/v1/status/flags", &[]).await;
    assert_eq!(
        (&flags["lookback-ms"], &flags["store"]),
        (&json!("123456"), &json!("memory:"))
    );
    let config = data(&client, "/api/v1/status/config", &[]).await;
    assert!(
        config["yaml"]
            .as_str()
            .is_some_and(|yaml| yaml.contains("\nlookback_ms: 123456\n")),
        "{config}"
    );
    let runtime = data(&client, "/api/v1/status/runtimeinfo", &[]).await;
    assert!(
        runtime["startTime"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z')),
        "{runtime}"
    );
    assert_eq!(runtime["storageRetention"], "default");

    for flushed in [false, true] {
        let tsdb = data(
            &client,
            "/api/v1/status/tsdb",
            &[("limit", "2"), ("start", TIME)],
        )
        .await;
        let head = json!({ "numSeries": 4, "numLabelPairs": 6, "chunkCount": 2, "minTime": TIME_MS, "maxTime": TIME_MS + 5 });
        assert_eq!(tsdb["headStats"], head, "flushed: {flushed}");
        let ranking = |pairs: &[(&str, u64)]| {
            pairs
                .iter()
                .map(|(name, value)| json!({ "name": name, "value": value }))
                .collect::<Value>()
        };
        assert_eq!(
            tsdb["seriesCountByMetricName"],
            ranking(&[("up", 2), ("cpu_system", 1)])
        );
        assert_eq!(
            tsdb["labelValueCountByLabelName"],
            ranking(&[("__name__", 3), ("host", 2)])
        );
        assert_eq!(
            tsdb["memoryInBytesByLabelName"],
            ranking(&[("__name__", 22), ("job", 8)])
        );
        assert_eq!(
            tsdb["seriesCountByLabelValuePair"],
            ranking(&[("host=a", 3), ("__name__=up", 2)])
        );
        client.flush().await;
    }
    // Of the last hours there is nothing.
    let head = &data(&client, "/api/v1/status/tsdb", &[]).await["headStats"];
    assert_eq!(
        (&head["numSeries"], &head["minTime"]),
        (&json!(0), &json!(i64::MAX))
    );
    client
        .get("/api/v1/status/tsdb", &[("limit", "0")])
        .await
        .expect(400);
    server.stop().await;
}

#[tokio::test]
async fn queries_have_a_text_a_tree_and_a_cost() {
    let mut server = Server::start(&Place::Memory).await;
    let client = server.client();
    let samples: Vec<(i64, f64)> = (0..10).map(|at| (TIME_MS + at * 1000, at as f64)).collect();
    for host in ["a", "b", "c"] {
        client
            .write_samples(
                &Message::default().series(&[("__name__", "m"), ("host", host)], &samples),
            )
            .await;
    }
    let post = async |path: &str, body: &'static str| {
        client
            .send("POST", path, &[], &FORM, body)
            .await
            .expect(200)
            .json()["data"]
            .take()
    };
    assert_eq!(
        post("/api/v1/format_query", "query=sum(m)by(host)").await,
        "sum by (host) (m)"
    );
    assert_eq!(
        post("/api/v1/parse_query", "query=-m").await["expr"]["name"],
        "m"
    );
    let reply = client
        .get("/api/v1/parse_query", &[("query", "m{")])
        .await
        .expect(400)
        .json();
    assert!(reply["error"].as_str().is_some_and(|error| error.starts_with("invalid parameter \"query\": 1:3: parse error")), "{reply}");

    let range = [
        ("query", "sum(count_over_time(m[3s]))"),
        ("start", TIME),
        ("end", "1700000004"),
        ("step", "2"),
        ("stats", "all"),
    ];
    let samples = &data(&client, "/api/v1/query_range", &range).await["stats"]["samples"];
    // Three series; of each the samples of 3 s before each step.
    let steps = json!([[1_700_000_000, 3], [1_700_000_002, 9], [1_700_000_004, 9]]);
    assert_eq!(
        (
            &samples["totalQueryableSamplesPerStep"],
            &samples["totalQueryableSamples"]
        ),
        (&steps, &json!(21))
    );
    assert_eq!(samples["samplesRead"], 15);
    let stats = &data(
        &client,
        "/api/v1/query",
        &[("query", "m"), ("time", TIME), ("stats", "true")],
    )
    .await["stats"];
    assert_eq!(stats["samples"]["totalQueryableSamples"], 3);
    assert!(
        stats["timings"]["execTotalTime"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0),
        "{stats}"
    );
    assert!(
        data(&client, "/api/v1/query", &[("query", "m")])
            .await
            .get("stats")
            .is_none()
    );

    let check = async |path: &str, query: &[(&str, &str)], count: usize, is_cut: bool| {
        let answer = client.get(path, query).await.expect(200).json();
        let list = if answer["data"].is_array() {
            &answer["data"]
        } else {
            &answer["data"]["result"]
        };
        assert_eq!(
            list.as_array().map(Vec::len),
            Some(count),
            "{path} {query:?}"
        );
        let warnings = if is_cut {
            json!(["results truncated due to limit"])
        } else {
            Value::Null
        };
        assert_eq!(answer["warnings"], warnings, "{path} {query:?}");
    };
    check(
        "/api/v1/query",
        &[("query", "m"), ("time", TIME), ("limit", "2")],
        2,
        true,
    )
    .await;
    check(
        "/api/v1/query",
        &[("query", "m"), ("time", TIME), ("limit", "3")],
        3,
        false,
    )
    .await;
    check(
        "/api/v1/query_range",
        &[
            ("query", "m"),
            ("start", TIME),
            ("end", TIME),
            ("step", "1"),
            ("limit", "1"),
        ],
        1,
        true,
    )
    .await;
    check(
        "/api/v1/series",
        &[("match[]", "m"), ("limit", "2")],
        2,
        true,
    )
    .await;
    check("/api/v1/labels", &[("limit", "1")], 1, true).await;
    check("/api/v1/labels", &[("limit", "2")], 2, false).await;
    check("/api/v1/label/U__host/values", &[("limit", "2")], 2, true).await;
    server.stop().await;
}

#[tokio::test]
async fn large_answers_are_whole_however_they_are_sent() {
    let mut server = Server::start(&Place::Memory).await;
    let client = server.client();
    let samples: Vec<(i64, f64)> = (0..4000)
        .map(|at| (TIME_MS + at * 1000, at as f64 / 7.0))
        .collect();
    for host in 0..20 {
        client
            .write_samples(
                &Message::default()
                    .series(&[("__name__", "m"), ("host", &host.to_string())], &samples),
            )
            .await;
    }
    let ask = async |encoding: &str| {
        let query = [("query", "m[2h]"), ("time", "1700004000")];
        client
            .send(
                "GET",
                "/api/v1/query",
                &query,
                &[("accept-encoding", encoding)],
                "",
            )
            .await
            .expect(200)
    };
    let plain = ask("identity").await;
    assert!(plain.body.len() > 2_000_000, "{} bytes", plain.body.len());
    let sum = |reply: &Value| -> usize {
        let series = reply["data"]["result"].as_array().into_iter().flatten();
        series
            .map(|series| series["values"].as_array().map_or(0, Vec::len))
            .sum()
    };
    assert_eq!(sum(&plain.json()), 80_000);
    let inflated = |reply: &Reply, encoding: &str| {
        assert_eq!(reply.header("content-encoding"), encoding);
        assert!(reply.body.len() < plain.body.len() / 2);
        let mut out = Vec::new();
        match encoding {
            "gzip" => flate2::read::GzDecoder::new(&reply.body[..]).read_to_end(&mut out),
            _ => zstd::stream::read::Decoder::new(&reply.body[..])
                .and_then(|mut decoder| decoder.read_to_end(&mut out)),
        }
        .expect("a whole stream");
        out
    };
    for encoding in ["gzip", "zstd"] {
        assert_eq!(
            inflated(&ask(encoding).await, encoding),
            plain.body,
            "{encoding}"
        );
        let query = [
            ("db", "default"),
            ("format", "csv"),
            ("q", "SELECT time, host, value FROM m"),
        ];
        let reply = client
            .send(
                "GET",
                "/api/v3/query_sql",
                &query,
                &[("accept-encoding", encoding)],
                "",
            )
            .await
            .expect(200);
        let rows = inflated(&reply, encoding)
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        assert_eq!(rows, 80_001, "{encoding}");
    }
    server.stop().await;
}

/// Label pairs of each series of an answer, and what else it holds.
fn series(bytes: &[u8]) -> (Vec<(String, String)>, Vec<Field<'_>>) {
    let (mut labels, mut rest) = (Vec::new(), Vec::new());
    for (number, field) in fields(bytes) {
        match (number, field) {
            (1, Field::Bytes(label)) => {
                let text = |wanted: u64| match fields(label)
                    .into_iter()
                    .find(|(number, _)| *number == wanted)
                {
                    Some((_, Field::Bytes(text))) => {
                        String::from_utf8(text.to_vec()).expect("labels are text")
                    }
                    other => panic!("{other:?}"),
                };
                labels.push((text(1), text(2)));
            }
            (_, field) => rest.push(field),
        }
    }
    (labels, rest)
}

fn nested<'a>(bytes: &'a [u8], wanted: u64) -> Vec<&'a [u8]> {
    let of = |(number, field): (u64, Field<'a>)| match field {
        Field::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of).collect()
}

#[tokio::test]
async fn remote_read_by_samples_and_by_chunks() {
    let mut server = Server::start(&Place::Memory).await;
    let client = server.client();
    let samples: Vec<(i64, f64)> = (0..300)
        .map(|at| (TIME_MS + at * 1000, at as f64))
        .collect();
    for host in ["b", "a"] {
        client
            .write_samples(
                &Message::default().series(&[("__name__", "up"), ("host", host)], &samples),
            )
            .await;
    }
    client
        .write_lines(
            "cpu,host=a user=1.5 1700000000000000000\ncpu,Zone=z,host=b user=2.5 \
             1700000000000000000",
        )
        .await;
    let read = async |accepted: &[u64], queries: &[&[(u8, &str, &str)]]| {
        let body = snappy(&read_request(accepted, queries, TIME_MS, TIME_MS + 299_000));
        client
            .send(
                "POST",
                "/api/v1/read",
                &[],
                &[("content-encoding", "snappy")],
                body,
            )
            .await
    };
    let up: &[(u8, &str, &str)] = &[
        (0, "__name__", "up"),
        (2, "host", "a|b"),
        (3, "host", "b"),
        (1, "job", "x"),
    ];
    let all: &[(u8, &str, &str)] = &[(2, "__name__", ".+")];

    let reply = read(&[], &[up, all]).await.expect(200);
    assert_eq!(
        (
            reply.header("content-type"),
            reply.header("content-encoding")
        ),
        ("application/x-protobuf", "snappy")
    );
    let message = snap::raw::Decoder::new()
        .decompress_vec(&reply.body)
        .expect("snappy");
    let results = nested(&message, 1);
    let names = |result: &[u8]| -> Vec<String> {
        let names = nested(result, 1).into_iter().map(|one| {
            series(one)
                .0
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
        });
        names
            .map(|pairs| pairs.collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(results.len(), 2);
    assert_eq!(names(results[0]), ["__name__=up host=a"]);
    let in_order = [
        "Zone=z __name__=cpu_user host=b",
        "__name__=cpu_user host=a",
        "__name__=up host=a",
        "__name__=up host=b",
    ];
    assert_eq!(names(results[1]), in_order);
    assert_eq!(series(nested(results[0], 1)[0]).1.len(), 300);

    let reply = read(&[1, 0], &[up, all]).await.expect(200);
    assert_eq!(
        reply.header("content-type"),
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    );
    let mut rest = &reply.body[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = crate::protobuf::read_varint(&mut rest) as usize;
        let (frame, after) = rest[4..].split_at(length);
        rest = after;
        let query = fields(frame)
            .into_iter()
            .find_map(|(number, field)| match field {
                Field::Varint(index) if number == 2 => Some(index),
                _ => None,
            });
        let (labels, chunks) = series(nested(frame, 1)[0]);
        let labels: Vec<String> = labels
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        found.push((query.unwrap_or(0), labels.join(" "), chunks.len()));
    }
    let expected = [
        (0, "__name__=up host=a", 3),
        (1, in_order[0], 1),
        (1, in_order[1], 1),
        (1, in_order[2], 3),
        (1, in_order[3], 3),
    ];
    assert_eq!(
        found,
        expected.map(|(query, labels, chunks)| (query, labels.to_owned(), chunks))
    );

    assert!(
        read(&[9], &[all])
            .await
            .expect(400)
            .text()
            .contains("response types")
    );
    assert!(
        read(&[], &[&[(2, "a", "(")]])
            .await
            .expect(400)
            .text()
            .contains("(")
    );
    // As in PromQL, patterns are those of RE2.
    assert!(
        read(&[], &[&[(2, "a", "b**")]])
            .await
            .expect(400)
            .text()
            .contains("nested repetition")
    );
    assert!(
        read(&[], &[&[(7, "a", "b")]])
            .await
            .expect(400)
            .text()
            .contains("matcher type 7")
    );
    assert!(
        client
            .send("POST", "/api/v1/read", &[], &[], "nothing")
            .await
            .expect(400)
            .text()
            .contains("prometheus.ReadRequest")
    );
    client.get("/api/v1/read", &[]).await.expect(405);
    server.stop().await;
}
