//! What the catalog knows of a segment: enough to decide whether to open it, and to check it when
//! opened.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::keys;
use crate::model::{Day, TableKind, TimeRange};
use crate::segment::index::{check_index, check_lookup};
use crate::segment::reader::{SegmentLocation, check_object};
use crate::segment::{IndexedSeries, OpenSegment, ReadCache, ReadMeter, SegmentError};
use crate::store::Store;

/// A file that no commit names is deleted when its id was drawn so many milliseconds ago. Whoever
/// writes files must commit them in less than half of that, or write them again.
pub const ORPHAN_AGE_MS: u64 = 24 * 3_600_000;

/// The unique id of a segment, and the name of its files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u128);

impl SegmentId {
    /// From the milliseconds since 1970 at which it was drawn, and random bits, of which 80 are
    /// used.
    pub const fn from_parts(drawn_ms: u64, random: u128) -> Self {
        Self(((drawn_ms as u128) << 80) | (random & ((1 << 80) - 1)))
    }

    /// Milliseconds since 1970 at which it was drawn, by the clock of whoever drew it.
    pub const fn drawn_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Whether it is too late to commit files with this id: see [`ORPHAN_AGE_MS`].
    pub const fn is_stale(self, now_ms: u64) -> bool {
        self.drawn_ms().saturating_add(ORPHAN_AGE_MS / 2) < now_ms
    }

    /// Whether files with this id that no commit names are garbage: see [`ORPHAN_AGE_MS`].
    pub const fn is_orphan(self, now_ms: u64) -> bool {
        self.drawn_ms().saturating_add(ORPHAN_AGE_MS) < now_ms
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SegmentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is not a segment id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a segment id has 32 lower-case hexadecimal digits")]
pub struct NotASegmentId;

impl FromStr for SegmentId {
    type Err = NotASegmentId;
    fn from_str(text: &str) -> Result<Self, NotASegmentId> {
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NotASegmentId);
        }
        u128::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| NotASegmentId)
    }
}

/// Which segment, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SegmentRef {
    /// Database.
    pub database: Arc<str>,
    /// Table.
    pub table: Arc<str>,
    /// UTC day of all its rows.
    pub day: Day,
    /// Its id.
    pub id: SegmentId,
}

/// The catalog's entry of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentMeta {
    /// Its id.
    pub id: SegmentId,
    /// Database.
    pub database: Arc<str>,
    /// Table.
    pub table: Arc<str>,
    /// Which table of this name: `Table::id`.
    pub table_id: u64,
    /// UTC day of all its rows.
    pub day: Day,
    /// 0 for a fresh one; higher ones were merged.
    pub level: u8,
    /// Write order of its rows, lowest and highest: clock values of the write-ahead log
    /// ([`is_clock_order`]), or, in older segments, the catalog sequences of the flushes that it
    /// holds, which are lower than any of those. Of rows with the same series and time the one
    /// from the higher order wins. `(0, 0)` in a segment to be committed stands for the sequence
    /// of that commit; a merge gives the orders of its inputs.
    pub order: (u64, u64),
    /// First and last time, in the unit of the table.
    pub time: TimeRange,
    /// Rows.
    pub rows: u64,
    /// Series, and rows of the series index.
    pub series: u64,
    /// Size of the data file.
    pub data_bytes: u64,
    /// Size of the series index file.
    pub index_bytes: u64,
    /// xxh3-64 of the data file.
    pub data_checksum: u64,
    /// The last bytes of the series index file, from its root on; 0 in the first format.
    pub index_tail_bytes: u64,
    /// xxh3-64 of these; in the first format of the whole file.
    pub index_checksum: u64,
    /// The tags by which a wide table's rows are sorted; empty for the metrics table.
    pub sort_tags: Arc<[String]>,
    /// Tombstones up to this commit are applied to it, or older than all its rows: no row is in it
    /// that one of them deletes.
    pub deletes_applied: u64,
}

/// Write orders from here on are clock values: see `FORMAT.md`, "Write order".
const FIRST_CLOCK_ORDER: u64 = 1 << 56;

/// Whether a write order is a clock value, not the sequence of a commit.
pub const fn is_clock_order(order: u64) -> bool {
    order >= FIRST_CLOCK_ORDER
}

impl SegmentMeta {
    /// Tombstones up to this commit delete none of its rows.
    pub fn deletes_seen(&self) -> u64 {
        match is_clock_order(self.order.1) {
            true => self.deletes_applied,
            // Deletes concern what was committed before them.
            false => self.order.1.max(self.deletes_applied),
        }
    }

    /// The key of its data file.
    pub fn data_key(&self) -> String {
        keys::data_file(&self.database, &self.table, self.day, self.id)
    }

    /// The key of its series index file.
    pub fn index_key(&self) -> String {
        keys::series_index(&self.database, &self.table, self.day, self.id)
    }

    /// Opens its files, for a reader that needs all series at a time.
    pub async fn open_whole(
        &self,
        store: &Store,
        kind: TableKind,
    ) -> Result<OpenSegment, SegmentError> {
        let location = self.location(store, kind)?;
        OpenSegment::open_whole(Arc::clone(store.object_store()), location).await
    }

    /// Opens its files for lookups by a reader that goes through everything once.
    pub async fn open_once(
        &self,
        store: &Store,
        kind: TableKind,
        cache: &Arc<ReadCache>,
    ) -> Result<OpenSegment, SegmentError> {
        let location = self.location(store, kind)?;
        OpenSegment::open_once(Arc::clone(store.object_store()), location, cache).await
    }

    /// Opens its files for lookups, with what is read for it counted.
    pub async fn open(
        &self,
        store: &Store,
        kind: TableKind,
        cache: &Arc<ReadCache>,
        meter: Option<Arc<ReadMeter>>,
    ) -> Result<OpenSegment, SegmentError> {
        let location = self.location(store, kind)?;
        OpenSegment::open(Arc::clone(store.object_store()), location, cache, meter).await
    }

    fn location(&self, store: &Store, kind: TableKind) -> Result<SegmentLocation, SegmentError> {
        Ok(SegmentLocation {
            data: path(store, self.data_key())?,
            index: path(store, self.index_key())?,
            id: self.id.0,
            data_bytes: self.data_bytes,
            index_bytes: self.index_bytes,
            index_tail_bytes: self.index_tail_bytes,
            index_checksum: self.index_checksum,
            time: self.time,
            kind,
        })
    }

    /// Reads its data file whole and compares it with the catalog: only this finds every changed
    /// byte.
    pub async fn check_data_file(&self, store: &Store) -> Result<(), SegmentError> {
        check_object(
            store.object_store(),
            &path(store, self.data_key())?,
            self.data_bytes,
            self.data_checksum,
        )
        .await
    }

    /// The same for its series index.
    pub async fn check_index_file(&self, store: &Store) -> Result<(), SegmentError> {
        // Of no kind of table is the index checked in another way.
        let location = self.location(store, TableKind::Wide)?;
        check_index(store.object_store(), &location).await
    }

    /// Compares what its series index says of labels with the series in it.
    pub(crate) async fn check_lookup(
        &self,
        store: &Store,
        series: &[IndexedSeries],
        cache: &Arc<ReadCache>,
    ) -> Result<(), SegmentError> {
        let location = self.location(store, TableKind::Wide)?;
        check_lookup(store.object_store(), &location, series, cache).await
    }

    /// Which segment this is.
    pub fn reference(&self) -> SegmentRef {
        SegmentRef {
            database: Arc::clone(&self.database),
            table: Arc::clone(&self.table),
            day: self.day,
            id: self.id,
        }
    }
}

fn path(store: &Store, key: String) -> Result<object_store::path::Path, SegmentError> {
    store.path(&key).map_err(|error| SegmentError::Unavailable {
        object: key,
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_back_and_order_by_time() {
        let (early, late) = (
            SegmentId::from_parts(1, u128::MAX),
            SegmentId::from_parts(2, 0),
        );
        assert!(early < late);
        assert_eq!((early.drawn_ms(), late.drawn_ms()), (1, 2));
        assert_eq!(early.to_string().parse(), Ok(early));
        for text in [
            "",
            "1",
            "0000000000000000000000000000000G",
            "000000000000000000000000000000A0",
            "+0000000000000000000000000000000",
        ] {
            assert_eq!(text.parse::<SegmentId>(), Err(NotASegmentId), "{text}");
        }
    }
}
