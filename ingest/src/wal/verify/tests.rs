//! What a replay would refuse is damage, what it would pass over is a note.

use bytes::Bytes;
use tidelake_catalog::{Catalog, WalPosition as Covered};

use super::super::frame::{ContentEncoding, Frame, ObjectHeader, Precision, Protocol, WriterId};
use super::*;
use crate::label_limits::LabelLimits;

fn object(at: (u64, u64), frames: usize) -> Bytes {
    let frame = Frame {
        database: "d".into(),
        protocol: Protocol::LineProtocol {
            precision: Precision::Nanosecond,
        },
        encoding: ContentEncoding::Identity,
        received_ns: 1,
        limits: LabelLimits::NONE,
        body: Bytes::from_static(b"cpu f=1 1"),
    };
    let kind = if frames == 0 {
        ObjectKind::Fence
    } else {
        ObjectKind::Group
    };
    let header = ObjectHeader {
        kind,
        writer: WriterId([1; 16]),
        epoch: at.0,
        seq: at.1,
        durable_end: at.1,
        order: 0,
    };
    frame::encode(&header, &vec![frame; frames]).unwrap()
}

/// What a writer puts behind its last group.
fn mark(at: (u64, u64)) -> Bytes {
    let header = ObjectHeader {
        kind: ObjectKind::Mark,
        writer: WriterId([1; 16]),
        epoch: at.0,
        seq: at.1,
        durable_end: at.1,
        order: 0,
    };
    frame::encode(&header, &[]).unwrap()
}

/// A node in its second epoch, whose first one has groups 0 to 3 and a fence, and whose second has
/// groups 0 and 1.
async fn sound() -> (Store, Catalog) {
    let store = Store::memory();
    let catalog = Catalog::open(store.clone(), "n", "").await.unwrap();
    catalog.register("n", "").await.unwrap();
    for (at, frames) in [
        ((1, 0), 1),
        ((1, 1), 2),
        ((1, 2), 1),
        ((1, 3), 1),
        ((1, 4), 0),
        ((2, 0), 1),
        ((2, 1), 1),
    ] {
        store
            .put(&keys::wal_object("n", at.0, at.1), object(at, frames))
            .await
            .unwrap();
    }
    (store, catalog)
}

/// The findings after a change, as `damage` or `note` and the position.
async fn findings(store: &Store) -> Vec<String> {
    let mut found = Vec::new();
    let mut collect = |finding: &Finding| {
        let object = finding
            .object
            .trim_start_matches("wal/n/")
            .trim_start_matches('0')
            .replace("/0000000000000000000", "/");
        found.push(format!("{:?} {object}", finding.severity).to_lowercase());
    };
    let mut report = Report::new(&mut collect);
    let mut followed = tidelake_catalog::verify::verify(store, 0, &mut report)
        .await
        .unwrap();
    verify(store, "n", &mut followed, &mut report)
        .await
        .unwrap();
    found
}

async fn check(change: impl AsyncFnOnce(&Store), expected: &[&str]) {
    let (store, _) = sound().await;
    assert_eq!(findings(&store).await, [""; 0], "sound before the change");
    change(&store).await;
    assert_eq!(findings(&store).await, expected);
}

async fn alter(store: &Store, at: (u64, u64), change: impl FnOnce(&mut Vec<u8>)) {
    let key = keys::wal_object("n", at.0, at.1);
    let mut bytes = store.get(&key).await.unwrap().to_vec();
    change(&mut bytes);
    store.put(&key, bytes).await.unwrap();
}

#[tokio::test]
async fn any_flipped_byte_is_damage() {
    for byte in 0..object((1, 1), 2).len() {
        check(
            async |store| alter(store, (1, 1), |bytes| bytes[byte] ^= 1).await,
            &["damage 1/1"],
        )
        .await;
    }
}

#[tokio::test]
async fn an_end_that_is_cut_is_told_from_damage() {
    check(
        async |store| alter(store, (1, 1), |bytes| bytes.truncate(90)).await,
        &["damage 1/1"],
    )
    .await;
    check(
        async |store| alter(store, (1, 3), |bytes| bytes.truncate(90)).await,
        &["damage 1/3"],
    )
    .await;
    // The fence of a replay that has passed over it.
    let passed_over = async |store: &Store| {
        alter(store, (1, 3), |bytes| bytes.truncate(90)).await;
        let header = ObjectHeader {
            kind: ObjectKind::Fence,
            writer: WriterId([2; 16]),
            epoch: 1,
            seq: 4,
            durable_end: 3,
            order: 0,
        };
        let fence = frame::encode(&header, &[]).unwrap();
        store
            .put(&keys::wal_object("n", 1, 4), fence)
            .await
            .unwrap();
    };
    check(passed_over, &["note 1/3"]).await;
    check(
        async |store| alter(store, (2, 1), |bytes| bytes.truncate(9)).await,
        &["note 2/1"],
    )
    .await;
}

#[tokio::test]
async fn a_moved_object_is_named() {
    let swap = async |store: &Store| {
        store
            .put(&keys::wal_object("n", 1, 0), object((1, 2), 1))
            .await
            .unwrap();
        store
            .put(&keys::wal_object("n", 1, 2), object((1, 0), 1))
            .await
            .unwrap();
    };
    check(swap, &["damage 1/0", "damage 1/2"]).await;
}

#[tokio::test]
async fn gaps_are_what_replay_takes_them_for() {
    let remove =
        async |store: &Store, seq| store.delete(&keys::wal_object("n", 2, seq)).await.unwrap();
    check(async |store| remove(store, 0).await, &["damage 2/0"]).await;
    // Nothing says that it was ever acknowledged.
    check(async |store| remove(store, 1).await, &[]).await;
    let in_flight = async |store: &Store| {
        remove(store, 1).await;
        let header = ObjectHeader {
            kind: ObjectKind::Group,
            writer: WriterId([1; 16]),
            epoch: 2,
            seq: 2,
            durable_end: 1,
            order: 0,
        };
        let (_, frames) = frame::decode(&object((2, 2), 1)).unwrap();
        let group = frame::encode(&header, &frames).unwrap();
        store
            .put(&keys::wal_object("n", 2, 2), group)
            .await
            .unwrap();
    };
    check(in_flight, &["note 2/2"]).await;
    // The mark of an idle log.
    let idle = async |store: &Store| {
        let mark = mark((2, 2));
        store.put(&keys::wal_object("n", 2, 2), mark).await.unwrap();
    };
    check(idle, &[]).await;
    let without_the_last = async |store: &Store| {
        idle(store).await;
        remove(store, 1).await;
    };
    check(without_the_last, &["damage 2/1"]).await;
    let with_the_last_cut = async |store: &Store| {
        idle(store).await;
        alter(store, (2, 1), |bytes| bytes.truncate(9)).await;
    };
    check(with_the_last_cut, &["damage 2/1"]).await;
    // A fence in the place of a group.
    let hidden = async |store: &Store| {
        let fence = object((1, 1), 0);
        store
            .put(&keys::wal_object("n", 1, 1), fence)
            .await
            .unwrap();
    };
    check(hidden, &["damage 1/1"]).await;
    let far = async |store: &Store| {
        store
            .put(&keys::wal_object("n", 2, 18), object((2, 18), 1))
            .await
            .unwrap();
    };
    let missing: Vec<String> = (2..18)
        .map(|seq| match seq {
            0..10 => format!("damage 2/{seq}"),
            _ => format!("damage 2/{seq:020}"),
        })
        .collect();
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    check(far, &missing).await;
}

#[tokio::test]
async fn what_segments_cover_is_not_looked_at() {
    let (store, catalog) = sound().await;
    alter(&store, (1, 1), |bytes| bytes[70] ^= 1).await;
    catalog
        .commit_flush(
            Covered {
                epoch: 1,
                next_seq: 2,
            },
            &[],
        )
        .await
        .unwrap();
    assert_eq!(findings(&store).await, [""; 0]);
    catalog
        .commit_flush(
            Covered {
                epoch: 2,
                next_seq: 0,
            },
            &[],
        )
        .await
        .unwrap();
    store.delete(&keys::wal_object("n", 2, 0)).await.unwrap();
    assert_eq!(findings(&store).await, ["damage 2/0"]);
}
