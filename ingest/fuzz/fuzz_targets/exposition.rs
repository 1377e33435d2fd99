//! Any bytes are lines of text, good or bad: none panics, none is unaccounted for, none takes much
//! memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tidelake_ingest::LabelLimits;
use tidelake_ingest::exposition::{Rules, Settings, TextFormat, decode};
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// Bytes of memory that a byte of a body may take, and what a body takes in any case: rows have
/// memory for some thousands at once.
const MEMORY_RATIO: usize = 512;
const FIXED_BYTES: usize = 1 << 20;

fuzz_target!(|body: &[u8]| {
    let settings = Settings {
        labels: vec![("job".to_owned(), "j".to_owned())],
        ..Settings::default()
    };
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        let registry = SeriesRegistry::new(1 << 20);
        let rules = Rules {
            settings: &settings,
            format,
            time_ms: 1,
            oldest: Oldest::NONE,
            limits: LabelLimits::NONE,
        };
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage();
        let written = decode(body, &registry, rules);
        let grown = PEAK.peak_usage().saturating_sub(before);
        assert!(
            grown <= MEMORY_RATIO * body.len() + FIXED_BYTES,
            "{grown} bytes for a body of {}",
            body.len()
        );
        assert_eq!(written.samples, written.rows.len());
        let lines = body.split(|byte| *byte == b'\n').count();
        assert!(written.samples <= lines);
        assert!(
            written
                .line_errors
                .iter()
                .all(|error| error.line <= lines + 1)
        );
    }
});
