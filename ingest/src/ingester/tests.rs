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
async fn large_rows_leave_room_for_small_requests() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let options = IngestOptions {
        buffer_bytes: 4 << 20,
        ..IngestOptions::default()
    };
    let ingester = Ingester::start(catalog, options).await.unwrap();
    let lines = |count: usize| WriteRequest {
        body: (0..count)
            .map(|time| format!("m v={time} {time}\n"))
            .collect::<String>()
            .into(),
        ..request()
    };
    // Each takes two megabytes, and three of the four are for large rows.
    ingester.write(lines(100_000)).await.unwrap();
    let error = ingester.write(lines(100_000)).await.unwrap_err();
    assert!(
        matches!(&error, IngestError::Unavailable { reason, .. } if reason.contains("buffer_bytes")),
        "{error}"
    );
    ingester.write(request()).await.unwrap();
}

#[tokio::test]
async fn a_body_of_more_samples_than_are_taken_at_a_time_is_refused() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let memory = MemoryBudget::unlimited();
    let registries = Arc::new(Registries::new(1 << 20, Arc::clone(&memory)));
    // `__name__="x"`, and two samples of nothing.
    let label = b"\x0a\x0d\x0a\x08__name__\x12\x01x";
    let mut body = vec![0x0a, label.len() as u8 + 4];
    body.extend_from_slice(label);
    body.extend_from_slice(&[0x12, 0, 0x12, 0]);
    let frame = Frame {
        database: "d".into(),
        protocol: Protocol::RemoteWrite1,
        encoding: ContentEncoding::Identity,
        received_ns: 1,
        body: body.into(),
    };
    let preparer = || {
        let (catalog, registries) = (Arc::clone(&catalog), Arc::clone(&registries));
        Preparer::new(catalog, registries, 1 << 20, 1 << 20, Arc::clone(&memory))
    };
    let refused = preparer().with_max_samples(1).prepare(&frame, true).await;
    assert!(matches!(refused, Err(IngestError::TooLarge(_))));
    // A replay takes what was acknowledged.
    assert!(preparer().prepare(&frame, true).await.is_ok());
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
