//! Any bytes are a message or an error, and take little memory; a message decodes to the same rows
//! when its series are known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tidelake_ingest::LabelLimits;
use tidelake_ingest::remote_write::v1;
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// Bytes of memory that a byte of a body may take (an empty histogram is two bytes and takes two
/// hundred), and what a decoder takes in any case.
const MEMORY_RATIO: usize = 256;
const FIXED_BYTES: usize = 512 << 10;

fuzz_target!(|body: &[u8]| {
    let registry = SeriesRegistry::new(1 << 20);
    PEAK.reset_peak_usage();
    let before = PEAK.current_usage();
    let decoded = v1::decode(body, &registry, Oldest::NONE, &LabelLimits::NONE);
    let grown = PEAK.peak_usage().saturating_sub(before);
    assert!(
        grown <= MEMORY_RATIO * body.len() + FIXED_BYTES,
        "{grown} bytes for a body of {}",
        body.len()
    );
    if let Ok(first) = decoded {
        assert!(
            first
                .rows
                .series
                .iter()
                .all(|&s| registry.entry(s).is_some())
        );
        if !first.registry_full {
            let second = v1::decode(body, &registry, Oldest::NONE, &LabelLimits::NONE)
                .expect("it decoded before");
            assert_eq!(
                (first.rows.series, first.rows.time),
                (second.rows.series, second.rows.time)
            );
        }
    }
});
