//! The door of Tidelake: command line, settings, and one module per protocol over one HTTP port.
//!
//! In the order in which a process and then a request meets them:
//!
//! 1. [`cli`] and [`config`]: flags, environment, file and defaults become one [`config::Config`].
//! 2. [`server`]: opens the store, puts the parts together, serves, and stops cleanly.
//!    `connections`: accepted and served within limits.
//! 3. [`router`]: which path belongs to which module; what every request passes: `malformed` and
//!    `origin` refuse what means two things and what a foreign web page sends.
//! 4. [`body`], [`params`], [`database`]: what is read from a request, within limits.
//! 5. Writes: `influx_write`, `prom_write`. Reads: `prom_query`, `prom_explain`, `prom_labels`,
//!    `prom_exemplars`, `prom_parse`, `prom_status`, `prom_scraping`, written by `prom_answer`;
//!    `prom_read`, whose samples `chunks` encodes; `sql`. Deletes, drops, retention: `maintenance`,
//!    for `sql`, `prom_admin`, `influx_delete`, `influx_configure`. The rest: `admin`, `metrics`.
//!    `query_slots` bounds how many queries run, `query_threads` is where they compute,
//!    `paced_body` and `write_timeout` end those whose clients read nothing. Large writes are
//!    parsed on `decode_threads`.
//! 6. `verify`: the command that checks a store.
//! 7. [`error`]: the one place where a kind of failure becomes a status and a body, per protocol;
//!    `panics`: defects are answered, counted and logged too.
//!
//! Invariants: no handler answers 2xx to a write before the ingester says that it is durable; every
//! 503 carries `Retry-After`; an answer that breaks off in the middle ends the connection instead
//! of looking complete.
pub mod app;
pub mod backend;
pub mod body;
pub mod cli;
pub mod config;
pub mod database;
pub mod error;
pub mod params;
pub mod prom_answer;
pub mod router;
pub mod server;

mod admin;
mod backpressure;
mod chunks;
mod connections;
mod decode_threads;
mod go_float;
mod influx_configure;
mod influx_delete;
mod influx_predicate;
mod influx_write;
mod ingest_threads;
mod json_stream;
mod maintenance;
mod malformed;
mod memory;
mod metrics;
mod origin;
mod paced_body;
mod panics;
mod process;
mod prom_admin;
mod prom_ast;
mod prom_exemplars;
mod prom_explain;
mod prom_histogram;
mod prom_json;
mod prom_labels;
mod prom_params;
mod prom_parse;
mod prom_query;
mod prom_read;
mod prom_scraping;
mod prom_stats;
mod prom_status;
mod prom_write;
mod query_slots;
mod query_threads;
mod sql;
mod sql_cells;
mod sql_formats;
mod verify;
mod write_timeout;
