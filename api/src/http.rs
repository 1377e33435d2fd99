//! HTTP: connections (`connections`, `tls`), which path belongs to which handler (`router`), what
//! every request passes on its way (`malformed`, `origin`, `authenticate`, `panics`), how requests
//! are read (`body`, `params`, `database`) and answers written (`error`, `paced_body`,
//! `write_timeout`, `json_stream`). `grpc` is how methods of gRPC become paths of the same router.
//! `admin`, `queries` and `metrics` answer what belongs to no other protocol, `openapi` describes
//! all of it, `cluster` what other processes of the store ask.

pub mod app;
pub mod body;
mod class;
pub mod connections;
pub mod database;
pub mod error;
pub mod grpc;
pub mod paced_body;
pub mod params;
pub mod router;

mod admin;
pub mod authenticate;
mod cluster;
pub mod json_stream;
pub mod malformed;
mod metrics;
mod openapi;
mod origin;
mod panics;
mod queries;
pub mod tls;
mod write_timeout;
