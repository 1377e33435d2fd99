//! Two processes of one node: the newer one wins, and the older one does no harm.

use serde_json::json;

use crate::server::{Place, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_takes_over() {
    for place in [Some(Place::folder()), Place::s3()].into_iter().flatten() {
        let mut older = Server::start(&place).await;
        older.lines("m v=1 1").await.ok();
        let newer = Server::start(&place).await;
        // Whatever the older one still answers, it is not a success: its log is closed.
        let refused = reqwest::Client::new().post(format!("{}/api/v2/write?bucket=default", older.url)).body("m v=2 2").send().await;
        assert!(refused.is_err() || refused.is_ok_and(|r| r.status() == 503 && r.headers().contains_key("retry-after")));
        assert_eq!(older.ended().await.code(), Some(3), "{}", older.log());
        newer.lines("m v=3 3").await.ok();
        assert_eq!(newer.rows("SELECT v FROM m ORDER BY time").await, [json!({"v": 1.0}), json!({"v": 3.0})]);
        assert_eq!(newer.interrupt().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_different_names_share_a_store() {
    let place = Place::folder();
    let a = Server::start_with(&place, &["--node", "a"]).await;
    let b = Server::start_with(&place, &["--node", "b"]).await;
    a.lines("m v=1 1").await.ok();
    b.lines("m v=2 2").await.ok();
    a.flush().await;
    b.flush().await;
    b.compact().await;
    assert_eq!(b.rows("SELECT sum(v) AS s FROM m").await, [json!({"s": 3.0})]);
}
