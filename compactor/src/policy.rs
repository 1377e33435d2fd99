//! Which segments to merge: a pure function of the catalog's state.

use std::sync::Arc;

use tidelake_catalog::snapshot::{SegmentMeta, Snapshot};

/// So many segments of one level and day are merged into one of the next level.
pub const FAN_IN: usize = 8;

/// Segments of one table and day to be merged, in write order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The inputs.
    pub segments: Vec<Arc<SegmentMeta>>,
    /// The level of the result.
    pub level: u8,
}

/// How much to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// What pays in the long run: levels that are full.
    Steady,
    /// Everything of a day into one, in the encoding of merged segments.
    Full,
}

/// What there is to merge.
pub fn plans(snapshot: &Snapshot, goal: Goal) -> Vec<Plan> {
    let days = snapshot.databases().flat_map(|d| d.tables.values()).flat_map(|table| table.days.values());
    days.filter_map(|segments| plan_day(segments, goal)).collect()
}

fn plan_day(segments: &[Arc<SegmentMeta>], goal: Goal) -> Option<Plan> {
    let mut sorted = segments.to_vec();
    sorted.sort_by_key(|s| s.order);
    let level = |segments: &[Arc<SegmentMeta>]| segments.iter().map(|s| s.level).max().unwrap_or(0).saturating_add(1);
    match goal {
        // A segment as it was flushed is merged alone too, for the better encoding.
        Goal::Full => (sorted.len() > 1 || level(&sorted) == 1).then(|| Plan { level: level(&sorted), segments: sorted }),
        // Later writes are at the end, in lower levels: a run of one level is a run in write order.
        Goal::Steady => sorted
            .chunk_by(|a, b| a.level == b.level)
            .rfind(|run| run.len() >= FAN_IN)
            .map(|run| Plan { level: level(run), segments: run.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::model::{Day, TimeRange};
    use tidelake_catalog::snapshot::SegmentId;

    use super::*;

    fn segment(level: u8, order: u64) -> Arc<SegmentMeta> {
        Arc::new(SegmentMeta {
            id: SegmentId(u128::from(order)),
            database: "d".into(),
            table: "t".into(),
            day: Day(0),
            level,
            order: (order, order),
            time: TimeRange::new(0, 1),
            rows: 1,
            series: 1,
            data_bytes: 1,
            index_bytes: 1,
            data_checksum: 0,
            index_checksum: 0,
            sort_tags: Vec::new().into(),
        })
    }

    fn check(levels: &[u8], goal: Goal, expected: Option<(Vec<u64>, u8)>) {
        // Handed over in any order: the policy sorts by write order.
        let segments: Vec<_> =
            (1..).zip(levels).map(|(order, &level)| segment(level, order)).collect::<Vec<_>>().into_iter().rev().collect();
        let plan = plan_day(&segments, goal).map(|p| (p.segments.iter().map(|s| s.order.0).collect(), p.level));
        assert_eq!(plan, expected, "{levels:?}");
    }

    #[test]
    fn full_merges_all_of_a_day_and_leaves_a_single_merged_segment_alone() {
        check(&[0], Goal::Full, Some((vec![1], 1)));
        check(&[1], Goal::Full, None);
        check(&[1, 0, 0], Goal::Full, Some((vec![1, 2, 3], 2)));
    }

    #[test]
    fn steady_merges_a_full_level_and_nothing_else() {
        check(&[0; 7], Goal::Steady, None);
        check(&[0; 8], Goal::Steady, Some(((1..=8).collect(), 1)));
        check(&[1, 1, 0, 0, 0, 0, 0, 0, 0, 0], Goal::Steady, Some(((3..=10).collect(), 1)));
        check(&[1; 8], Goal::Steady, Some(((1..=8).collect(), 2)));
    }
}
