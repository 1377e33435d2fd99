//! Acknowledged objects of the write-ahead log that are gone: the server names them and does not
//! start, `verify` names them too, restoring heals, and `--accept-lost-wal` goes on without. The
//! same for commit records, without which nothing goes on.
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::place::Place;
use crate::server::{self, Server};

const WRITES: i64 = 8;
/// An object of the write-ahead log without requests, such as a mark.
const EMPTY_WAL_OBJECT_BYTES: u64 = 76;
/// Longest time until an idle log has its mark; a second by default.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys and sizes of the objects of the first epoch, in order.
async fn objects(place: &Place) -> Vec<(String, u64)> {
    place.list("wal/node-1/0000000001").await
}

/// Keys of those that hold a write each.
async fn groups(place: &Place) -> Vec<String> {
    let groups: Vec<String> = objects(place)
        .await
        .into_iter()
        .filter(|(_, bytes)| *bytes > EMPTY_WAL_OBJECT_BYTES)
        .map(|(key, _)| key)
        .collect();
    assert_eq!(groups.len(), 8);
    groups
}

/// One row each, each acknowledged before the next.
async fn write(place: &Place) -> Server {
    let server = Server::start(place).await;
    for row in 0..WRITES {
        let time = 1_700_000_000_000_000_000 + row;
        let line = format!("m,host=h{row} value={row} {time}\n");
        server.client().write_lines(&line).await;
    }
    server
}

async fn rows(server: &Server) -> serde_json::Value {
    json!(
        server
            .client()
            .sql("SELECT count(*) AS n, sum(value) AS total FROM m")
            .await
    )
}

/// The server does not start, and `verify` is not content; both name the object and what became of
/// it.
fn is_named(place: &Place, key: &str, what: &str) {
    let (code, log) = server::finish(&["--listen", "127.0.0.1:0"], place);
    assert!(code.is_some_and(|code| code != 0), "{code:?} {log}");
    let named = format!("{key} {what}");
    assert!(
        log.contains(&named) && log.contains("--accept-lost-wal"),
        "{log} lacks {named}"
    );
    let (code, text) = server::finish(&["verify"], place);
    assert_eq!(code, Some(1), "{text}");
    let named = format!("damage: {key}: it {what}");
    assert!(text.contains(&named), "{text} lacks {named}");
}

fn path(place: &Place, key: &str) -> PathBuf {
    let Place::Folder(folder) = place else {
        panic!("a folder")
    };
    folder.path().join(key)
}

#[tokio::test]
async fn a_lost_object_is_named_and_restoring_it_heals() {
    let place = Place::folder();
    write(&place).await.kill();
    let (code, text) = server::finish(&["verify"], &place);
    assert_eq!(code, Some(0), "{text}");
    let key = groups(&place).await[3].clone();
    let sound = std::fs::read(path(&place, &key)).unwrap();
    std::fs::write(path(&place, &key), &sound[..sound.len() - 5]).unwrap();
    is_named(&place, &key, "was cut");
    std::fs::remove_file(path(&place, &key)).unwrap();
    is_named(&place, &key, "is missing");
    is_named(&place, &key, "is missing");

    std::fs::write(path(&place, &key), &sound).unwrap();
    let server = Server::start(&place).await;
    assert_eq!(rows(&server).await, json!([{ "n": 8, "total": 28.0 }]));
}

#[tokio::test]
async fn the_rest_is_served_where_the_loss_is_accepted() {
    let place = Place::folder();
    write(&place).await.kill();
    let key = groups(&place).await[3].clone();
    std::fs::remove_file(path(&place, &key)).unwrap();
    is_named(&place, &key, "is missing");

    let mut server = Server::start_with(&place, &["--accept-lost-wal"]).await;
    assert_eq!(rows(&server).await, json!([{ "n": 7, "total": 25.0 }]));
    let log = server.log();
    assert!(log.contains("ERROR") && log.contains(&key), "{log}");
    // From now on it is not missed any more.
    server.kill();
    let server = Server::start(&place).await;
    assert_eq!(rows(&server).await, json!([{ "n": 7, "total": 25.0 }]));
    let (code, text) = server::finish(&["verify"], &place);
    assert_eq!(code, Some(0), "{text}");
}

#[tokio::test]
async fn the_last_object_is_missed_once_the_log_was_idle() {
    let place = Place::folder();
    let mut server = write(&place).await;
    let begun = std::time::Instant::now();
    while objects(&place)
        .await
        .last()
        .is_none_or(|(_, bytes)| *bytes > EMPTY_WAL_OBJECT_BYTES)
    {
        assert!(begun.elapsed() < PATIENCE, "there is no mark");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill();
    let groups = groups(&place).await;
    let key = &groups[7];
    std::fs::remove_file(path(&place, key)).unwrap();
    is_named(&place, key, "is missing");
}

#[tokio::test]
async fn a_lost_commit_record_is_named() {
    let place = Place::folder();
    write(&place).await.kill();
    // Its registration follows the record that goes.
    Server::start(&place).await.kill();
    let key = "catalog/log/00000000000000000002";
    let sound = std::fs::read(path(&place, key)).unwrap();
    std::fs::remove_file(path(&place, key)).unwrap();
    let (code, log) = server::finish(&["--listen", "127.0.0.1:0"], &place);
    assert!(code.is_some_and(|code| code != 0), "{code:?} {log}");
    assert!(log.contains(&format!("object {key} is missing")), "{log}");
    let (code, text) = server::finish(&["verify"], &place);
    assert_eq!(code, Some(1), "{text}");
    let named = format!("damage: {key}: it is missing");
    assert!(text.contains(&named), "{text} lacks {named}");

    std::fs::write(path(&place, key), sound).unwrap();
    let server = Server::start(&place).await;
    assert_eq!(rows(&server).await, json!([{ "n": 8, "total": 28.0 }]));
}
