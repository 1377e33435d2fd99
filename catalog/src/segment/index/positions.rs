//! Sets of series of a segment by their position in it, as runs of neighbours.
//!
//! Files are sorted by metric, job and instance, so that the series of a label's value are few long
//! runs or many single ones a known distance apart. Runs hold both in little, and intersect without
//! being expanded.

use std::borrow::Borrow;
use std::ops::Range;

use super::cursor::{Cursor, put_varint};

/// Ascending positions as runs that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::segment) struct Positions {
    runs: Vec<Range<u32>>,
}

impl Positions {
    /// The first `count` positions.
    pub fn all(count: u32) -> Self {
        let mut all = Self::default();
        all.push(0..count);
        all
    }

    /// Adds positions behind all that are there.
    pub fn push(&mut self, run: Range<u32>) {
        if run.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
            _ => self.runs.push(run),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many positions there are.
    pub fn count(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// The runs, ascending.
    pub fn runs(&self) -> &[Range<u32>] {
        &self.runs
    }

    /// What is in both.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.runs.as_slice(), other.runs.as_slice());
        let mut both = Self::default();
        while let (Some(a), Some(b)) = (left.first(), right.first()) {
            both.push(a.start.max(b.start)..a.end.min(b.end));
            if a.end <= b.end {
                left = skip_to(left, b.start);
            } else {
                right = skip_to(right, a.start);
            }
        }
        both
    }

    /// Whether anything is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.runs.as_slice(), other.runs.as_slice());
        while let (Some(a), Some(b)) = (left.first(), right.first()) {
            if a.start < b.end && b.start < a.end {
                return true;
            }
            if a.end <= b.end {
                left = skip_to(left, b.start);
            } else {
                right = skip_to(right, a.start);
            }
        }
        false
    }

    /// What is in this one only.
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        let mut others = other.runs.as_slice();
        for run in &self.runs {
            let mut start = run.start;
            others = &others[others.partition_point(|other| other.end <= start)..];
            for other in others.iter().take_while(|other| other.start < run.end) {
                rest.push(start..other.start.max(start));
                start = start.max(other.end);
            }
            rest.push(start.min(run.end)..run.end);
        }
        rest
    }

    /// What is in any of them.
    pub fn union<S: Borrow<Self>>(sets: impl IntoIterator<Item = S>) -> Self {
        let mut runs: Vec<Range<u32>> = Vec::new();
        let mut count = 0;
        for set in sets {
            runs.extend_from_slice(&set.borrow().runs);
            count += 1;
        }
        if count > 1 {
            runs.sort_unstable_by_key(|run| run.start);
        }
        let mut any = Self::default();
        for run in runs {
            any.push(run);
        }
        any
    }

    /// Appends the canonical bytes: for each run twice its distance from the end of the last one,
    /// plus one if it is longer than one position; then its length minus two.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let mut end = 0;
        for run in &self.runs {
            let long = u64::from(run.len() > 1);
            put_varint(to, (u64::from(run.start - end) << 1) | long);
            if long == 1 {
                put_varint(to, run.len() as u64 - 2);
            }
            end = run.end;
        }
    }

    /// The set of canonical bytes; all positions are below `count`.
    pub fn decode(bytes: &[u8], count: u32) -> Result<Self, String> {
        let mut cursor = Cursor::new(bytes);
        let mut set = Self::default();
        let mut end = 0u64;
        while !cursor.is_empty() {
            let word = cursor.varint()?;
            let start = end.saturating_add(word >> 1);
            let more = if word & 1 == 1 {
                cursor.varint()?.saturating_add(1)
            } else {
                0
            };
            end = start.saturating_add(1).saturating_add(more);
            if end > u64::from(count) {
                return Err(format!("a position beyond the {count} series"));
            }
            set.push(start as u32..end as u32);
        }
        Ok(set)
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        size_of::<Self>() + self.runs.capacity() * size_of::<Range<u32>>()
    }
}

/// The runs from the first on that ends after `start`, without the first one in any case.
fn skip_to(runs: &[Range<u32>], start: u32) -> &[Range<u32>] {
    let runs = &runs[1..];
    // Mostly it is the next; else it is searched for in steps that double.
    let mut step = 1;
    while step < runs.len() && runs[step - 1].end <= start {
        step *= 2;
    }
    let (from, to) = (step / 2, step.min(runs.len()));
    let skipped = runs[from..to].partition_point(|run| run.end <= start);
    &runs[from + skipped..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(positions: &[u32]) -> Positions {
        let mut set = Positions::default();
        for &at in positions {
            set.push(at..at + 1);
        }
        set
    }

    fn list(set: &Positions) -> Vec<u32> {
        set.runs.iter().cloned().flatten().collect()
    }

    fn positions() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::btree_set(0u32..60, 0..40).prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn sets_are_as_lists_are(a in positions(), b in positions(), c in positions()) {
            let (x, y) = (set(&a), set(&b));
            let both: Vec<u32> = a.iter().filter(|at| b.contains(at)).copied().collect();
            let only: Vec<u32> = a.iter().filter(|at| !b.contains(at)).copied().collect();
            let any: std::collections::BTreeSet<u32> =
                a.iter().chain(&b).chain(&c).copied().collect();
            prop_assert_eq!(list(&x.intersect(&y)), both.clone());
            prop_assert_eq!(x.intersects(&y), !both.is_empty());
            prop_assert_eq!(list(&x.subtract(&y)), only);
            let union = Positions::union([x.clone(), y, set(&c)]);
            prop_assert_eq!(list(&union), any.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(x.count(), a.len());
            let mut bytes = Vec::new();
            x.encode(&mut bytes);
            prop_assert_eq!(Positions::decode(&bytes, 60), Ok(x));
        }

        #[test]
        fn any_bytes_are_a_set_or_an_error(bytes: Vec<u8>) {
            if let Ok(set) = Positions::decode(&bytes, 1000) {
                prop_assert!(set.runs.last().is_none_or(|run| run.end <= 1000));
            }
        }
    }

    #[test]
    fn a_union_of_nothing_is_empty() {
        assert!(Positions::union::<Positions>([]).is_empty());
        assert_eq!(list(&Positions::all(3)), [0, 1, 2]);
        assert!(Positions::all(0).is_empty());
    }
}
