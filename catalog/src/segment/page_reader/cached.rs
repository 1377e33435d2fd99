//! Decoded pages that may be needed again.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrow::buffer::{NullBuffer, ScalarBuffer};

use super::super::lru::Lru;
use super::values::Value;

/// A read of more than one part in so many of the cache keeps nothing: it would push out what
/// others need again, and its own pages before they are needed again.
const LARGE_PART: usize = 2;

/// Which page of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageKey {
    pub segment: u128,
    pub column: u32,
    pub row_group: u32,
    pub page: u32,
}

/// All rows of a page.
#[derive(Debug)]
pub struct PageRows<V: Kept> {
    /// One for each row; of rows without a value the default.
    pub values: V::Rows,
    pub nulls: Option<NullBuffer>,
}

/// The rows of a page of any type.
#[derive(Debug, Clone)]
pub enum DecodedPage {
    /// The bits of 64-bit numbers.
    Numbers(Arc<PageRows<u64>>),
    Scales(Arc<PageRows<i8>>),
    Booleans(Arc<PageRows<bool>>),
}

impl DecodedPage {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        match self {
            Self::Numbers(rows) => rows.values.len(),
            Self::Scales(rows) => rows.values.len(),
            Self::Booleans(rows) => rows.values.len(),
        }
    }

    /// Bytes in memory.
    pub fn memory_size(&self) -> usize {
        fn size<V: Kept>(rows: &PageRows<V>) -> usize {
            let nulls = rows.nulls.as_ref().map_or(0, |nulls| nulls.len() / 8);
            size_of::<PageRows<V>>() + rows.values.len() * size_of::<V>() + nulls
        }
        match self {
            Self::Numbers(rows) => size(rows),
            Self::Scales(rows) => size(rows),
            Self::Booleans(rows) => size(rows),
        }
    }
}

/// The cached pages of one segment.
#[derive(Debug, Clone, Copy)]
pub struct PageCache<'a> {
    pub pages: &'a Lru<PageKey, DecodedPage>,
    pub segment: u128,
}

impl PageCache<'_> {
    /// The key of a page.
    pub fn key(&self, column: usize, row_group: usize, page: usize) -> PageKey {
        // A file has fewer of each than fit: each takes bytes of the footer.
        PageKey {
            segment: self.segment,
            column: column as u32,
            row_group: row_group as u32,
            page: page as u32,
        }
    }

    /// Whether pages with so many rows together are worth keeping.
    pub fn keeps(&self, rows: u64) -> bool {
        let bytes = rows.saturating_mul(size_of::<u64>() as u64);
        bytes <= (self.pages.limit() / LARGE_PART) as u64
    }
}

/// A value as it is kept.
pub trait Kept: Value {
    /// The values of many rows.
    type Rows: Deref<Target = [Self]> + From<Vec<Self>> + fmt::Debug;

    /// Some of many rows, of which they may keep all.
    fn slice(rows: &Self::Rows, range: Range<usize>) -> Self::Rows;
    fn keep(rows: Arc<PageRows<Self>>) -> DecodedPage;
    fn kept(page: &DecodedPage) -> Option<&PageRows<Self>>;
}

impl Kept for u64 {
    type Rows = ScalarBuffer<Self>;

    fn slice(rows: &Self::Rows, range: Range<usize>) -> Self::Rows {
        rows.slice(range.start, range.len())
    }

    fn keep(rows: Arc<PageRows<Self>>) -> DecodedPage {
        DecodedPage::Numbers(rows)
    }

    fn kept(page: &DecodedPage) -> Option<&PageRows<Self>> {
        match page {
            DecodedPage::Numbers(rows) => Some(rows),
            _ => None,
        }
    }
}

impl Kept for i8 {
    type Rows = ScalarBuffer<Self>;

    fn slice(rows: &Self::Rows, range: Range<usize>) -> Self::Rows {
        rows.slice(range.start, range.len())
    }

    fn keep(rows: Arc<PageRows<Self>>) -> DecodedPage {
        DecodedPage::Scales(rows)
    }

    fn kept(page: &DecodedPage) -> Option<&PageRows<Self>> {
        match page {
            DecodedPage::Scales(rows) => Some(rows),
            _ => None,
        }
    }
}

impl Kept for bool {
    type Rows = Vec<Self>;

    fn slice(rows: &Self::Rows, range: Range<usize>) -> Self::Rows {
        rows[range].to_vec()
    }

    fn keep(rows: Arc<PageRows<Self>>) -> DecodedPage {
        DecodedPage::Booleans(rows)
    }

    fn kept(page: &DecodedPage) -> Option<&PageRows<Self>> {
        match page {
            DecodedPage::Booleans(rows) => Some(rows),
            _ => None,
        }
    }
}
