//! The server as its users meet it: a process of its own, its HTTP port, kill -9, and the files it leaves.
//!
//! - `server`: starts processes. There is no second binary to build: this one runs itself again as `server_process`.
//! - `client`: requests and answers; `remote_write`: messages as Prometheus sends them.
//! - The tests, by what they promise: `whole_way`, `overwrite`, `crash`, `takeover`, `bad_input`.
//!
//! The store is a folder and memory, and S3 too when `TIDELAKE_TEST_S3_ENDPOINT`, `TIDELAKE_TEST_S3_BUCKET` and the usual
//! `AWS_*` variables name one.
#![allow(clippy::print_stderr, reason = "tests say what they skip and which seed they use")]

mod bad_input;
mod client;
mod crash;
mod overwrite;
mod remote_write;
mod server;
mod takeover;
mod whole_way;

/// Not a test: what [`server::Server`] runs.
#[test]
fn server_process() {
    let Ok(arguments) = std::env::var(server::ARGUMENTS) else { return };
    let code = tidelake_api::cli::run_from(std::iter::once("tidelake").chain(arguments.split('\u{1f}')).map(Into::into));
    std::process::exit(i32::from(code));
}
