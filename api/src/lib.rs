//! The door of Tidelake: command line, settings, and all protocols over one port.
//!
//! In the order in which a process and then a request meets them:
//!
//! 1. [`cli`] and [`config`]: flags, environment, file and defaults become one [`config::Config`].
//!    `verify`: the command that checks a store.
//! 2. [`server`]: opens the store, puts the parts together ([`node`]), serves, and stops cleanly.
//! 3. [`http`]: connections within limits, which path belongs to which handler, and what every
//!    request passes: `malformed` and `origin` refuse what means two things and what a foreign web
//!    page sends, `authenticate` finds out who asks.
//! 4. [`prometheus`], [`influx`], [`sql`], [`flight`], [`otlp`], [`pg`], [`collectd`]: one folder per
//!    protocol.
//!    They translate: parameters and bodies to the requests of the service, its answers and errors
//!    to theirs. [`ui`]: the web page, which is files.
//! 5. [`service`]: authorizes, admits, limits and answers the requests of all of them.
//!
//! Invariants: no handler answers 2xx to a write before the ingester says that it is durable;
//! nothing of a database is read, written or changed without an
//! [`Access`](service::context::Access) to it; every 503 carries `Retry-After`; an answer that
//! breaks off in the middle ends the connection instead of looking complete.
pub mod cli;
pub mod cluster;
pub mod collectd;
pub mod config;
pub mod flight;
pub mod http;
pub mod influx;
pub mod node;
pub mod otlp;
pub mod pg;
pub mod prometheus;
pub mod server;
pub mod service;
pub mod sql;
pub mod ui;

mod verify;
