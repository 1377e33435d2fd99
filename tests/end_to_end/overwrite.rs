//! The last write of a series and time wins, field by field, wherever the earlier one is.

use serde_json::json;

use crate::server::{Place, Server};

async fn check(server: &Server, a: f64, b: Option<f64>, sample: f64) {
    let row = json!([{ "a": a, "b": b }]);
    let got = json!(server.rows("SELECT a, b FROM m WHERE t = 'x'").await);
    let same = got[0]["a"] == row[0]["a"] && got[0]["b"] == row[0]["b"] && got.as_array().map(Vec::len) == Some(1);
    assert!(same, "{got} instead of {row}");
    assert_eq!(server.promql("m_a{t='x'}", 1).await[0]["value"][1], json!(a.to_string()));
    assert_eq!(json!(server.rows("SELECT value FROM metrics.up").await), json!([{ "value": sample }]));
    assert_eq!(server.promql("count_over_time(up[1m])", 1).await[0]["value"][1], json!("1"));
    assert_eq!(server.promql("up", 1).await[0]["value"][1], json!(sample.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_write_wins() {
    for place in Place::all() {
        let server = Server::start(&place).await;
        let write = async |lines: &str, sample: f64| {
            server.lines(lines).await.ok();
            assert_eq!(server.remote_write(&[("__name__", "up")], &[(sample, 1000)]).await, 204);
        };
        // All columns are there from the beginning.
        server.lines("m,t=z a=0,b=0 1").await.ok();
        write("m,t=x a=1 1000000000", 1.0).await;
        check(&server, 1.0, None, 1.0).await;
        // In the buffer; a field that is not set keeps its value.
        write("m,t=x b=2 1000000000", 2.0).await;
        check(&server, 1.0, Some(2.0), 2.0).await;
        server.flush().await;
        check(&server, 1.0, Some(2.0), 2.0).await;
        // Over what is in a segment, and then across segments.
        write("m,t=x a=3 1000000000", 3.0).await;
        check(&server, 3.0, Some(2.0), 3.0).await;
        server.flush().await;
        check(&server, 3.0, Some(2.0), 3.0).await;
        // A segment whose first time is earlier is not an older one.
        write("m,t=x a=4,b=5 1000000000\nm,t=y a=0 1", 4.0).await;
        server.lines("n v=1").await.ok();
        server.flush().await;
        let rows = server.rows("SELECT a, b FROM m WHERE t = 'x'").await;
        assert_eq!(rows, [json!({"a": 4.0, "b": 5.0})]);
        server.compact().await;
        let rows = server.rows("SELECT a, b FROM m WHERE t = 'x'").await;
        assert_eq!(rows, [json!({"a": 4.0, "b": 5.0})]);
        assert_eq!(json!(server.rows("SELECT value FROM metrics.up").await), json!([{ "value": 4.0 }]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_changes_nothing() {
    let place = Place::folder();
    let server = Server::start(&place).await;
    let lines: String = (0..500).map(|i| format!("m,t={} v={i} {}\n", i % 7, i * 1_000_000)).collect();
    for _ in 0..2 {
        server.lines(&lines).await.ok();
        server.lines(&lines).await.ok();
        assert_eq!(server.rows("SELECT count(*) AS n, sum(v) AS s FROM m").await, [json!({"n": 500, "s": 124_750.0})]);
        server.flush().await;
    }
    server.compact().await;
    assert_eq!(server.rows("SELECT count(*) AS n, sum(v) AS s FROM m").await, [json!({"n": 500, "s": 124_750.0})]);
}
