//! Segments: sorted rows of many series, as Parquet with a series index, and how they are merged.
//!
//! A segment is written once ([`writer`]) and never changed. Reading begins at its series index
//! ([`index`]): the series that pass the matchers give exact row ranges, and only these are fetched
//! and decoded ([`reader`]). What several segments and the recent rows of an ingester hold of one
//! series is put together by [`merge`], planned in bounded pieces by [`scan`].
//!
//! Invariants:
//! - rows of a segment are sorted by series, then by time; a series lies in one run, its times are
//!   unique;
//! - a filter on labels never looks at samples;
//! - runs that do not overlap are copied whole: nothing is compared row by row unless two runs
//!   overlap.
//!
//! This module imports only `model`, `memory` and the object store's own types.

pub mod column;
pub mod decimal;
pub mod disk_cache;
pub mod encoding;
pub mod error;
pub mod field_array;
pub mod index;
pub mod label_texts;
mod lru;
pub mod merge;
pub mod meter;
mod object_reader;
mod page_reader;
mod read_cache;
pub mod reader;
mod row_groups;
pub mod rows;
pub mod scan;
pub mod series;
pub mod write_order;
pub mod writer;

pub use decimal::ValueLayout;
pub use error::SegmentError;
pub use field_array::{FieldArray, SparseArray};
pub use index::{FoundSeries, IndexedSeries, SeriesIndex};
pub use label_texts::LabelTexts;
pub use lru::CacheCounts;
pub use meter::{ReadCounts, ReadMeter};
pub use read_cache::ReadCache;
pub use reader::OpenSegment;
pub use rows::{SeriesRun, SortedRows};
pub use scan::{ScanPlan, ScanRequest, ScanUnit, Source};
pub use series::{Series, SortOrder};
pub use write_order::{ORDER_COLUMN, WriteOrder};
pub use writer::{SegmentWriter, WrittenSegment};
