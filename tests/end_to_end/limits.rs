//! Databases, tables, columns and labels beyond the limits: each gets a 400 that names the setting,
//! what is good beside it is kept, and a restart with other limits changes nothing of that.
use serde_json::json;

use crate::client::{Client, Reply};
use crate::on_every_place;
use crate::place::Place;
use crate::protobuf::{Message, Message2};
use crate::server::Server;

on_every_place!(limited, super::names_without_end_are_refused);

const TIME_MS: i64 = 1_700_000_000_000;

const FLAGS: [&str; 12] = [
    "--max-databases",
    "3",
    "--max-tables",
    "2",
    "--max-columns",
    "4",
    "--max-labels-per-series",
    "3",
    "--max-label-name-bytes",
    "20",
    "--max-label-value-bytes",
    "30",
];

async fn names_without_end_are_refused(place: &Place) {
    let mut server = Server::start_with(place, &FLAGS).await;
    let client = server.client();
    refuse_lines(&client).await;
    refuse_series(&client).await;
    refuse_databases(&client).await;
    check_kept(&client, "in the buffer").await;
    if place.is_durable() {
        // Without limits now: what was refused must not come back.
        server.kill();
        server = Server::start(place).await;
        check_kept(&server.client(), "replayed").await;
        let more = "c f=1 1700000000000000000";
        let query = [("db", "sixth"), ("precision", "ns")];
        let write = server.client();
        let reply = write.send("POST", "/api/v3/write_lp", &query, &[], more);
        reply.await.expect(204);
    }
    let client = server.client();
    client.flush().await;
    check_kept(&client, "in segments").await;
    assert!(server.is_running(), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Good lines at the odd places, from the first.
fn body(n: usize) -> String {
    let long = "v".repeat(31);
    let name = "n".repeat(21);
    let lines = [
        format!("a,k={n} f=1"),
        format!("a,k={long} f=1"),
        format!("b,k={n} g=1"),
        format!("a,{name}=1 f=1"),
        format!("a,k={n},l=1 f=2"),
        "a,k=1,l=2,m=3,n=4 f=1".to_owned(),
        format!("a,k={n} h=1"),
        "c f=1".to_owned(),
        format!("b,k={n} f=1"),
        "a i=1".to_owned(),
    ];
    let stamped = lines.map(|line| format!("{line} 1700000000000000000"));
    stamped.join("\n")
}

#[track_caller]
fn check_named(reply: &Reply, parts: &[&str]) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    for part in parts {
        assert!(reply.text().contains(part), "{} lacks {part}", reply.text());
    }
}

async fn refuse_lines(client: &Client) {
    for (n, (path, parameter)) in [
        ("/write", "db"),
        ("/api/v2/write", "bucket"),
        ("/api/v3/write_lp", "db"),
    ]
    .into_iter()
    .enumerate()
    {
        let query = [(parameter, "default"), ("precision", "ns")];
        let reply = client.send("POST", path, &query, &[], body(n)).await;
        let (value, name, labels, table, column) = (
            "30 bytes (setting max_label_value_bytes)",
            "20 bytes (setting max_label_name_bytes)",
            "than the 3 that a series may have (setting max_labels_per_series)",
            "at most 2 tables (setting max_tables)",
            "at most 4 columns (setting max_columns)",
        );
        check_named(&reply, &[value, name, labels, table, column]);
        if path == "/api/v3/write_lp" {
            let lines = reply.json()["data"].clone();
            let lines = lines.as_array().expect("lines").iter();
            let numbers: Vec<_> = lines.map(|line| line["line_number"].clone()).collect();
            assert_eq!(json!(numbers), json!([2, 4, 6, 8, 10]), "{}", reply.text());
        } else {
            for line in ["line 2: ", "line 4: ", "line 6: ", "line 8: ", "line 10: "] {
                assert!(reply.text().contains(line), "{} lacks {line}", reply.text());
            }
            assert!(reply.text().contains("dropped=5"), "{}", reply.text());
        }
    }
    // Nothing of it, on demand.
    let query = [
        ("db", "default"),
        ("precision", "ns"),
        ("accept_partial", "false"),
    ];
    let reply = client
        .send("POST", "/api/v3/write_lp", &query, &[], body(9))
        .await;
    check_named(&reply, &["max_tables"]);
}

const REFUSED: [&str; 4] = [
    "4 refused, the others were kept",
    "4 labels are more than the 3 that a series may have (setting max_labels_per_series)",
    "20 bytes (setting max_label_name_bytes)",
    "30 bytes (setting max_label_value_bytes)",
];

async fn refuse_series(client: &Client) {
    let (long, name) = ("v".repeat(31), "n".repeat(21));
    let refused: [&[(&str, &str)]; 4] = [
        &[("__name__", "up"), ("a", "1"), ("b", "2"), ("c", "3")],
        &[("__name__", "up"), (&name, "1")],
        &[("__name__", "up"), ("a", &long)],
        &[("__name__", &long)],
    ];
    let good: [&[(&str, &str)]; 2] = [&[("__name__", "up"), ("a", "1")], &[("__name__", "up")]];
    let (mut one, mut two) = (Message::default(), Message2::default());
    let all = [good[0]].into_iter().chain(refused).chain([good[1]]);
    for labels in all {
        one = one.series(labels, &[(TIME_MS, 1.0)]);
        two = two.series(labels, &[(TIME_MS, 1.0, 0), (TIME_MS + 1, 2.0, 0)]);
    }
    let reply = client.try_write_samples(&one).await.expect("an answer");
    check_named(&reply, &REFUSED);
    let reply = client.try_write_samples_2(&two).await.expect("an answer");
    check_named(&reply, &REFUSED);
    assert_eq!(
        reply.header("x-prometheus-remote-write-samples-written"),
        "4"
    );
}

/// There is `default`, and room for two.
async fn refuse_databases(client: &Client) {
    // Of samples each database has its own table, which does not count.
    let write = async |database: &str| {
        let up = Message::default().series(&[("__name__", "up")], &[(TIME_MS, 1.0)]);
        let path = format!("/db/{database}/api/v1/write");
        client.send("POST", &path, &[], &[], up.snappy()).await
    };
    write("second").await.expect(204);
    let create = |database: &str| json!({ "db": database }).to_string();
    let path = "/api/v3/configure/database";
    let reply = client.send("POST", path, &[], &[], create("third")).await;
    reply.expect(200);
    let words = ["there are 3 databases", "setting max_databases", "fourth"];
    check_named(&write("fourth").await, &words);
    let reply = client.send("POST", path, &[], &[], create("fourth")).await;
    check_named(&reply, &words);
    let table = json!({ "db": "fourth", "table": "t" }).to_string();
    let path = "/api/v3/configure/table";
    let reply = client.send("POST", path, &[], &[], table).await;
    check_named(&reply, &words);
    let query = [("db", "fourth"), ("precision", "ns")];
    let line = "a f=1 1700000000000000000";
    let reply = client.send("POST", "/api/v3/write_lp", &query, &[], line);
    check_named(&reply.await, &words);
    // Those that are there go on.
    for database in ["second", "third"] {
        write(database).await.expect(204);
    }
    let table = json!({ "db": "default", "table": "t" }).to_string();
    let reply = client.send("POST", path, &[], &[], table).await;
    check_named(&reply, &["max_tables"]);
}

/// All that was good.
async fn check_kept(client: &Client, stage: &str) {
    let kept = client
        .sql("SELECT k, l, f, h FROM a ORDER BY k, l NULLS FIRST")
        .await;
    let rows = (0..3).flat_map(|n: i32| {
        let row = |l: Option<&str>, f: f64, h: Option<f64>| {
            json!({ "k": n.to_string(), "l": l, "f": f, "h": h })
        };
        [row(None, 1.0, Some(1.0)), row(Some("1"), 2.0, None)]
    });
    assert_eq!(json!(kept), json!(rows.collect::<Vec<_>>()), "{stage}");
    let kept = client.sql("SELECT count(*) AS n FROM b").await;
    assert_eq!(json!(kept), json!([{ "n": 3 }]), "{stage}");
    let samples = client.sql("SELECT a, value FROM up ORDER BY a, time").await;
    assert_eq!(samples.len(), 4, "{stage}: {samples:?}");
    let tables = client
        .sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        .await;
    assert_eq!(tables.len(), 2, "{stage}: {tables:?}");
}
