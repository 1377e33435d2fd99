//! What the policy does around segments that cannot be read, in small cases and in random
//! histories.

use proptest::prelude::*;
use tidelake_catalog::model::Day;

use super::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const LATER: i64 = 10 * DAY;

fn segment(level: u8, order: u64, hours: (i64, i64)) -> Arc<SegmentMeta> {
    Arc::new(SegmentMeta {
        id: SegmentId::from_parts(
            1,
            (u128::from(order) << 32) + (u128::from(level) << 16) + hours.0 as u128,
        ),
        database: "d".into(),
        table: "t".into(),
        table_id: 2,
        day: Day(0),
        level,
        order: (order, order),
        time: TimeRange::new(hours.0 * HOUR, hours.1 * HOUR - 1),
        rows: 1,
        series: 1,
        data_bytes: 10,
        index_bytes: 0,
        data_checksum: 0,
        index_tail_bytes: 0,
        index_checksum: 0,
        sort_tags: Vec::new().into(),
        deletes_applied: 0,
    })
}

/// Orders and level of the plan for a day that is over.
fn plan(segments: &[Arc<SegmentMeta>], held: &[u64], goal: Goal) -> Option<(Vec<u64>, u8)> {
    let held = segments
        .iter()
        .filter(|s| held.contains(&s.order.1))
        .map(|s| s.id)
        .collect();
    let plan = Levels::of(segments, TimeUnit::Millisecond)
        .holding(&held)
        .plan(goal, LATER)?;
    Some((
        plan.segments.iter().map(|s| s.order.1).collect(),
        plan.level,
    ))
}

fn fresh(orders: std::ops::RangeInclusive<u64>) -> Vec<Arc<SegmentMeta>> {
    orders.map(|order| segment(0, order, (0, 24))).collect()
}

#[test]
fn what_is_older_than_a_held_segment_goes_on_and_what_is_newer_becomes_one() {
    let mut segments = fresh(1..=9);
    assert_eq!(
        plan(&segments, &[5], Goal::Full),
        Some((vec![1, 2, 3, 4], 2))
    );
    segments.drain(..4);
    segments.push(segment(2, 4, (0, 24)));
    assert_eq!(
        plan(&segments, &[5], Goal::Full),
        Some((vec![6, 7, 8, 9], 0))
    );
    let rest = [
        segment(2, 4, (0, 24)),
        segment(0, 5, (0, 24)),
        segment(0, 9, (0, 24)),
    ];
    assert_eq!(plan(&rest, &[5], Goal::Full), None);
    assert_eq!(plan(&rest, &[5], Goal::Steady), None);
    // It was restored.
    assert_eq!(plan(&rest, &[], Goal::Full), Some((vec![4, 5, 9], 2)));
}

#[test]
fn a_held_window_stays_and_others_are_written() {
    let segments = [
        segment(1, 1, (0, 2)),
        segment(1, 2, (2, 4)),
        segment(0, 3, (2, 3)),
        segment(0, 4, (0, 1)),
        segment(0, 5, (3, 4)),
    ];
    assert_eq!(plan(&segments, &[1], Goal::Full), Some((vec![2, 3], 1)));
    assert_eq!(plan(&segments, &[2], Goal::Full), Some((vec![3, 4, 5], 0)));
}

#[test]
fn a_held_day_stays_and_windows_are_written() {
    let segments = [
        segment(2, 1, (0, 24)),
        segment(1, 2, (0, 2)),
        segment(0, 3, (0, 4)),
    ];
    assert_eq!(plan(&segments, &[1], Goal::Full), Some((vec![2, 3], 1)));
    assert_eq!(plan(&segments[..2], &[1], Goal::Full), None);
}

/// One day under a history of flushes, damage, repairs and merges.
struct History {
    segments: Vec<Arc<SegmentMeta>>,
    held: HashSet<SegmentId>,
    next_order: u64,
    merges: u64,
}

impl History {
    fn flush(&mut self, from: i64, hours: i64, bytes: u64) {
        let (order, time) = (self.next_order, (from, (from + hours).min(24)));
        self.next_order += 1;
        let fresh = (*segment(0, order, time)).clone();
        self.segments.push(Arc::new(SegmentMeta {
            data_bytes: bytes,
            ..fresh
        }));
    }

    /// Merges until nothing is left to.
    fn merge_all(&mut self, goal: Goal, now: i64) {
        for round in 0.. {
            assert!(round < 1000, "merging does not rest");
            let Some(plan) = Levels::of(&self.segments, TimeUnit::Millisecond)
                .holding(&self.held)
                .plan(goal, now)
            else {
                return;
            };
            self.merge(&plan);
        }
    }

    fn merge(&mut self, plan: &Plan) {
        let is_input = |s: &SegmentMeta| plan.segments.iter().any(|input| input.id == s.id);
        assert!(
            plan.segments.iter().all(|s| !self.held.contains(&s.id)),
            "a held segment is no input"
        );
        assert!(
            plan.segments.len() > 1 || plan.segments[0].level < plan.level,
            "a merge that changes nothing"
        );
        let result = plan.segments.iter().map(|s| s.order.1).max().unwrap();
        for stays in self.segments.iter().filter(|s| !is_input(s)) {
            for input in plan
                .segments
                .iter()
                .filter(|input| input.time.overlaps(&stays.time))
            {
                let (before, after) = (stays.order.1 < input.order.1, stays.order.1 < result);
                assert_eq!(
                    before, after,
                    "merging {:?} into {result} passes over {:?}",
                    input.order, stays.order
                );
            }
        }
        let orders = (
            plan.segments.iter().map(|s| s.order.0).min().unwrap(),
            result,
        );
        let bytes: u64 = plan.segments.iter().map(|s| s.data_bytes).sum();
        self.segments.retain(|s| !is_input(s));
        for window in &plan.windows {
            let times = plan
                .segments
                .iter()
                .map(|s| s.time.intersect(window))
                .filter(|time| !time.is_empty());
            let Some(time) = times.reduce(|a, b| a.union(&b)) else {
                continue;
            };
            self.merges += 1;
            let merged = (*segment(plan.level, result, (0, 1))).clone();
            let id = SegmentId::from_parts(1, (1u128 << 70) + u128::from(self.merges));
            self.segments.push(Arc::new(SegmentMeta {
                id,
                order: orders,
                time,
                data_bytes: bytes,
                ..merged
            }));
        }
        self.check_levels();
    }

    /// Levels 1 and 2 do not overlap within themselves, and lower levels are newer.
    fn check_levels(&self) {
        for (at, a) in self.segments.iter().enumerate() {
            for b in &self.segments[at + 1..] {
                assert!(
                    a.level == 0 || a.level != b.level || !a.time.overlaps(&b.time),
                    "{a:?} and {b:?} overlap"
                );
                let (upper, lower) = if a.level > b.level { (a, b) } else { (b, a) };
                let is_newer = lower.order.1 > upper.order.1
                    || upper.level == lower.level
                    || !upper.time.overlaps(&lower.time);
                assert!(is_newer, "{lower:?} is older than {upper:?}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Flush { from: i64, hours: i64, bytes: u64 },
    Damage(prop::sample::Index),
    Repair,
    Merge { full: bool, now: i64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let flush = || {
        (0..24i64, 1..6i64, 1..100_000u64).prop_map(|(from, hours, bytes)| Event::Flush {
            from,
            hours,
            bytes,
        })
    };
    let merge = (any::<bool>(), 0..3i64).prop_map(|(full, day)| Event::Merge {
        full,
        now: DAY / 2 + day * DAY,
    });
    let event = prop_oneof![
        8 => flush(),
        2 => any::<prop::sample::Index>().prop_map(Event::Damage),
        1 => Just(Event::Repair),
        2 => merge,
    ];
    proptest::collection::vec(event, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_damage_lets_a_merge_pass_over_what_stays(events in events()) {
        let mut history = History { segments: Vec::new(), held: HashSet::new(), next_order: 1, merges: 0 };
        for event in events {
            match event {
                Event::Flush { from, hours, bytes } => history.flush(from, hours, bytes),
                Event::Damage(index) if !history.segments.is_empty() => {
                    let id = history.segments[index.index(history.segments.len())].id;
                    history.held.insert(id);
                }
                Event::Damage(_) => {}
                Event::Repair => history.held.clear(),
                Event::Merge { full, now } => history.merge_all(if full { Goal::Full } else { Goal::Steady }, now),
            }
        }
        // Whatever was damaged: once it is restored everything becomes one.
        history.held.clear();
        history.merge_all(Goal::Full, LATER);
        prop_assert!(history.segments.len() <= 1);
    }

    #[test]
    fn damage_never_blocks_writes_for_ever(flushes in 1..400usize, damaged in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let mut history = History { segments: Vec::new(), held: HashSet::new(), next_order: 1, merges: 0 };
        (0..flushes).for_each(|_| history.flush(0, 2, 10));
        for index in damaged {
            history.held.insert(history.segments[index.index(flushes)].id);
        }
        history.merge_all(Goal::Steady, DAY / 2);
        let levels = Levels::of(&history.segments, TimeUnit::Millisecond).holding(&history.held);
        prop_assert!(levels.runs().all(|run| run.len() <= MAX_INPUTS));
    }
}
