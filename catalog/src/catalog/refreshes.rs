use std::pin::pin;

use futures::future::join_all;
use futures::poll;

use super::tests::open;
use super::*;

#[tokio::test]
async fn refreshes_at_a_time_ask_once_and_later_ones_again() {
    let store = Store::memory();
    let (other, own) = (open(&store, "a").await, open(&store, "b").await);
    other.create_database("x").await.unwrap();
    let begun = || own.refreshes.begun.load(Ordering::SeqCst);
    let before = begun();
    let writing = own.writing.lock().await;
    let mut calls = pin!(join_all((0..20).map(|_| own.refresh())));
    assert!(poll!(&mut calls).is_pending());
    drop(writing);
    for found in calls.await {
        assert!(found.unwrap().database("x").is_some());
    }
    assert_eq!(begun() - before, 1);
    other.create_database("y").await.unwrap();
    assert!(own.refresh().await.unwrap().database("y").is_some());
}
