//! Any bytes are messages, statements, parameters and steps of SCRAM, or errors.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidelake_api::pg::read_any(bytes));
