//! Any bytes are JSON of OTLP or an error; what comes of it is protobuf within its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use tidelake_ingest::LabelLimits;
use tidelake_ingest::otlp::{Rules, Settings, decode, json};
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

fuzz_target!(|body: &[u8]| {
    let before = PEAK.current_usage();
    PEAK.reset_peak_usage();
    let converted = json::to_protobuf(body, 1 << 20);
    assert!(PEAK.peak_usage() - before <= 16 * body.len() + (1 << 16));
    if let Ok(message) = converted {
        assert!(message.len() <= 5 * body.len());
        let settings = Settings::default();
        let rules = Rules {
            settings: &settings,
            head: &[],
            oldest: Oldest::NONE,
            limits: LabelLimits::NONE,
            table: 0,
        };
        let _ = decode(&message, &SeriesRegistry::new(1 << 20), rules, None);
    }
});
