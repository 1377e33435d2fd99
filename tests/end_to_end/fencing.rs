//! Two processes with one name on one place: the newer one wins, the older one acknowledges nothing
//! more and ends with code 3, and whatever either of them has acknowledged is there.
use std::time::Duration;

use crate::ledger::{End, Ledger};
use crate::on_durable_places;
use crate::place::Place;
use crate::server::Server;

on_durable_places!(under_load, super::the_newer_process_wins);
on_durable_places!(paused, super::a_paused_process_wakes_up_fenced);
on_durable_places!(two_names, super::processes_of_different_names_share_a_place);

/// The exit code of a process that was taken over.
const FENCED: Option<i32> = Some(3);

async fn the_newer_process_wins(place: &Place) {
    let mut ledger = Ledger::new(4, 1);
    let mut older = Server::start(place).await;
    let client = older.client();
    let start = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Server::start(place).await
    };
    // The older one is written to from before the start of the newer one until it refuses.
    let (ends, mut newer) = tokio::join!(ledger.write_until_refused(&client), start);
    let refusals: Vec<_> = ends
        .iter()
        .filter_map(|end| {
            if let End::Refused(reply) = end {
                Some(reply)
            } else {
                None
            }
        })
        .collect();
    assert!(!refusals.is_empty(), "nobody was told: {ends:?}");
    for reply in refusals {
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert_ne!(reply.header("retry-after"), "", "503 without Retry-After");
    }
    assert_eq!(older.exit_code().await, FENCED);
    assert!(
        older.log().contains("took over"),
        "it says why: {}",
        older.log()
    );
    assert!(ledger.kept() > 0, "something was written before");
    ledger.check_queries(&newer.client(), "taken over").await;
    newer.client().flush().await;
    ledger
        .check_queries(&newer.client(), "flushed by the newer one")
        .await;

    // The newer one goes on alone, and its successor finds the points of both.
    let client = newer.client();
    let kill = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        newer.kill();
    };
    let (_, ()) = tokio::join!(ledger.write_until_refused(&client), kill);
    let third = Server::start(place).await;
    ledger
        .check_queries(&third.client(), "a third process")
        .await;
}

async fn a_paused_process_wakes_up_fenced(place: &Place) {
    let mut older = Server::start(place).await;
    let sleeper = older.client();
    sleeper
        .write_lines("m,by=older value=1 1700000000000000000")
        .await;
    older.signal("STOP");
    let newer = Server::start(place).await;
    newer
        .client()
        .write_lines("m,by=newer value=2 1700000000000000000")
        .await;
    // The request is in its socket when it wakes up.
    let write = tokio::spawn(async move {
        sleeper
            .try_write_lines("m,by=late value=3 1700000000000000000".to_owned())
            .await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    older.signal("CONT");
    if let Ok(reply) = write.await.expect("no panic") {
        assert_eq!(reply.status, 503, "{}", reply.text());
    }
    assert_eq!(older.exit_code().await, FENCED);
    newer.client().flush().await;
    let rows = newer
        .client()
        .sql("SELECT \"by\", value FROM m ORDER BY value")
        .await;
    assert_eq!(
        serde_json::json!(rows),
        serde_json::json!([{ "by": "older", "value": 1.0 }, { "by": "newer", "value": 2.0 }])
    );
}

async fn processes_of_different_names_share_a_place(place: &Place) {
    let mut a = Server::start_with(place, &["--node", "a"]).await;
    let mut b = Server::start_with(place, &["--node", "b"]).await;
    a.client()
        .write_lines("m,by=a value=1 1700000000000000000")
        .await;
    b.client()
        .write_lines("m,by=b value=2 1700000000000000000")
        .await;
    a.client().flush().await;
    b.client().flush().await;
    b.client().compact().await;
    let rows = b
        .client()
        .sql("SELECT \"by\", value FROM m ORDER BY value")
        .await;
    assert_eq!(
        serde_json::json!(rows),
        serde_json::json!([{ "by": "a", "value": 1.0 }, { "by": "b", "value": 2.0 }])
    );
    a.stop().await;
    b.stop().await;
}
