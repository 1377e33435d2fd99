//! The PromQL grammar: lexer, Pratt parser, type check.
pub mod ast;
pub mod functions;
