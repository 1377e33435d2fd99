//! Any text is PromQL or refused; what is PromQL is written so that it reads back as the same, on
//! one line and over several.
#![no_main]

use libfuzzer_sys::fuzz_target;

// Not by way of the crate: with DataFusion behind it, building with a fuzzer's instruments takes
// the better part of an hour.
#[path = "../../src/promql"]
#[allow(dead_code, unused_imports)]
mod promql {
    mod digits;
    pub mod functions {
        mod signature;
        use super::parse::ast::ValueType::{InstantVector, RangeVector, Scalar, String};
        pub use signature::Signature as Function;

        // One of each kind of signature: kernels, which the real table names, need DataFusion.
        static FUNCTIONS: [Function; 5] = [
            function("clamp", &[InstantVector, Scalar, Scalar], 0),
            function("info", &[InstantVector, InstantVector], 1),
            function("label_join", &[InstantVector, String, String, String], -1),
            function("rate", &[RangeVector], 0),
            function("start", &[], 0),
        ];

        const fn function(
            name: &'static str,
            args: &'static [super::parse::ast::ValueType],
            variadic: i32,
        ) -> Function {
            Function {
                name,
                args,
                variadic,
                result: InstantVector,
                experimental: false,
            }
        }

        pub fn lookup(name: &str) -> Option<&'static Function> {
            FUNCTIONS.iter().find(|function| function.name == name)
        }
    }
    pub mod parse;
}
use promql::parse;

fuzz_target!(|text: &str| {
    let Ok(expr) = parse::parse(text) else { return };
    let written = expr.to_string();
    for form in [written.clone(), parse::pretty(&expr)] {
        let again = parse::parse(&form)
            .unwrap_or_else(|error| panic!("{text:?} was written as {form:?}: {error}"));
        assert_eq!(
            again.to_string(),
            written,
            "{text:?} was written as {form:?}"
        );
    }
});
