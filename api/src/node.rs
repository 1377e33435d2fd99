//! The parts of one process: opened and put together (`backend`), with the threads that they
//! compute on (`class_threads`, `decode_threads`, `ingest_threads`), the memory that they share
//! (`memory`, `process`), and what slows writes down while merges lag behind (`backpressure`).
//! `view`: a store without a server.

pub mod backend;
pub mod figures;
pub mod memory;
pub mod process;
pub mod view;

mod backpressure;
pub mod class_threads;
mod decode_threads;
mod ingest_threads;
