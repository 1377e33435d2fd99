use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;

use super::*;
use crate::service::error::Code;
use crate::service::slots::{Language, QuerySlots};

fn pace(write_timeout_ms: u64) -> Pace {
    Pace {
        write_timeout: Duration::from_millis(write_timeout_ms),
        ..Pace::patient()
    }
}

/// A query with chunks of [`CHUNK_BYTES`], and how many of them were made.
struct Query {
    slots: QuerySlots,
    made: Arc<AtomicUsize>,
}

impl Query {
    fn new() -> Self {
        Self {
            slots: QuerySlots::new(1, Duration::ZERO),
            made: Arc::default(),
        }
    }

    /// So many chunks, and then perhaps an error.
    async fn body(&self, pace: &Pace, chunks: usize, error: Option<ServiceError>) -> Body {
        let slot = self.slots.enter(Language::Sql).await.unwrap();
        let made = Arc::clone(&self.made);
        let chunks = (0..chunks).map(move |_| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from(vec![b'x'; CHUNK_BYTES]))
        });
        let chunks = chunks.chain(error.map(Err));
        pace.body(stream::iter(chunks), slot).await.unwrap()
    }

    /// Waits until the slot is free; how the query ended.
    async fn outcome(&self) -> &'static str {
        while self.slots.running() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ended = self.slots.ended().find(|(_, _, count)| *count > 0);
        ended.map_or("", |(_, outcome, _)| outcome.name())
    }
}

#[tokio::test]
async fn a_whole_answer_is_one_chunk_ahead_of_its_reader() {
    let query = Query::new();
    let mut body = query.body(&pace(60_000), 10, None).await;
    for read in 1..=10 {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().len(), CHUNK_BYTES);
        tokio::time::sleep(Duration::from_millis(2)).await;
        let made = query.made.load(Ordering::Relaxed);
        assert!(made <= read + 1, "{made} made when {read} were read");
        assert!(read == 10 || query.slots.running() == 1, "{read}");
    }
    assert!(body.frame().await.is_none());
    assert!(body.frame().await.is_none(), "after the end is nothing");
    assert_eq!(query.outcome().await, "answered");
}

#[tokio::test]
async fn a_small_answer_is_whole_and_leaves_its_slot_at_once() {
    let query = Query::new();
    let slot = query.slots.enter(Language::Sql).await.unwrap();
    let parts = ["ab", "", "c"].map(|part| Ok(Bytes::from(part)));
    let body = pace(1000).body(stream::iter(parts), slot).await.unwrap();
    assert_eq!(query.outcome().await, "answered");
    assert_eq!(
        axum::body::HttpBody::size_hint(&body).exact(),
        Some(3),
        "with its length"
    );
    assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
}

#[tokio::test]
async fn a_body_that_is_not_polled_ends_its_query() {
    let query = Query::new();
    let mut body = query.body(&pace(20), 10, None).await;
    assert_eq!(query.outcome().await, "stalled");
    assert_eq!(query.made.load(Ordering::Relaxed), 1);
    // The chunk that was waiting, and then an error.
    assert!(body.frame().await.unwrap().is_ok());
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_reader_of_a_trickle_has_the_time_of_a_query() {
    let query = Query::new();
    let pace = Pace {
        answer_timeout: Duration::from_millis(50),
        ..pace(60_000)
    };
    let body = query.body(&pace, 10, None).await;
    assert_eq!(query.outcome().await, "timed_out");
    drop(body);
}

#[tokio::test]
async fn a_dropped_body_ends_its_query_at_once() {
    let query = Query::new();
    drop(query.body(&pace(60_000), 10, None).await);
    assert_eq!(query.outcome().await, "cancelled");
    // Also while a chunk is being computed.
    let query = Query::new();
    let slot = query.slots.enter(Language::Sql).await.unwrap();
    let head = stream::iter([Ok(Bytes::from(vec![b'x'; CHUNK_BYTES]))]);
    let chunks = head.chain(stream::pending());
    let mut body = pace(60_000).body(chunks, slot).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(query.slots.running(), 1);
    drop(body);
    assert_eq!(query.outcome().await, "cancelled");
}

#[tokio::test]
async fn failures_have_a_status_before_the_first_chunk_and_break_the_body_after_it() {
    let failure = || ServiceError::new(Code::Limited, "too much");
    let query = Query::new();
    let body = query.body(&pace(1000), 2, Some(failure())).await;
    assert!(body.collect().await.is_err());
    assert_eq!(query.outcome().await, "limited");
    let query = Query::new();
    let slot = query.slots.enter(Language::Sql).await.unwrap();
    let chunks = stream::iter([Ok(Bytes::from_static(b"x")), Err(failure())]);
    let error = pace(1000).body(chunks, slot).await.unwrap_err();
    assert_eq!(error.message, failure().message);
    assert_eq!(query.outcome().await, "limited");
}

#[tokio::test]
async fn a_panic_breaks_the_body() {
    let query = Query::new();
    let slot = query.slots.enter(Language::Sql).await.unwrap();
    let chunks = (0..2).map(|at| {
        assert!(at == 0, "a defect, provoked by this test");
        Ok(Bytes::from(vec![b'x'; CHUNK_BYTES]))
    });
    let body = pace(1000).body(stream::iter(chunks), slot).await.unwrap();
    assert!(body.collect().await.is_err());
    assert_eq!(query.outcome().await, "failed");
}

#[tokio::test]
async fn items_come_one_by_one_and_end_with_what_went_wrong() {
    let pace = pace(60_000);
    let items = async |items: Vec<Result<usize, ServiceError>>, length| {
        let slot = QuerySlots::new(1, Duration::ZERO)
            .enter(Language::Sql)
            .await
            .unwrap();
        let items = pace.items(stream::iter(items), length, slot).await?;
        let items: Vec<_> = items
            .map(|item| item.map_err(|e| e.message))
            .collect()
            .await;
        Ok::<_, ServiceError>(items)
    };
    let failure = || Err(ServiceError::new(Code::Limited, "too much"));
    let small = |_: &usize| 1;
    let large = |_: &usize| CHUNK_BYTES;
    let expected = vec![Ok(1), Ok(2)];
    assert_eq!(items(vec![Ok(1), Ok(2)], small).await.unwrap(), expected);
    assert_eq!(items(vec![Ok(1), Ok(2)], large).await.unwrap(), expected);
    let early = items(vec![Ok(1), failure()], small).await.unwrap_err();
    assert_eq!(early.code, Code::Limited);
    let late = items(vec![Ok(1), failure()], large).await.unwrap();
    assert_eq!(late, [Ok(1), Err("too much".to_owned())]);
}
