//! How columns are encoded and compressed, and how much work that may be.
//!
//! Which encoding suits a column of numbers depends on the data: counters that grow steadily,
//! gauges with two decimals, flags and noise each have another best one. Measured on samples like
//! node_exporter's: transposing the bytes of floats that are integers costs half of what they cost
//! as they are, and a quarter more where they have decimals, for the lower half of their bits then
//! repeats as a whole or not at all.

use arrow::datatypes::DataType;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::row_groups::ROW_GROUP_ROWS;
use crate::model::{Column, ColumnType, TIME_COLUMN};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For files that are merged soon: one encoding for each type.
    Fresh,
    /// For files that stay for hours: the best of several encodings.
    Compacted,
    /// For files that stay for good: the same, and where it pays the slow levels of zstd.
    Settled,
}

/// Rows of a page where larger ones do not make a file smaller; a page is what a point query
/// decodes.
const PAGE_ROWS: usize = 64 * 1024;

/// Rows of a page whose bytes are transposed: 128 KiB of each byte, which is one block of zstd with
/// statistics of its own.
const TRANSPOSED_PAGE_ROWS: usize = 128 * 1024;

/// Rows of a page of floats as they are: what repeats in them is near, and the slow levels are
/// faster on little.
const PLAIN_PAGE_ROWS: usize = 8 * 1024;

/// A way to encode a column of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// `None` is positions in a dictionary, or, if that grows too large, values as they are.
    encoding: Option<Encoding>,
    page_rows: usize,
    /// Level of zstd for files that stay for good, if it may pay.
    slow_level: Option<i32>,
    /// What it saves shows on all rows only, not on a sample: it is tried where the others need
    /// more than so many bytes for a hundred rows.
    pub beyond: Option<usize>,
}

const DICTIONARY: Way = Way {
    encoding: None,
    page_rows: PAGE_ROWS,
    slow_level: None,
    beyond: None,
};
const DIFFERENCES: Way = Way {
    encoding: Some(Encoding::DELTA_BINARY_PACKED),
    page_rows: PAGE_ROWS,
    slow_level: None,
    beyond: None,
};
const PLAIN: Way = Way {
    encoding: Some(Encoding::PLAIN),
    page_rows: PLAIN_PAGE_ROWS,
    slow_level: Some(16),
    beyond: None,
};
/// What repeats far away: decimals with so many digits that each is followed by thousands of others
/// before it comes again.
const PLAIN_FAR: Way = Way {
    encoding: Some(Encoding::PLAIN),
    page_rows: TRANSPOSED_PAGE_ROWS,
    slow_level: None,
    beyond: Some(450),
};
const TRANSPOSED: Way = Way {
    encoding: Some(Encoding::BYTE_STREAM_SPLIT),
    page_rows: TRANSPOSED_PAGE_ROWS,
    slow_level: Some(18),
    beyond: None,
};
/// The series of one target have the same times, one series after the other.
const TRANSPOSED_TIMES: Way = Way {
    beyond: Some(1),
    ..TRANSPOSED
};

/// The level of zstd for whatever is not slow: beyond it little is gained before the slow ones.
const LEVEL: i32 = 6;

impl Way {
    /// What is worth trying for a column of this type; nothing if there is but one way.
    pub fn of(kind: &DataType, effort: Effort) -> &'static [Way] {
        match (effort, kind) {
            (Effort::Fresh, _) => &[],
            (_, DataType::Float64) => &[TRANSPOSED, PLAIN, DICTIONARY, PLAIN_FAR],
            (_, DataType::Int64 | DataType::UInt64) => {
                &[DIFFERENCES, TRANSPOSED, PLAIN, DICTIONARY]
            }
            (_, DataType::Timestamp(..)) => &[DIFFERENCES, TRANSPOSED_TIMES],
            _ => &[],
        }
    }

    /// For a file of this one column.
    pub fn properties(&self, is_time: bool) -> WriterProperties {
        self.with_level(LEVEL, is_time)
    }

    /// The same with a slow level, if that may pay.
    pub fn slow_properties(&self, effort: Effort, is_time: bool) -> Option<WriterProperties> {
        let level = self.slow_level.filter(|_| effort == Effort::Settled)?;
        Some(self.with_level(level, is_time))
    }

    fn with_level(&self, level: i32, is_time: bool) -> WriterProperties {
        builder(
            level,
            self.page_rows,
            if is_time {
                EnabledStatistics::Page
            } else {
                EnabledStatistics::Chunk
            },
        )
        .set_dictionary_enabled(self.encoding.is_none())
        .set_encoding(self.encoding.unwrap_or(Encoding::PLAIN))
        .build()
    }
}

fn builder(level: i32, page_rows: usize, statistics: EnabledStatistics) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(zstd(level))
        .set_data_page_row_count_limit(page_rows)
        // Rows decide where a page ends.
        .set_data_page_size_limit(2 * 8 * TRANSPOSED_PAGE_ROWS)
        .set_statistics_enabled(statistics)
}

/// Compression at a level of zstd.
pub(super) fn zstd(level: i32) -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
}

/// For the file, and for columns that there is one way for.
pub(super) fn file_properties(
    fields: &[Column],
    effort: Effort,
    notes: &[(&str, String)],
) -> WriterProperties {
    let path = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let (level, page_rows) = match effort {
        Effort::Fresh => (1, 20_000),
        Effort::Compacted | Effort::Settled => (3, PAGE_ROWS),
    };
    let mut properties = builder(level, page_rows, EnabledStatistics::Chunk)
        .set_created_by("tidelake".to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(
            notes
                .iter()
                .map(|(k, v)| KeyValue::new((*k).to_owned(), v.clone()))
                .collect(),
        ))
        .set_column_statistics_enabled(path(TIME_COLUMN), EnabledStatistics::Page)
        .set_column_dictionary_enabled(path(TIME_COLUMN), false)
        .set_column_encoding(path(TIME_COLUMN), Encoding::DELTA_BINARY_PACKED);
    for field in fields {
        let encoding = match field.kind {
            ColumnType::Float => Encoding::BYTE_STREAM_SPLIT,
            ColumnType::Integer | ColumnType::Unsigned => Encoding::DELTA_BINARY_PACKED,
            _ => continue,
        };
        properties = properties
            .set_column_dictionary_enabled(path(&field.name), false)
            .set_column_encoding(path(&field.name), encoding);
    }
    properties.build()
}
