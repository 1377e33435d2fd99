//! Any bytes are a request of OTLP or an error; a request decodes to the same rows when its series
//! are known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_ingest::LabelLimits;
use tidelake_ingest::otlp::accumulate::Accumulator;
use tidelake_ingest::otlp::{Delta, Promotion, Rules, Settings, Strategy, decode};
use tidelake_ingest::retention::Oldest;
use tidelake_ingest::series_registry::SeriesRegistry;

fuzz_target!(|input: (u8, &[u8])| {
    let (flags, body) = input;
    let is_set = |bit: u8| flags & (1 << bit) != 0;
    let settings = Settings {
        strategy: if is_set(0) {
            Strategy::NoTranslation
        } else {
            Strategy::default()
        },
        promotion: if is_set(1) {
            Promotion::AllBut(Vec::new())
        } else {
            Promotion::default()
        },
        custom_buckets: is_set(2),
        scope_labels: is_set(3),
        delta: if is_set(4) {
            Delta::Keep
        } else {
            Delta::Refuse
        },
        ..Settings::default()
    };
    let rules = Rules {
        settings: &settings,
        head: &[],
        oldest: Oldest::NONE,
        limits: LabelLimits::NONE,
        table: 0,
    };
    let registry = SeriesRegistry::new(1 << 20);
    if let Ok((first, _)) = decode(body, &registry, rules, None) {
        assert!(
            first
                .rows
                .series
                .iter()
                .all(|&s| registry.entry(s).is_some())
        );
        if !first.registry_full {
            let (second, _) = decode(body, &registry, rules, None).expect("it decoded before");
            assert_eq!(
                (first.rows.series, first.rows.time),
                (second.rows.series, second.rows.time)
            );
        }
    }
    let budget = MemoryBudget::unlimited();
    let mut memory = budget.empty(Share::Parsing);
    let _ = Accumulator::new(&budget).rewrite("d", body, 0, 32 << 20, &mut memory);
});
