use std::time::Duration;

use super::*;

/// A thousand bytes of memory: bodies 50, parsing 100, buffer 200, queries 200, caches 100,
/// merges 100.
fn budget() -> Arc<MemoryBudget> {
    Arc::new(MemoryBudget::new(1000))
}

#[test]
fn guarantees_leave_room_for_what_is_not_counted() {
    let guaranteed: usize = Share::ALL.into_iter().map(Share::percent).sum();
    assert_eq!(guaranteed, 100 - UNCOUNTED);
}

#[test]
fn a_share_borrows_half_of_what_others_leave() {
    let budget = budget();
    // 200 of its own, and half of the 550 of the others.
    assert_eq!(budget.limit(Share::Queries), 475);
    let held = budget.try_reserve(Share::Queries, 475).unwrap();
    let refused = budget.try_reserve(Share::Queries, 1).unwrap_err();
    assert_eq!(
        refused,
        OutOfMemory {
            share: Share::Queries,
            wanted: 1,
            used: 475,
            limit: 475
        }
    );
    assert!(refused.to_string().contains("memory_bytes"), "{refused}");
    assert_eq!(budget.state(Share::Queries).refused, 1);
    drop(held);
    assert_eq!((budget.used(), budget.state(Share::Queries).peak), (0, 475));
}

#[test]
fn half_of_every_guarantee_is_free_at_once_whatever_others_borrowed() {
    let budget = budget();
    let _queries = budget.try_reserve(Share::Queries, 475).unwrap();
    let _buffer = budget.try_reserve(Share::Buffer, 100).unwrap();
    let _merges = budget.try_reserve(Share::Merges, 50).unwrap();
    assert!(budget.used() <= 750);
}

#[test]
fn all_together_never_hold_more_than_the_guarantees() {
    let budget = budget();
    let mut held = Vec::new();
    for round in 0..1000 {
        let share = Share::ALL[round % Share::ALL.len()];
        held.extend(budget.try_reserve(share, 1 + round % 7));
        assert!(budget.used() <= 750, "{}", budget.used());
    }
    assert!(budget.used() > 700, "{}", budget.used());
}

#[tokio::test(start_paused = true)]
async fn a_guarantee_that_others_hold_comes_back_to_its_owner() {
    let budget = budget();
    let mut queries = budget.try_reserve(Share::Queries, 475).unwrap();
    let _caches = budget.try_reserve(Share::Caches, 100).unwrap();
    let owner = tokio::spawn({
        let budget = Arc::clone(&budget);
        async move { budget.reserve(Share::Buffer, 200).await.unwrap().bytes() }
    });
    tokio::time::timeout(Duration::from_secs(1), budget.recalled())
        .await
        .ok();
    assert_eq!(budget.state(Share::Buffer).waiting, 1);
    // The borrower gives back, and borrows nothing while the owner waits.
    queries.shrink(5);
    assert!(budget.try_reserve(Share::Queries, 5).is_err());
    queries.shrink(100);
    assert_eq!(owner.await.unwrap(), 200);
    assert_eq!(budget.state(Share::Buffer).waiting, 0);
}

#[tokio::test]
async fn what_can_never_fit_is_refused_at_once() {
    let budget = budget();
    let refused = budget.reserve(Share::Bodies, 401).await.unwrap_err();
    assert_eq!((refused.wanted, refused.share), (401, Share::Bodies));
    assert_eq!(budget.most(Share::Bodies), 400);
}

#[test]
fn a_cap_bounds_a_share_and_what_it_leaves_is_nobodys_guarantee() {
    let budget = Arc::new(MemoryBudget::new(1000).with_cap(Share::Caches, 20));
    assert!(budget.try_reserve(Share::Caches, 21).is_err());
    let _all = budget.try_reserve(Share::Caches, 20).unwrap();
}

#[test]
fn parts_of_a_reservation_are_given_back_once() {
    let budget = budget();
    let mut whole = budget.try_reserve(Share::Queries, 100).unwrap();
    let part = whole.split(40);
    assert_eq!((whole.bytes(), part.bytes(), budget.used()), (60, 40, 100));
    whole.merge(part);
    whole.try_resize(10).unwrap();
    assert_eq!(budget.used(), 10);
    whole.grow(10_000);
    assert!(budget.try_reserve(Share::Bodies, 1).is_err());
    drop(whole);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_counted_is_missing_to_those_that_can_wait() {
    let budget = budget();
    let held = budget.try_reserve(Share::Queries, 100).unwrap();
    // A thousand bytes of process, of which 250 may go uncounted.
    budget.observe(350, 1000);
    drop(budget.try_reserve(Share::Merges, 300).unwrap());
    budget.observe(950, 1000);
    assert!(budget.try_reserve(Share::Merges, 51).is_err());
    assert!(budget.try_reserve(Share::Queries, 51).is_err());
    drop(budget.try_reserve(Share::Queries, 50).unwrap());
    // Writes do not notice.
    drop(budget.try_reserve(Share::Buffer, 200).unwrap());
    let waiting = tokio::spawn({
        let budget = Arc::clone(&budget);
        async move { budget.reserve(Share::Queries, 51).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.state(Share::Queries).waiting, 1);
    budget.observe(350, 1000);
    waiting.await.unwrap().unwrap();
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn not_all_work_that_must_be_done_without_room_is_done_at_once() {
    let budget = budget();
    let everything = budget.try_reserve(Share::Queries, 475).unwrap();
    let patience = Duration::from_secs(1);
    let merge = budget.reserve_within(Share::Merges, 700, patience).await;
    let first = budget.reserve_within(Share::Merges, 700, patience).await;
    assert_eq!(budget.state(Share::Merges).used, 1400);
    let mut second = Box::pin(budget.reserve_within(Share::Merges, 700, patience));
    let long = Duration::from_secs(60);
    assert!(tokio::time::timeout(long, &mut second).await.is_err());
    drop(first);
    assert_eq!(second.await.bytes(), 700);
    // Or there is room.
    let third = budget.reserve_within(Share::Merges, 700, patience).await;
    let mut fourth = Box::pin(budget.reserve_within(Share::Merges, 60, patience));
    assert!(tokio::time::timeout(long, &mut fourth).await.is_err());
    drop((everything, merge));
    drop(third);
    assert_eq!(fourth.await.bytes(), 60);
}
