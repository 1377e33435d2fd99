//! What `/metrics` shows of the storage, read at every scrape.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelake_catalog::segment::disk_cache::DiskCacheCounts;
use tidelake_catalog::segment::{CacheCounts, ReadCache, ReadCounts};
use tidelake_compactor::CompactorCounters;
use tidelake_ingest::Ingester;

use super::Backend;
use crate::node::figures::Figure;
use crate::node::process;

impl Backend {
    /// Figures read at every scrape: name, help, whether it only grows, and how to read it.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |name, help, is_counter, read: Box<dyn Fn() -> f64 + Send + Sync>| {
            figures.push(Figure {
                name,
                help,
                is_counter,
                read,
            });
        };
        let of_ingester: [(_, _, _, fn(&Ingester) -> f64); 13] = [
            (
                "buffer_bytes",
                "Bytes of rows that are not in a segment yet",
                false,
                |i| i.buffered().0 as f64,
            ),
            (
                "buffer_rows",
                "Rows that are not in a segment yet",
                false,
                |i| i.buffered().1 as f64,
            ),
            (
                "active_series",
                "Series known to the write path",
                false,
                |i| i.series() as f64,
            ),
            ("flushes", "Flushes that were committed", true, |i| {
                i.counters().flushes.load(Ordering::Relaxed) as f64
            }),
            (
                "flush_failures",
                "Flushes that failed and are tried again",
                true,
                |i| i.counters().failed_flushes.load(Ordering::Relaxed) as f64,
            ),
            ("flushed_rows", "Rows written to segments", true, |i| {
                i.counters().flushed_rows.load(Ordering::Relaxed) as f64
            }),
            ("deferred_writes", "Writes answered with 503", true, |i| {
                i.counters().deferred.load(Ordering::Relaxed) as f64
            }),
            (
                "wal_objects",
                "Objects of the write-ahead log that became durable",
                true,
                |i| i.log_metrics().groups.load(Ordering::Relaxed) as f64,
            ),
            ("wal_bytes", "Bytes of these objects", true, |i| {
                i.log_metrics().bytes.load(Ordering::Relaxed) as f64
            }),
            ("wal_requests", "Requests in these objects", true, |i| {
                i.log_metrics().frames.load(Ordering::Relaxed) as f64
            }),
            (
                "wal_put_errors",
                "Puts of the write-ahead log that failed",
                true,
                |i| i.log_metrics().put_errors.load(Ordering::Relaxed) as f64,
            ),
            (
                "wal_put_seconds",
                "Time of all puts of the write-ahead log",
                true,
                |i| i.log_metrics().put_latency.sum().as_secs_f64(),
            ),
            (
                "wal_queued_bytes",
                "Bytes that wait for the write-ahead log",
                false,
                |i| i.log_metrics().queued_bytes.load(Ordering::Relaxed) as f64,
            ),
        ];
        if let Some(ingester) = &self.ingester {
            for (name, help, is_counter, read) in of_ingester {
                let ingester = Arc::clone(ingester);
                add(name, help, is_counter, Box::new(move || read(&ingester)));
            }
        }
        let read = |count: fn(ReadCounts) -> u64| -> Box<dyn Fn() -> f64 + Send + Sync> {
            let querier = Arc::clone(&self.querier);
            Box::new(move || count(querier.read_counts()) as f64)
        };
        type Count = fn(CacheCounts) -> u64;
        let cached = |of: fn(&ReadCache) -> CacheCounts,
                      count: Count|
         -> Box<dyn Fn() -> f64 + Send + Sync> {
            let querier = Arc::clone(&self.querier);
            Box::new(move || count(of(querier.0.tables().cache())) as f64)
        };
        let (parts, pages) = (ReadCache::index_counts, ReadCache::page_counts);
        let (hits, misses): (Count, Count) = (|c| c.hits, |c| c.misses);
        let (evictions, bytes): (Count, Count) = (|c| c.evictions, |c| c.bytes as u64);
        for (name, help, is_counter, figure) in [
            (
                "index_cache_hits",
                "Parts of series indexes that were in memory",
                true,
                cached(parts, hits),
            ),
            (
                "index_cache_misses",
                "Parts of series indexes that had to be read",
                true,
                cached(parts, misses),
            ),
            (
                "index_cache_evictions",
                "Parts of series indexes that were let go for others",
                true,
                cached(parts, evictions),
            ),
            (
                "index_cache_bytes",
                "Bytes of the parts of series indexes in memory",
                false,
                cached(parts, bytes),
            ),
            (
                "page_cache_hits",
                "Pages of data files that were in memory",
                true,
                cached(pages, hits),
            ),
            (
                "page_cache_misses",
                "Pages of data files that had to be read",
                true,
                cached(pages, misses),
            ),
            (
                "page_cache_evictions",
                "Pages of data files that were let go for others",
                true,
                cached(pages, evictions),
            ),
            (
                "page_cache_bytes",
                "Bytes of the decoded pages in memory",
                false,
                cached(pages, bytes),
            ),
        ] {
            add(name, help, is_counter, figure);
        }
        if let Some(disk) = self.querier.0.tables().cache().disk() {
            let on_disk =
                |count: fn(DiskCacheCounts) -> u64| -> Box<dyn Fn() -> f64 + Send + Sync> {
                    let disk = Arc::clone(disk);
                    Box::new(move || count(disk.counts()) as f64)
                };
            for (name, help, is_counter, figure) in [
                (
                    "disk_cache_hits",
                    "Blocks of segments that were on the local disk",
                    true,
                    on_disk(|c| c.hits),
                ),
                (
                    "disk_cache_misses",
                    "Blocks of segments that the store was asked for",
                    true,
                    on_disk(|c| c.misses),
                ),
                (
                    "disk_cache_read_bytes",
                    "Bytes read from the local disk",
                    true,
                    on_disk(|c| c.read_bytes),
                ),
                (
                    "disk_cache_written_bytes",
                    "Bytes written to it",
                    true,
                    on_disk(|c| c.written_bytes),
                ),
                (
                    "disk_cache_limit_bytes",
                    "Bytes that the cache may take there; the oldest go for new ones",
                    false,
                    on_disk(|c| c.limit_bytes),
                ),
            ] {
                add(name, help, is_counter, figure);
            }
        }
        add(
            "query_read_requests",
            "Requests to the store for queries",
            true,
            read(|counts| counts.requests),
        );
        add(
            "query_read_bytes",
            "Bytes that these asked for",
            true,
            read(|counts| counts.bytes),
        );
        add(
            "query_read_rows",
            "Rows that queries read, from segments and from the buffer",
            true,
            read(|counts| counts.rows),
        );
        let catalog = Arc::clone(&self.catalog);
        add(
            "catalog_sequence",
            "Number of the last commit",
            true,
            Box::new(move || catalog.snapshot().sequence() as f64),
        );
        let catalog = Arc::clone(&self.catalog);
        add(
            "segments",
            "Segments in the catalog",
            false,
            Box::new(move || catalog.snapshot().segments().count() as f64),
        );
        let catalog = Arc::clone(&self.catalog);
        let bytes = move || {
            catalog
                .snapshot()
                .segments()
                .map(|segment| segment.data_bytes + segment.index_bytes)
                .sum::<u64>() as f64
        };
        add(
            "segment_bytes",
            "Bytes of these, without replaced files that stay for a while",
            false,
            Box::new(bytes),
        );
        if let Some(ingester) = &self.ingester {
            let ingester = Arc::clone(ingester);
            let catalog = Arc::clone(&self.catalog);
            add(
                "oldest_unflushed_row_seconds",
                "Since when there are rows that are in no segment; 0 without any",
                false,
                Box::new(
                    move || match ingester.counters().oldest_ms.load(Ordering::Relaxed) {
                        0 => 0.0,
                        since_ms => (catalog.environment().now_ms() - since_ms) as f64 / 1000.0,
                    },
                ),
            );
        }
        if let Some(folder) = self.catalog.store().folder() {
            let folder = folder.to_owned();
            add(
                "disk_free_bytes",
                "Bytes that are free on the disk of the data folder",
                false,
                Box::new(move || process::free_bytes(&folder).unwrap_or(f64::NAN)),
            );
        }
        let of_compactor: [(_, _, _, fn(&CompactorCounters) -> f64); 6] = [
            ("merges", "Merges that were committed", true, |c| {
                c.merges.load(Ordering::Relaxed) as f64
            }),
            (
                "merge_failures",
                "Merges that failed and are tried again",
                true,
                |c| c.failures.load(Ordering::Relaxed) as f64,
            ),
            ("merge_seconds", "Time of all merges", true, |c| {
                c.milliseconds.load(Ordering::Relaxed) as f64 / 1000.0
            }),
            (
                "merge_read_bytes",
                "Bytes of data files that merges read",
                true,
                |c| c.bytes_in.load(Ordering::Relaxed) as f64,
            ),
            (
                "merge_written_bytes",
                "Bytes of data files that merges wrote",
                true,
                |c| c.bytes_out.load(Ordering::Relaxed) as f64,
            ),
            ("merge_backlog", "Merges that are left to do", false, |c| {
                c.backlog.load(Ordering::Relaxed) as f64
            }),
        ];
        if let Some(compactor) = &self.compactor {
            for (name, help, is_counter, read) in of_compactor {
                let compactor = Arc::clone(&compactor.0);
                let read = move || read(compactor.counters());
                add(name, help, is_counter, Box::new(read));
            }
            let compactor = Arc::clone(&compactor.0);
            let help = "Segments with a damaged file, which are not merged";
            add(
                "quarantined_segments",
                help,
                false,
                Box::new(move || compactor.quarantine().held().len() as f64),
            );
        }
        figures
    }
}
