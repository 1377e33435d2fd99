//! PromQL: text -> [`parse`] -> expression tree -> `plan`, operators of DataFusion's -> answer.
//! [`exec`] runs queries, and has what the operators compute with.
//!
//! The engine reads samples through one seam, [`source::SampleSource`], and knows nothing of files,
//! buffers or SQL. It never writes.
pub mod digits;
pub mod exec;
pub mod functions;
pub(crate) mod histogram;
pub mod parse;
pub(crate) mod plan;
pub mod source;
