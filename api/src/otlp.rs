//! OpenTelemetry metrics: over HTTP in protobuf and JSON, and over gRPC.
//!
//! What a body is made of is told by its headers; it is stored as it came. Data points that are
//! refused are named in a partial success, because senders drop the whole of what gets an error.
mod receive;
mod settings;

pub use receive::{grpc_routes, routes};
pub use settings::{OtlpDelta, OtlpTranslationStrategy, settings};
