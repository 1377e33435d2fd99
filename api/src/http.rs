//! HTTP: connections (`connections`, `tls`), which path belongs to which handler (`router`), what every
//! request passes on its way (`malformed`, `origin`, `authenticate`, `panics`), how requests are read (`body`,
//! `params`, `database`) and answers written (`error`, `paced_body`, `write_timeout`, `json_stream`).
//! `admin` and `metrics` answer what belongs to no other protocol.

pub mod app;
pub mod body;
pub mod connections;
pub mod database;
pub mod error;
pub mod paced_body;
pub mod params;
pub mod router;

mod admin;
mod authenticate;
pub mod json_stream;
mod malformed;
mod metrics;
mod origin;
mod panics;
pub mod tls;
mod write_timeout;
