//! Any bytes inflate to at most the limit, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidelake_catalog::memory::{MemoryBudget, Share};
use tidelake_ingest::content::{Encoding, decompress};

const LIMIT: usize = 1 << 16;

fuzz_target!(|body: &[u8]| {
    for encoding in [Encoding::Gzip, Encoding::Snappy, Encoding::Zstd] {
        let mut memory = MemoryBudget::unlimited().empty(Share::Parsing);
        if let Ok(out) = decompress(body, encoding, LIMIT, &mut memory) {
            assert!(out.len() <= LIMIT);
        }
    }
});
