//! PromQL: text -> [`parse`] -> expression tree -> `exec` over series batches -> answer.
pub mod parse;
