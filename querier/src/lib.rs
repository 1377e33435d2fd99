//! Reads: PromQL and SQL over segments and recent rows. The querier never writes an object.
//!
//! - [`tables`]: what there is to read of a table: segments (opened through `segment_cache`) and
//!   recent rows; `damage`: what is left out of partial answers;
//! - [`promql`]: text -> tree -> series batches; [`samples`] feeds it from tables,
//!   [`sorted_samples`] whoever reads samples as they are;
//! - [`sql`]: text -> DataFusion plan -> record batches over the same tables;
//! - [`influxql`]: text -> plan -> series of rows, over the same units of scans;
//! - [`exemplars`]: exemplars of the series that an expression selects;
//! - `warm`: has new segments read as queries lately read, before anybody waits for it;
//! - [`as_of`]: which earlier state a query asks for;
//! - [`memory`]: what each query holds of the process' memory;
//! - [`parts`]: what processes compute of each other's queries;
//! - [`small`]: where work is done, [`lane`]: on which threads that of a query;
//! - [`labels`]: series and their labels, from series indexes alone; [`cardinality`]: how many
//!   there are, and of what.
pub mod as_of;
pub mod cardinality;
mod damage;
pub mod exemplars;
pub mod influxql;
pub mod labels;
pub mod lane;
pub mod memory;
pub mod parts;
mod processors;
pub mod promql;
pub mod querier;
mod read_metrics;
pub mod samples;
mod segment_cache;
pub mod small;
pub mod sorted_samples;
pub mod sql;
mod sql_rows;
pub mod tables;
#[cfg(test)]
mod test_tables;
mod warm;
pub use querier::{Answer, PARTIAL_TRIES, Querier};
