//! What the write path does besides writing: it puts writes off, and cleans up after processes that
//! died.

use bytes::Bytes;
use tidelake_catalog::Store;
use tidelake_catalog::keys;

use super::*;
use crate::wal::frame::{self, ObjectHeader, ObjectKind};
use crate::wal::{ContentEncoding, Precision, Protocol};

const PROTOCOL: Protocol = Protocol::LineProtocol {
    precision: Precision::Nanosecond,
};

fn request() -> WriteRequest {
    let body = Bytes::from_static(b"cpu,host=a usage=1 1");
    WriteRequest {
        database: "d".to_owned(),
        protocol: PROTOCOL,
        encoding: ContentEncoding::Identity,
        accept_partial: true,
        body,
    }
}

#[tokio::test]
async fn writes_that_are_put_off_get_503_and_flushes_go_on() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let ingester = Ingester::start(Arc::clone(&catalog), IngestOptions::default())
        .await
        .unwrap();
    ingester.write(request()).await.unwrap();
    ingester.put_off_writes(Some("too much waits".to_owned()));
    let error = ingester.write(request()).await.unwrap_err();
    assert_eq!(
        error,
        IngestError::Unavailable {
            reason: "too much waits".to_owned(),
            retry_after_s: PUT_OFF_RETRY_S
        }
    );
    assert_eq!(ingester.counters().deferred.load(Ordering::Relaxed), 1);
    ingester.flush().await.unwrap();
    assert_eq!(catalog.snapshot().segments().count(), 1);
    ingester.put_off_writes(None);
    ingester.write(request()).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_process_left_of_the_log_goes_at_the_next_start_but_what_holds_a_number() {
    let store = Store::memory();
    let catalog = Catalog::open(store.clone(), "n", "").await.unwrap();
    let frame = Frame {
        database: "d".into(),
        protocol: PROTOCOL,
        encoding: ContentEncoding::Identity,
        received_ns: 1,
        body: request().body,
    };
    let put = async |epoch, seq, frames: usize, cut: usize| {
        let header = ObjectHeader {
            kind: if frames == 0 {
                ObjectKind::Fence
            } else {
                ObjectKind::Group
            },
            writer: WriterId([1; 16]),
            epoch,
            seq,
            durable_end: 0,
        };
        let object = frame::encode(&header, &vec![frame.clone(); frames]).unwrap();
        store
            .put(
                &keys::wal_object("n", epoch, seq),
                object.slice(..object.len() - cut),
            )
            .await
            .unwrap();
    };
    // Epoch 1: groups, an object that ends early, its fence. Epoch 2: groups, of which two are
    // covered, and a fence.
    for (epoch, seq, frames, cut) in [
        (1, 0, 1, 0),
        (1, 1, 2, 0),
        (1, 2, 1, 7),
        (1, 3, 0, 0),
        (2, 0, 1, 0),
        (2, 1, 1, 0),
        (2, 2, 1, 0),
        (2, 3, 0, 0),
    ] {
        put(epoch, seq, frames, cut).await;
    }
    catalog.register("n", "").await.unwrap();
    catalog
        .commit_flush(
            snapshot::WalPosition {
                epoch: 2,
                next_seq: 2,
            },
            &[],
        )
        .await
        .unwrap();
    catalog.register("n", "").await.unwrap();
    let _ingester = Ingester::start(Arc::new(catalog), IngestOptions::default())
        .await
        .unwrap();
    let mut left = Vec::new();
    for _ in 0..1000 {
        left.clear();
        for epoch in 1..=2 {
            for seq in 0..=3 {
                if store.get(&keys::wal_object("n", epoch, seq)).await.is_ok() {
                    left.push((epoch, seq));
                }
            }
        }
        if left.len() <= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Replayed, and not covered yet: 2/2.
    assert_eq!(left, [(1, 2), (1, 3), (2, 2), (2, 3)]);
}
