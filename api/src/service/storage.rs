//! What a database has on the store: its segments by level, day and table.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelake_catalog::Database;
use tidelake_catalog::model::Day;
use tidelake_catalog::snapshot::SegmentMeta;

use super::Service;
use super::context::{Access, Read};
use super::error::ServiceError;

/// The latest days that are shown.
const MAX_DAYS: usize = 1000;
/// The largest tables that are shown.
const MAX_TABLES: usize = 1000;

/// Sums over some segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentSums {
    /// Segments.
    pub segments: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of their data files.
    pub data_bytes: u64,
    /// Bytes of their series indexes.
    pub index_bytes: u64,
}

impl SegmentSums {
    fn add(&mut self, segment: &SegmentMeta) {
        self.segments += 1;
        self.rows += segment.rows;
        self.data_bytes += segment.data_bytes;
        self.index_bytes += segment.index_bytes;
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTable {
    /// Its name.
    pub name: Arc<str>,
    /// Its segments.
    pub sums: SegmentSums,
    /// The first and the last day that has any.
    pub days: Option<(Day, Day)>,
    /// How many milliseconds its rows are kept; `None` for ever.
    pub retention_ms: Option<u64>,
}

/// The segments of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// By level; 0 are fresh ones.
    pub levels: Vec<(u8, SegmentSums)>,
    /// By day and level, the latest days only.
    pub days: Vec<(Day, u8, SegmentSums)>,
    /// The tables with most bytes, the largest first.
    pub tables: Vec<StoredTable>,
}

impl Stored {
    fn of(database: &Database) -> Self {
        let mut levels = BTreeMap::<u8, SegmentSums>::new();
        let mut days = BTreeMap::<(Day, u8), SegmentSums>::new();
        let mut tables = Vec::with_capacity(database.tables.len());
        for table in database.tables.values() {
            let mut sums = SegmentSums::default();
            for (day, segments) in &table.days {
                for segment in segments.iter() {
                    sums.add(segment);
                    levels.entry(segment.level).or_default().add(segment);
                    days.entry((*day, segment.level)).or_default().add(segment);
                }
            }
            let (first, last) = (table.days.keys().next(), table.days.keys().next_back());
            tables.push(StoredTable {
                name: Arc::clone(&table.name),
                sums,
                days: first.copied().zip(last.copied()),
                retention_ms: database.retention_ms(table),
            });
        }
        tables
            .sort_by_key(|table| std::cmp::Reverse(table.sums.data_bytes + table.sums.index_bytes));
        tables.truncate(MAX_TABLES);
        let latest = days.into_iter().rev().take(MAX_DAYS);
        Self {
            levels: levels.into_iter().collect(),
            days: latest
                .map(|((day, level), sums)| (day, level, sums))
                .collect(),
            tables,
        }
    }
}

impl Service {
    /// The segments of a database.
    pub async fn stored(&self, access: &Access<Read>) -> Result<Stored, ServiceError> {
        let database = self.database(access)?;
        let lane = self.backend()?.lane(access.class().threads());
        self.compute_small(&lane, async move {
            Ok::<_, ServiceError>(Stored::of(&database))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::backend::{Backend, ContentEncoding, Precision, Protocol, WriteRequest};

    #[tokio::test]
    async fn segments_are_summed_by_level_day_and_table() {
        let service = Service::new(Config::default());
        service.attach(Backend::in_memory().await);
        let access = Access::<Read>::of_anyone("d");
        let unknown = service.stored(&access).await.unwrap_err();
        assert!(
            unknown.message.contains("does not exist"),
            "{}",
            unknown.message
        );
        let day = 86_400_000_000_000_i64;
        let body = format!("t v=1 5\nt v=2 {day}\nu v=3 {day}\nu v=4 {}", day + 1);
        let request = WriteRequest {
            database: "d".to_owned(),
            protocol: Protocol::LineProtocol {
                precision: Precision::Nanosecond,
            },
            encoding: ContentEncoding::Identity,
            accept_partial: false,
            body: body.into(),
        };
        let backend = service.backend().unwrap();
        backend.write(request).await.unwrap();
        let stored = service.stored(&access).await.unwrap();
        assert_eq!((stored.levels.len(), stored.tables.len()), (0, 2));
        assert_eq!(stored.tables[0].days, None);
        backend.ingester().unwrap().flush().await.unwrap();
        let stored = service.stored(&access).await.unwrap();
        let counts = |sums: &SegmentSums| (sums.segments, sums.rows);
        let levels: Vec<_> = stored
            .levels
            .iter()
            .map(|(level, sums)| (*level, counts(sums)))
            .collect();
        assert_eq!(levels, [(0, (3, 4))]);
        let days: Vec<_> = stored
            .days
            .iter()
            .map(|(day, level, sums)| (day.0, *level, counts(sums)))
            .collect();
        assert_eq!(days, [(1, 0, (2, 3)), (0, 0, (1, 1))]);
        let mut tables: Vec<_> = stored
            .tables
            .iter()
            .map(|table| (&*table.name, table.days, counts(&table.sums)))
            .collect();
        tables.sort_unstable();
        let (first, second) = (Day(0), Day(1));
        let expected = [
            ("t", Some((first, second)), (2, 2)),
            ("u", Some((second, second)), (1, 2)),
        ];
        assert_eq!(tables, expected);
        assert!(
            stored
                .tables
                .iter()
                .all(|table| table.sums.data_bytes > 0 && table.sums.index_bytes > 0)
        );
    }
}
