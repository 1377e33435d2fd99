//! Ctrl-C: what was buffered is in segments when the process ends, and the next one has nothing to
//! replay.
use crate::on_durable_places;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::Server;

on_durable_places!(interrupted, super::ctrl_c_leaves_nothing_to_replay);

/// An object of the write-ahead log without requests: only a header and a checksum.
const EMPTY_WAL_OBJECT_BYTES: u64 = 76;

async fn ctrl_c_leaves_nothing_to_replay(place: &Place) {
    let mut server = Server::start(place).await;
    write(&server).await;
    let requests = async || {
        place
            .list("wal")
            .await
            .into_iter()
            .filter(|(_, bytes)| *bytes > EMPTY_WAL_OBJECT_BYTES)
            .count()
    };
    assert!(
        requests().await > 0,
        "the write-ahead log holds the requests"
    );

    // First the hard way, so that the check below is known to be able to fail.
    server.kill();
    let mut server = Server::start(place).await;
    assert_eq!(server.client().figure("buffer_rows").await, 4.0, "replayed");
    assert!(server.log().contains("write-ahead log replayed"));
    check(&server).await;

    server.signal("INT");
    assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
    assert_eq!(requests().await, 0, "{:?}", place.list("wal").await);

    let mut server = Server::start(place).await;
    assert_eq!(
        server.client().figure("buffer_rows").await,
        0.0,
        "nothing to replay"
    );
    assert!(
        !server.log().contains("write-ahead log replayed"),
        "{}",
        server.log()
    );
    check(&server).await;

    // SIGTERM is what service managers send; without anything to flush it is as clean.
    server.signal("TERM");
    assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
}

async fn write(server: &Server) {
    let client = server.client();
    client
        .write_lines("m,host=a value=1 1700000000000000000\nm,host=b value=2 1700000000000000000\n")
        .await;
    let samples = [(1_700_000_000_000, 1.5), (1_700_000_060_000, 2.5)];
    client
        .write_samples(&Message::default().series(&[("__name__", "up"), ("job", "x")], &samples))
        .await;
}

async fn check(server: &Server) {
    let client = server.client();
    let rows = client
        .sql("SELECT count(*) AS n, sum(value) AS total FROM m")
        .await;
    assert_eq!(
        serde_json::json!(rows),
        serde_json::json!([{ "n": 2, "total": 3.0 }])
    );
    let result = client.promql("up[5m]", "1700000060").await;
    assert_eq!(
        result[0]["values"],
        serde_json::json!([[1_700_000_000, "1.5"], [1_700_000_060, "2.5"]])
    );
}

/// A server in memory keeps nothing, but ends as cleanly.
#[tokio::test]
async fn a_server_in_memory_ends_cleanly() {
    let mut server = Server::start(&Place::Memory).await;
    write(&server).await;
    server.stop().await;
}
