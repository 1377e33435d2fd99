//! Buckets of exponential histograms and of histograms with explicit bounds, as spans and counts.

use tidelake_catalog::model::Span;

/// Empty buckets that are written out between two others; more are a gap between two spans.
const MAX_FILLED: i64 = 2;

/// Spans of buckets and the counts in them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) spans: Vec<Span>,
    pub(super) counts: Vec<f64>,
    /// All observations in the buckets.
    pub(super) total: u128,
}

/// Lays out consecutive counts of which the first has the index `offset`. Each `2^scale_down`
/// neighbours become one bucket, and `shift` is added to its index.
///
/// Buckets without observations at both ends are left out.
///
/// # Errors
/// If an index is beyond those that a histogram can have.
pub(super) fn layout(
    counts: impl IntoIterator<Item = u64>,
    offset: i64,
    scale_down: u32,
    shift: i64,
) -> Result<Layout, String> {
    let mut layout = Layout::default();
    // Index and count of the bucket that neighbours are still added to.
    let mut open: Option<(i64, u128)> = None;
    // Index after the last bucket that was laid out.
    let mut end = None;
    // A shift by more bits than there are would be one by fewer.
    let scale_down = scale_down.min(63);
    for (place, count) in counts.into_iter().enumerate() {
        if count == 0 {
            continue;
        }
        let index = ((offset + place as i64) >> scale_down) + shift;
        match &mut open {
            Some((at, sum)) if *at == index => *sum += u128::from(count),
            _ => {
                if let Some((at, sum)) = open.replace((index, u128::from(count))) {
                    layout.push(&mut end, at, sum)?;
                }
            }
        }
    }
    if let Some((at, sum)) = open {
        layout.push(&mut end, at, sum)?;
    }
    Ok(layout)
}

impl Layout {
    fn push(&mut self, end: &mut Option<i64>, index: i64, count: u128) -> Result<(), String> {
        let beyond = || format!("the bucket {index} is beyond those that a histogram can have");
        let gap = index - end.unwrap_or(0);
        match self.spans.last_mut() {
            Some(span) if gap <= MAX_FILLED => {
                self.counts.extend((0..gap).map(|_| 0.0));
                span.length += gap as u32 + 1;
            }
            _ => self.spans.push(Span {
                offset: i32::try_from(gap).map_err(|_| beyond())?,
                length: 1,
            }),
        }
        i32::try_from(index).map_err(|_| beyond())?;
        self.counts.push(count as f64);
        self.total += count;
        *end = Some(index + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans as offset and length, and counts.
    #[track_caller]
    fn check(counts: &[u64], offset: i64, scale_down: u32, spans: &[(i32, u32)], expected: &[f64]) {
        let layout = layout(counts.iter().copied(), offset, scale_down, 1).unwrap();
        let found: Vec<_> = layout.spans.iter().map(|s| (s.offset, s.length)).collect();
        assert_eq!(found, spans, "{counts:?} at {offset} by {scale_down}");
        assert_eq!(
            layout.counts, expected,
            "{counts:?} at {offset} by {scale_down}"
        );
        let total: u64 = counts.iter().sum();
        assert_eq!(layout.total, u128::from(total));
    }

    #[test]
    fn neighbours_are_merged_and_gaps_are_left() {
        let four = &[4, 3, 2, 1];
        check(four, 0, 0, &[(1, 4)], &[4.0, 3.0, 2.0, 1.0]);
        check(four, 0, 1, &[(1, 2)], &[7.0, 3.0]);
        check(four, 0, 2, &[(1, 1)], &[10.0]);
        check(four, 1, 0, &[(2, 4)], &[4.0, 3.0, 2.0, 1.0]);
        check(four, 1, 1, &[(1, 3)], &[4.0, 5.0, 1.0]);
        check(four, 1, 2, &[(1, 2)], &[9.0, 1.0]);

        let far = &[4, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        check(far, 4, 0, &[(5, 4), (12, 1)], &[4.0, 2.0, 0.0, 2.0, 1.0]);
        check(far, 4, 1, &[(3, 2), (6, 1)], &[6.0, 2.0, 1.0]);
        check(far, 4, 2, &[(2, 1), (3, 1)], &[8.0, 1.0]);

        let near = &[4, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        check(near, 4, 0, &[(5, 4), (8, 1)], &[4.0, 2.0, 0.0, 2.0, 1.0]);
        check(near, 4, 1, &[(3, 2), (4, 1)], &[6.0, 2.0, 1.0]);
        check(near, 4, 2, &[(2, 4)], &[8.0, 0.0, 0.0, 1.0]);

        let below = &[3, 1, 0, 0, 0, 1];
        check(below, -2, 0, &[(-1, 2), (3, 1)], &[3.0, 1.0, 1.0]);
        check(below, -2, 1, &[(0, 3)], &[4.0, 0.0, 1.0]);
        check(below, -2, 2, &[(0, 2)], &[4.0, 1.0]);

        let ones = &[3, 1, 0, 1, 0, 1];
        check(ones, -2, 0, &[(-1, 6)], &[3.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        check(ones, -2, 1, &[(0, 3)], &[4.0, 1.0, 1.0]);
        check(ones, -2, 2, &[(0, 2)], &[4.0, 2.0]);

        let twos = &[3, 0, 0, 1, 0, 0, 1];
        check(
            twos,
            -2,
            0,
            &[(-1, 7)],
            &[3.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        );
        check(twos, -2, 1, &[(0, 4)], &[3.0, 1.0, 0.0, 1.0]);
        check(twos, -2, 2, &[(0, 3)], &[3.0, 1.0, 1.0]);

        check(&[], 0, 0, &[], &[]);
        check(&[0, 0], 5, 1, &[], &[]);
    }

    #[test]
    fn buckets_after_empty_ones_keep_their_place() {
        // Prometheus counts the first of two merged neighbours one bucket too low here.
        check(&[5, 0, 0, 0, 3, 2], 0, 1, &[(1, 3)], &[5.0, 0.0, 5.0]);
        check(&[0, 0, 1, 1], 0, 1, &[(2, 1)], &[2.0]);
    }

    #[test]
    fn indexes_are_bounded() {
        let max = i64::from(i32::MAX);
        assert!(layout([1], max - 1, 0, 1).is_ok());
        assert!(layout([1], max, 0, 1).is_err());
        assert!(layout([1, 1], max - 1, 0, 1).is_err());
        assert!(layout([1], i64::from(i32::MIN), 0, 1).is_ok());
        // From the lowest index to a high one no span reaches.
        let mut counts = vec![0; 10];
        counts[0] = 1;
        assert!(layout(counts, i64::from(i32::MIN), 40, 1).is_ok());
        assert_eq!(
            layout([u64::MAX, u64::MAX], 0, 1, 1).unwrap().total,
            2 * u128::from(u64::MAX)
        );
    }
}
