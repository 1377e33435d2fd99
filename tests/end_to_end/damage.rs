//! A damaged file: the query that needs it names it, everything else goes on, `verify` finds it,
//! and restoring it heals.
use std::path::PathBuf;

use serde_json::json;

use crate::client::{Client, Reply};
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::{self, Server};

const DAY_S: i64 = 86_400;
const FIRST_DAY_S: i64 = 1_700_006_400;

/// Two days of `m`, whose first is going to be damaged, and a day of others.
async fn write(client: &Client) {
    let at = |day: i64| (FIRST_DAY_S + day * DAY_S) * 1_000_000_000;
    client
        .write_lines(&format!(
            "m,host=a value=1 {}\nm,host=b value=2 {}\nother value=7 {}\n",
            at(0),
            at(1),
            at(0)
        ))
        .await;
    client
        .write_samples(&Message::default().series(
            &[("__name__", "up"), ("job", "x")],
            &[(FIRST_DAY_S * 1000, 1.0)],
        ))
        .await;
    client.flush().await;
}

/// The data file and the series index of the first day of `m`.
async fn files(place: &Place) -> [String; 2] {
    let keys = place
        .list("data/default/m/2023-11-15")
        .await
        .into_iter()
        .map(|(key, _)| key);
    let (index, data): (Vec<_>, Vec<_>) = keys.partition(|key| key.ends_with(".series.parquet"));
    assert_eq!((index.len(), data.len()), (1, 1));
    [data[0].clone(), index[0].clone()]
}

async fn sql(client: &Client, query: &str, partial: &str) -> Reply {
    client
        .get(
            "/api/v3/query_sql",
            &[
                ("db", "default"),
                ("format", "json"),
                ("q", query),
                ("partial_response", partial),
            ],
        )
        .await
}

async fn promql(client: &Client, partial: &str) -> Reply {
    let time = (FIRST_DAY_S + DAY_S).to_string();
    client
        .get(
            "/api/v1/query",
            &[
                ("query", "sum(sum_over_time(m[3d]))"),
                ("time", &time),
                ("partial_response", partial),
            ],
        )
        .await
}

async fn series(client: &Client, partial: &str) -> Reply {
    client
        .get(
            "/api/v1/series",
            &[("match[]", "m"), ("partial_response", partial)],
        )
        .await
}

const SUM: &str = "SELECT sum(value) AS s FROM m";

/// What needs no damaged file goes on.
async fn check_others(client: &Client) {
    assert_eq!(
        client.sql("SELECT value FROM other").await,
        [json!({ "value": 7.0 })]
    );
    let second_day = format!(
        "SELECT sum(value) AS s FROM m WHERE time >= to_timestamp_seconds({})",
        FIRST_DAY_S + DAY_S
    );
    assert_eq!(client.sql(&second_day).await, [json!({ "s": 2.0 })]);
    assert_eq!(
        client.promql("up", &FIRST_DAY_S.to_string()).await[0]["value"][1],
        "1"
    );
    client.get("/ready", &[]).await.expect(200);
    client
        .write_lines(&format!("other value=7 {}\n", FIRST_DAY_S * 1_000_000_000))
        .await;
}

#[track_caller]
fn names(reply: &Reply, key: &str) {
    assert!(reply.text().contains(key), "{} lacks {key}", reply.text());
}

#[tokio::test]
async fn a_damaged_file_is_named_left_out_on_request_and_heals() {
    let place = Place::folder();
    let Place::Folder(folder) = &place else {
        panic!("a folder")
    };
    {
        let server = Server::start(&place).await;
        write(&server.client()).await;
    }
    let (code, text) = server::finish(&["verify"], &place);
    assert_eq!(code, Some(0), "{text}");

    let [data, index] = files(&place).await;
    let path = |key: &str| -> PathBuf { folder.path().join(key) };
    let sound = std::fs::read(path(&data)).unwrap();
    // Its footer is known from before in one round, and its first pages are cut off; in the other
    // it is gone. What was read of it before would be answered from memory.
    for cut in [8, 0] {
        let server = Server::start(&place).await;
        let client = server.client();
        if cut > 0 {
            let found = series(&client, "false").await.expect(200).json();
            assert_eq!(found["data"].as_array().unwrap().len(), 2);
            std::fs::write(path(&data), &sound[..cut]).unwrap();
        } else {
            std::fs::remove_file(path(&data)).unwrap();
        }
        names(&sql(&client, SUM, "false").await.expect(500), &data);
        names(&promql(&client, "false").await.expect(500), &data);
        let partial = sql(&client, SUM, "true").await.expect(200);
        assert_eq!(partial.json(), json!([{ "s": 2.0 }]));
        assert!(
            partial.header("x-tidelake-warning").contains(&data),
            "{:?}",
            partial.headers
        );
        let partial = promql(&client, "true").await.expect(200).json();
        assert_eq!(partial["data"]["result"][0]["value"][1], "2");
        assert!(
            partial["warnings"][0].as_str().unwrap().contains(&data),
            "{partial}"
        );
        // Which series there are is in its index.
        assert_eq!(
            series(&client, "false").await.expect(200).json()["data"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        check_others(&client).await;
        let (code, text) = server::finish(&["verify"], &place);
        assert!(
            code == Some(1) && text.contains(&format!("damage: {data}: ")),
            "{code:?} {text}"
        );

        std::fs::write(path(&data), &sound).unwrap();
        assert_eq!(client.sql(SUM).await, [json!({ "s": 3.0 })]);
        assert_eq!(
            promql(&client, "false").await.expect(200).json()["data"]["result"][0]["value"][1],
            "3"
        );
        // From now on it is in memory, whatever becomes of the file.
        std::fs::remove_file(path(&data)).unwrap();
        assert_eq!(client.sql(SUM).await, [json!({ "s": 3.0 })]);
        std::fs::write(path(&data), &sound).unwrap();
    }
    let (code, text) = server::finish(&["verify"], &place);
    assert_eq!(code, Some(0), "{text}");

    // The index: who looks for series needs it too. A server that leaves damage out unless it is
    // asked not to.
    let server = Server::start_with(&place, &["--allow-partial-results"]).await;
    let client = server.client();
    let mut bytes = std::fs::read(path(&index)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path(&index), bytes).unwrap();
    names(&series(&client, "false").await.expect(500), &index);
    let partial = series(&client, "").await.expect(200).json();
    assert!(
        partial["warnings"][0].as_str().unwrap().contains(&index),
        "{partial}"
    );
    assert_eq!(partial["data"].as_array().unwrap().len(), 1);
    names(&sql(&client, SUM, "false").await.expect(500), &index);
    assert!(
        sql(&client, SUM, "")
            .await
            .expect(200)
            .header("x-tidelake-warning")
            .contains(&index)
    );
    check_others(&client).await;

    // Merging leaves it, and merges the rest.
    let merged = client
        .send("POST", "/admin/compact", &[], &[], "")
        .await
        .expect(500);
    names(&merged, &index);
    assert_eq!(client.figure("quarantined_segments").await, 1.0);
    assert!(server.log().contains(&index));
    assert_eq!(files(&place).await, [data, index]);
    check_others(&client).await;
}
