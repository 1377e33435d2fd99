//! The PromQL grammar: text to a checked tree.
//!
//! `lexer` cuts the text into tokens, `parser` (with `selector`, `call` and `duration`) builds the
//! tree, `typecheck` refuses what has no meaning. `print` is the way back, and `pretty` the same
//! over several lines. Accepted is what Prometheus 3.14 accepts with all experimental features on
//! (or off: `experimental`), with its words for errors, since Grafana and users know them.

pub mod ast;
mod call;
mod duration;
mod error;
mod experimental;
mod lexer;
mod number;
mod parser;
mod pretty;
mod print;
mod quote;
mod selector;
mod token;
mod typecheck;

#[cfg(test)]
mod tests;

pub use error::ParseError;
pub(crate) use number::parse_duration as duration_ms;
pub use parser::{MAX_DEPTH, MAX_PATTERN_BYTES, MAX_QUERY_BYTES};
pub use pretty::pretty;

/// Parses and checks a query. The tree has at most [`MAX_DEPTH`] levels, so that walking it
/// recursively is safe.
pub fn parse(query: &str) -> Result<ast::Expr, ParseError> {
    parse_with(query, true)
}

/// The same; without `experimental`, what Prometheus takes only with a feature flag is refused.
pub fn parse_with(query: &str, experimental: bool) -> Result<ast::Expr, ParseError> {
    let mut expr = *parser::Parser::new(query).query().map_err(|error| *error)?;
    if !experimental {
        experimental::refuse(query, &expr)?;
    }
    typecheck::check(query, &mut expr)?;
    Ok(expr)
}
