//! Signatures of PromQL's functions.

use super::ast::ValueType;

/// A function's name and types.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// As written in queries.
    pub name: &'static str,
    /// Types of the arguments.
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out; -1: the last may be repeated, or left out.
    pub variadic: i32,
    /// Type of the result.
    pub result: ValueType,
    /// Whether Prometheus calls it experimental.
    pub experimental: bool,
}
