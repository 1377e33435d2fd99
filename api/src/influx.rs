//! The HTTP APIs of InfluxDB 1, 2 and 3.

pub mod buckets;
pub mod configure;
pub mod delete;
pub mod limits;
pub mod query;
pub mod query_v3;
pub mod token;
pub mod write;

mod predicate;
