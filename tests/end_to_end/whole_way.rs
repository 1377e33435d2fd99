//! The whole way of a point: every way in, every way out, the same before and after each station.

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use crate::server::{Place, Server};

/// A second that the tests' points lie around.
const T: i64 = 1_767_225_600;

async fn write_everything(server: &Server) {
    let ns = T * 1_000_000_000;
    assert_eq!(server.post("/write?db=default", format!("cpu,host=a usage=1.5,n=1i {ns}")).await.status, 204);
    assert_eq!(server.post("/api/v2/write?bucket=default&precision=s", format!("cpu,host=b usage=2.5,up=true {T}")).await.status, 204);
    let v3 = server.post("/api/v3/write_lp?db=default&precision=second", format!("cpu,host=a usage=3.5 {}\nold v=7 0", T + 60)).await;
    assert_eq!(v3.status, 204, "{v3:?}");
    let samples = [(10.0, T * 1000), (12.0, (T + 60) * 1000)];
    assert_eq!(server.remote_write(&[("__name__", "requests_total"), ("host", "a"), ("le", "+Inf")], &samples).await, 204);
    assert_eq!(server.remote_write(&[("__name__", "ancient")], &[(5.0, 1)]).await, 204);
}

/// Every way out tells the same.
async fn check_everything(server: &Server) {
    let sql = "SELECT host, time, usage, n, up FROM cpu ORDER BY host, time";
    let lines: Vec<_> = server.sql(sql, "csv").await.ok().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        ["host,time,usage,n,up", "a,2026-01-01T00:00:00,1.5,1,", "a,2026-01-01T00:01:00,3.5,,", "b,2026-01-01T00:00:00,2.5,,true",]
    );
    assert_eq!(server.rows("SELECT count(*) AS n, sum(usage) AS s FROM cpu").await, [json!({"n": 3, "s": 7.5})]);
    assert_eq!(server.sql("SELECT v FROM old WHERE time < '1971-01-01'", "jsonl").await.ok().trim(), r#"{"v":7.0}"#);
    assert!(server.sql("SELECT usage FROM cpu", "pretty").await.ok().contains("| usage |"));
    assert_eq!(server.rows("SELECT host, value FROM metrics.requests_total ORDER BY time").await[1], json!({"host": "a", "value": 12.0}));
    let join = "SELECT c.usage, r.value FROM cpu c JOIN metrics.requests_total r ON c.host = r.host AND c.time = r.time ORDER BY c.time";
    assert_eq!(server.rows(join).await, [json!({"usage": 1.5, "value": 10.0}), json!({"usage": 3.5, "value": 12.0})]);
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'cpu' ORDER BY ordinal_position";
    assert_eq!(server.rows(columns).await.len(), 5);

    let url = format!("{}/api/v3/query_sql?db=default&format=parquet&q=SELECT%20usage%20FROM%20cpu", server.url);
    let parquet: Bytes = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().build().unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);

    let usage = server.promql("cpu_usage", T + 60).await;
    let metric = |host: &str| json!({"__name__": "cpu_usage", "host": host});
    assert_eq!(usage, json!([{"metric": metric("a"), "value": [T + 60, "3.5"]}, {"metric": metric("b"), "value": [T + 60, "2.5"]}]));
    assert_eq!(server.promql("ancient", 1).await, json!([{"metric": {"__name__": "ancient"}, "value": [1, "5"]}]));
    let both = "sum(cpu_usage) + on() increase(requests_total[2m])";
    assert_eq!(server.promql(both, T + 60).await[0]["value"][1], json!("10"));
    let range = [("query", "requests_total"), ("start", &T.to_string()), ("end", &(T + 60).to_string()), ("step", "60")];
    let values = &server.prometheus("query_range", &range).await["result"][0]["values"];
    assert_eq!(*values, json!([[T, "10"], [T + 60, "12"]]));

    assert_eq!(server.prometheus("labels", &[]).await, json!(["__name__", "host", "le"]));
    assert_eq!(server.prometheus("label/host/values", &[]).await, json!(["a", "b"]));
    let names = json!(["ancient", "cpu_n", "cpu_up", "cpu_usage", "old_v", "requests_total"]);
    assert_eq!(server.prometheus("label/__name__/values", &[]).await, names);
    let series = server.prometheus("series", &[("match[]", "requests_total"), ("start", &T.to_string())]).await;
    assert_eq!(series, json!([{"__name__": "requests_total", "host": "a", "le": "+Inf"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_the_same_at_every_station() {
    for place in Place::all() {
        let server = Server::start(&place).await;
        write_everything(&server).await;
        check_everything(&server).await;
        server.flush().await;
        check_everything(&server).await;
        // A second segment per day, so that there is something to merge.
        write_everything(&server).await;
        check_everything(&server).await;
        server.flush().await;
        server.compact().await;
        check_everything(&server).await;
        if place.durable {
            assert_eq!(server.interrupt().await.code(), Some(0));
            let server = Server::start(&place).await;
            check_everything(&server).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_nothing_to_replay() {
    let place = Place::folder();
    let server = Server::start(&place).await;
    write_everything(&server).await;
    assert_eq!(server.interrupt().await.code(), Some(0));
    // A fence is 68 bytes; an object with requests is longer.
    let left: Vec<_> = crate::server::files(&place.path().join("wal")).into_iter().filter(|f| f.metadata().unwrap().len() > 68).collect();
    assert!(left.is_empty(), "{left:?}");
    let server = Server::start(&place).await;
    assert!(!server.log().contains("write-ahead log replayed"), "{}", server.log());
    check_everything(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_apart() {
    let server = Server::start(&Place::memory()).await;
    server.post("/api/v2/write?bucket=other", "m v=1 1000").await.ok();
    assert_eq!(server.promql("m_v", 1).await, json!([]));
    let there = server.get("/db/other/api/v1/query?query=m_v&time=1").await.ok();
    assert!(there.contains(r#""value":[1,"1"]"#), "{there}");
}
