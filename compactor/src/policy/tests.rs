//! Small cases of the policy, and what it must keep true of any history.

use tidelake_catalog::model::Day;
use tidelake_catalog::snapshot::SegmentId;

use super::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// A day that is over, and one that is not, both being day 0.
const LATER: i64 = 10 * DAY;
const DURING: i64 = DAY / 2;

fn segment(level: u8, order: u64, hours: (i64, i64), bytes: u64) -> Arc<SegmentMeta> {
    Arc::new(SegmentMeta {
        id: SegmentId::from_parts(1, u128::from(order)),
        database: "d".into(),
        table: "t".into(),
        table_id: 2,
        day: Day(0),
        level,
        order: (order, order),
        time: TimeRange::new(hours.0 * HOUR, hours.1 * HOUR - 1),
        rows: 1,
        series: 1,
        data_bytes: bytes,
        index_bytes: 0,
        data_checksum: 0,
        index_tail_bytes: 0,
        index_checksum: 0,
        sort_tags: Vec::new().into(),
        deletes_applied: 0,
    })
}

fn plan(segments: &[Arc<SegmentMeta>], goal: Goal, now_ms: i64) -> Option<(Vec<u64>, u8, usize)> {
    // Handed over in any order: the policy sorts by write order.
    let shuffled: Vec<_> = segments.iter().rev().cloned().collect();
    let plan = Levels::of(&shuffled, TimeUnit::Millisecond).plan(goal, now_ms)?;
    Some((
        plan.segments.iter().map(|s| s.order.1).collect(),
        plan.level,
        plan.windows.len(),
    ))
}

fn fresh(count: u64, hours: (i64, i64), bytes: u64) -> Vec<Arc<SegmentMeta>> {
    (1..=count)
        .map(|order| segment(0, order, hours, bytes))
        .collect()
}

#[test]
fn full_brings_everything_to_the_day_and_then_rests() {
    assert_eq!(
        plan(&fresh(1, (0, 1), 10), Goal::Full, DURING),
        Some((vec![1], 2, 1))
    );
    assert_eq!(
        plan(&[segment(2, 1, (0, 24), 10)], Goal::Full, DURING),
        None
    );
    let mixed = [
        segment(2, 1, (0, 24), 10),
        segment(1, 2, (0, 2), 10),
        segment(0, 3, (0, 9), 10),
    ];
    assert_eq!(
        plan(&mixed, Goal::Full, DURING),
        Some((vec![1, 2, 3], 2, 1))
    );
}

#[test]
fn a_running_day_waits_for_two_hours_of_flushes() {
    assert_eq!(plan(&fresh(11, (2, 3), 10), Goal::Steady, DURING), None);
    // All of them, cut at every window that they touch.
    assert_eq!(
        plan(&fresh(12, (3, 5), 10), Goal::Steady, DURING),
        Some(((1..=12).collect(), 1, 2))
    );
}

#[test]
fn only_the_windows_that_fresh_rows_touch_are_rewritten() {
    let mut segments = vec![segment(1, 1, (0, 2), 50), segment(1, 2, (2, 4), 50)];
    segments.extend((3..=14).map(|order| segment(0, order, (3, 4), 10)));
    assert_eq!(
        plan(&segments, Goal::Steady, DURING),
        Some(((2..=14).collect(), 1, 1))
    );
}

#[test]
fn late_rows_wait_until_they_are_as_many_as_what_they_would_rewrite() {
    let day: Vec<_> = (1..=12)
        .map(|number| segment(1, number, (2 * number as i64 - 2, 2 * number as i64), 1000))
        .collect();
    let with = |count: u64, bytes: u64| {
        day.iter()
            .cloned()
            .chain((13..13 + count).map(move |o| segment(0, o, (0, 24), bytes)))
            .collect::<Vec<_>>()
    };
    assert_eq!(plan(&with(12, 10), Goal::Steady, DURING), None);
    // Meanwhile sixteen of a size become one.
    assert_eq!(
        plan(&with(16, 10), Goal::Steady, DURING),
        Some(((13..29).collect(), 0, 1))
    );
    assert_eq!(
        plan(&with(12, 1000), Goal::Steady, DURING).map(|(_, level, windows)| (level, windows)),
        Some((1, 12))
    );
}

#[test]
fn a_day_that_is_over_becomes_one() {
    let segments = [segment(1, 1, (0, 2), 10), segment(0, 2, (0, 24), 10)];
    assert_eq!(plan(&segments, Goal::Steady, DURING), None);
    assert_eq!(
        plan(&segments, Goal::Steady, DAY + HOUR + 1),
        Some((vec![1, 2], 2, 1))
    );
}

#[test]
fn a_large_day_is_not_rewritten_for_a_little() {
    let late = |day_bytes, late_bytes| {
        [
            segment(2, 1, (0, 24), day_bytes),
            segment(0, 2, (0, 1), late_bytes),
        ]
    };
    assert_eq!(plan(&late(1 << 30, 1 << 20), Goal::Steady, LATER), None);
    assert_eq!(
        plan(&late(1 << 30, 1 << 27), Goal::Steady, LATER),
        Some((vec![1, 2], 2, 1))
    );
    // A small one is, once nothing has come for a while.
    assert_eq!(
        plan(&late(1 << 20, 1), Goal::Steady, LATER),
        Some((vec![1, 2], 2, 1))
    );
    let now = DAY + HOUR + 1;
    let just_come = [
        segment(2, 1, (0, 24), 1 << 20),
        Arc::new(SegmentMeta {
            id: SegmentId::from_parts(now as u64, 7),
            ..(*segment(0, 2, (0, 1), 1)).clone()
        }),
    ];
    assert_eq!(plan(&just_come, Goal::Steady, now), None);
}

#[test]
fn many_inputs_are_merged_in_steps() {
    let many = fresh(200, (0, 24), 10);
    assert_eq!(
        plan(&many, Goal::Full, LATER).map(|(orders, level, _)| (orders.len(), level)),
        Some((MAX_INPUTS, 0))
    );
}

fn table(tombstones: Vec<Tombstone>) -> Table {
    Table {
        name: "t".into(),
        id: 2,
        schema: Arc::new(tidelake_catalog::model::TableSchema::metrics()),
        retention: Default::default(),
        tombstones: Arc::new(tombstones.into_iter().map(Arc::new).collect()),
        days: Default::default(),
    }
}

#[test]
fn what_is_expired_goes_whole_and_the_rest_is_cut_when_it_is_merged() {
    let segments = [
        segment(1, 1, (0, 2), 10),
        segment(1, 2, (2, 4), 10),
        segment(0, 3, (0, 9), 10),
    ];
    let kept = |hour: i64| TimeRange::new(hour * HOUR, i64::MAX);
    let plan = |hour| {
        plan_day(
            &table(Vec::new()),
            &segments,
            &HashSet::new(),
            kept(hour),
            Goal::Full,
            LATER,
        )
        .unwrap()
    };
    let orders = |plan: &Plan| plan.segments.iter().map(|s| s.order.1).collect::<Vec<_>>();
    let gone = plan(4);
    assert_eq!((orders(&gone), gone.windows.len()), (vec![1, 2], 0));
    let all = plan(9);
    assert_eq!((orders(&all), all.windows.len()), (vec![1, 2, 3], 0));
    let cut = plan(1);
    assert_eq!(
        (orders(&cut), &cut.windows[..]),
        (vec![1, 2, 3], &[kept(1)][..])
    );
}

#[test]
fn deletes_are_applied_in_place_when_nothing_else_is_to_be_done() {
    let segments = [segment(2, 3, (0, 12), 10), segment(2, 5, (12, 24), 10)];
    let delete = |sequence, hours: (i64, i64)| Tombstone {
        sequence,
        time_ms: LATER,
        matchers: Vec::new(),
        range: TimeRange::new(hours.0 * HOUR, hours.1 * HOUR - 1),
    };
    let plan = |deletes: Vec<Tombstone>, goal, now| {
        let plan = plan_day(
            &table(deletes),
            &segments,
            &HashSet::new(),
            TimeRange::ALL,
            goal,
            now,
        )?;
        Some((
            plan.segments.iter().map(|s| s.order.1).collect::<Vec<_>>(),
            plan.level,
        ))
    };
    assert_eq!(
        plan(vec![delete(4, (3, 20))], Goal::Steady, LATER),
        None,
        "it waits for others"
    );
    assert_eq!(
        plan(
            vec![delete(4, (3, 20))],
            Goal::Steady,
            LATER + DELETES_WAIT_MS
        ),
        Some((vec![3], 2))
    );
    assert_eq!(
        plan(vec![delete(4, (3, 20))], Goal::Full, LATER),
        Some((vec![3], 2))
    );
    assert_eq!(
        plan(vec![delete(6, (13, 20))], Goal::Full, LATER),
        Some((vec![5], 2)),
        "only where it has rows"
    );
    let held = segments.iter().map(|segment| segment.id).collect();
    assert_eq!(
        plan_day(
            &table(vec![delete(4, (3, 20))]),
            &segments,
            &held,
            TimeRange::ALL,
            Goal::Full,
            LATER
        ),
        None,
        "unreadable"
    );
    let applied = [
        Arc::new(SegmentMeta {
            deletes_applied: 4,
            ..(*segments[0]).clone()
        }),
        segments[1].clone(),
    ];
    assert_eq!(
        plan_day(
            &table(vec![delete(4, (3, 20))]),
            &applied,
            &HashSet::new(),
            TimeRange::ALL,
            Goal::Full,
            LATER
        ),
        None
    );
}
