//! Any bytes are lines, good or bad: none panics, none is unaccounted for.
#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use tidelake_catalog::model::TableSchema;
use tidelake_ingest::line_protocol::{LineOptions, Precision, TableLookup, parse};
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

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
        let parsed = parse(body, &LineOptions::new(precision, 1), &tables);
        let rows: usize = parsed
            .tables
            .iter()
            .flat_map(|t| &t.batches)
            .map(|b| b.len())
            .sum();
        assert_eq!(rows, parsed.lines_ok);
        assert!(parsed.errors.len() <= parsed.lines_refused);
    }
});
