//! What the parser needs to know of a function.

use super::super::parse::ast::ValueType;

/// How a function is called, and what it answers.
#[derive(Debug)]
pub struct Signature {
    /// As written in queries.
    pub name: &'static str,
    /// Types of the arguments.
    pub args: &'static [ValueType],
    /// How often the last argument may be given: 0: exactly once; n: up to n times, or not at all;
    /// -1: any number of times, or not at all.
    pub variadic: i32,
    /// Type of the result.
    pub result: ValueType,
    /// Whether Prometheus calls it experimental.
    pub experimental: bool,
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Signature {
    /// Fewest arguments of a call.
    pub fn min_args(&self) -> usize {
        self.args
            .len()
            .saturating_sub(usize::from(self.variadic != 0))
    }

    /// Most arguments of a call; `None`: any number.
    pub fn max_args(&self) -> Option<usize> {
        match self.variadic {
            0 => Some(self.args.len()),
            times => usize::try_from(times)
                .ok()
                .map(|times| self.min_args() + times),
        }
    }

    /// Type of an argument, counted from 0; beyond the last that of the last.
    pub fn arg_type(&self, at: usize) -> ValueType {
        self.args
            .get(at)
            .or(self.args.last())
            .copied()
            .unwrap_or(ValueType::Scalar)
    }
}
