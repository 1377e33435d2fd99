//! Tidelake from outside: real processes, real requests, real signals.
//!
//! A server is this test binary started once more (see [`server`]), so that it can be killed at any
//! moment like the real one. Where its data lie is a [`place`]: most tests run on a folder and in
//! memory, and on S3 when `TIDELAKE_TEST_S3_ENDPOINT` (with `TIDELAKE_TEST_S3_BUCKET` and the usual
//! `AWS_*` variables) names a server.
//!
//! - [`whole_way`]: what is written by any protocol is read by any other, before and after each
//!   step of its life
//! - [`start_times`]: when a count began is kept as long as the samples, and used
//! - [`exemplars`]: exemplars live as long as their series' samples, through kill -9 and merges,
//!   and go with them
//! - [`overwrite`]: the last write wins
//! - [`deletes`], [`retention`], [`time_travel`]: what goes is gone at once, and can be read as of
//!   before for a while
//! - [`crash`]: kill -9 at random moments loses nothing that was acknowledged and shows no half of
//!   a request; [`ledger`] knows what must be there, [`files`] reads what is in the Parquet files
//! - [`stop`]: Ctrl-C leaves nothing to replay
//! - [`fencing`]: of two processes with one name the newer one wins
//! - [`decimal`]: answers do not depend on the layout of values
//! - [`damage`]: a damaged file is named, left out on request, found by `verify`, and heals when it
//!   is restored
//! - [`lost_log`]: an acknowledged object of the write-ahead log that is gone is named, and missed
//! - [`prometheus_api`]: what clients of a Prometheus ask besides queries; remote read
//! - [`queries`]: PromQL inside SQL, plans, limits, and clients that go away in the middle of a
//!   query
//! - [`influxql`]: what clients of an InfluxDB 1.x ask
//! - [`text_in`]: the text format, OpenMetrics, and pushes as to a Pushgateway
//! - [`moving`]: `tidelake import` and `tidelake export`
//! - [`fairness`]: health checks and small requests do not wait for large writes
//! - [`slow_readers`]: clients that do not read end, and keep nobody else waiting
//! - [`limits`]: names without end are refused by settings that the errors name, and what is good
//!   beside them is kept
//! - [`self_monitoring`]: the server's own metrics can be asked for at once, and outlive it
//! - [`connections`]: those that send nothing, are too many or come from a web page
//! - [`bad_input`], [`bad_queries`]: whatever is sent, the answer is a clear 4xx, and nothing is
//!   lost
#![allow(
    clippy::print_stderr,
    reason = "tests say what they skip and which seed they use"
)]
#![allow(clippy::disallowed_methods, reason = "real processes have real clocks")]

mod bad_input;
mod bad_queries;
mod client;
mod connections;
mod crash;
mod damage;
mod decimal;
mod deletes;
mod exemplars;
mod fairness;
mod fencing;
mod files;
mod influxql;
mod ledger;
mod limits;
mod lost_log;
mod moving;
mod overwrite;
mod place;
mod prometheus_api;
mod protobuf;
mod queries;
mod retention;
mod self_monitoring;
mod server;
mod slow_readers;
mod start_times;
mod stop;
mod text_in;
mod time_travel;
mod whole_way;

/// Not a test: what a server process runs. Without arguments there is nothing to do.
#[test]
fn server_process() {
    if let Some(args) = server::arguments() {
        std::process::exit(i32::from(tidelake_api::cli::run_from(args, || ())));
    }
}

/// One test per place: on a folder, in memory, on S3.
macro_rules! on_every_place {
    ($name:ident, $check:expr) => {
        mod $name {
            use crate::place::Place;

            #[tokio::test]
            async fn folder() {
                $check(&Place::folder()).await;
            }

            #[tokio::test]
            async fn memory() {
                $check(&Place::Memory).await;
            }

            #[tokio::test]
            async fn s3() {
                if let Some(place) = Place::s3() {
                    $check(&place).await;
                }
            }
        }
    };
}

/// The same for what needs a second process on the same data.
macro_rules! on_durable_places {
    ($name:ident, $check:expr) => {
        mod $name {
            use crate::place::Place;

            #[tokio::test]
            async fn folder() {
                $check(&Place::folder()).await;
            }

            #[tokio::test]
            async fn s3() {
                if let Some(place) = Place::s3() {
                    $check(&place).await;
                }
            }
        }
    };
}

pub(crate) use {on_durable_places, on_every_place};
