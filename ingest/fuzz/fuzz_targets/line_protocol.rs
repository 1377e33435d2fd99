//! Any bytes are lines, good or bad: none panics, none is unaccounted for, none takes much memory.
#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tidelake_catalog::model::TableSchema;
use tidelake_ingest::line_protocol::{LineOptions, Precision, TableLookup, parse};
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// Bytes of memory that a byte of a body may take, and what a parser takes in any case: the first
/// lines of as many tables and errors are the dearest.
const MEMORY_RATIO: usize = 256;
const FIXED_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Tables(Mutex<HashMap<String, Arc<SeriesRegistry>>>);

impl TableLookup for Tables {
    fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        (table == "m").then(|| Arc::new(TableSchema::new(tidelake_catalog::model::TableKind::Wide)))
    }

    fn registry(&self, table: &str) -> Arc<SeriesRegistry> {
        let mut registries = self.0.lock().expect("no panic while locked");
        registries
            .entry(table.to_owned())
            .or_insert_with(|| Arc::new(SeriesRegistry::new(1 << 16)))
            .clone()
    }

    fn oldest(&self, _: &str) -> Oldest {
        Oldest::NONE
    }
}

fuzz_target!(|body: &[u8]| {
    let tables = Tables::default();
    for precision in [Precision::Auto, Precision::Second] {
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage();
        let parsed = parse(body, &LineOptions::new(precision, 1), &tables);
        let grown = PEAK.peak_usage().saturating_sub(before);
        assert!(
            grown <= MEMORY_RATIO * body.len() + FIXED_BYTES,
            "{grown} bytes for a body of {}",
            body.len()
        );
        let rows: usize = parsed.tables.iter().map(|t| t.rows.len()).sum();
        assert_eq!(rows, parsed.lines_ok);
        assert!(parsed.errors.len() <= parsed.lines_refused);
    }
});
