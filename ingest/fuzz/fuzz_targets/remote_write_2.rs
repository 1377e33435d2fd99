//! The same for 2.0: any bytes are a message or an error; a message decodes to the same rows when
//! its series are known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidelake_ingest::LabelLimits;
use tidelake_ingest::remote_write::v2;
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

fuzz_target!(|body: &[u8]| {
    let registry = SeriesRegistry::new(1 << 20);
    if let Ok(first) = v2::decode(body, &registry, Oldest::NONE, &LabelLimits::NONE) {
        assert!(
            first
                .rows
                .series
                .iter()
                .all(|&s| registry.entry(s).is_some())
        );
        if !first.registry_full {
            let second = v2::decode(body, &registry, Oldest::NONE, &LabelLimits::NONE)
                .expect("it decoded before");
            assert_eq!(
                (first.rows.series, first.rows.time),
                (second.rows.series, second.rows.time)
            );
        }
    }
});
