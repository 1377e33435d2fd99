//! Prometheus' HTTP API, below `/` and below `/db/{database}`.

pub mod admin;
pub mod answer;
pub mod exemplars;
pub mod explain;
pub mod import;
pub mod labels;
pub mod parse;
pub mod pushgateway;
pub mod query;
pub mod read;
pub mod scraping;
pub mod status;
pub mod tail;
pub mod write;

mod ast;
pub mod chunks;
pub mod go_float;
mod histogram;
pub mod json;
pub mod params;
mod stats;
