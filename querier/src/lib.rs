//! Reads: PromQL and SQL over segments and recent rows.
pub mod promql;
pub mod sql;
