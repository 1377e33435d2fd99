//! Any text is InfluxQL or refused, with a position within it.
#![no_main]

use libfuzzer_sys::fuzz_target;

// Not by way of the crate: with DataFusion behind it, building with a fuzzer's instruments takes
// the better part of an hour.
#[path = "../../src/influxql"]
#[allow(dead_code, unused_imports)]
mod influxql {
    pub mod ast;
    pub mod lexer;
    pub mod parser;
}

use influxql::ast::Literal;
use influxql::parser::{Params, parse};

fuzz_target!(|text: &str| {
    let mut params = Params::new();
    params.insert("p".to_owned(), Literal::Integer(1));
    if let Err(error) = parse(text, &params) {
        assert!(!error.to_string().is_empty());
    }
});
