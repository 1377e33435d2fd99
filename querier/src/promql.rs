//! PromQL: text -> [`parse`] -> expression tree -> [`exec`] over series batches -> answer.
//!
//! The engine reads samples through one seam, [`source::SampleSource`], and knows nothing of files,
//! buffers or SQL. It never writes.
pub mod digits;
pub mod exec;
pub mod functions;
pub(crate) mod histogram;
pub mod parse;
pub mod source;
