//! The parts of one process: opened and put together (`backend`), with the threads that they compute
//! on (`class_threads`, `decode_threads`, `ingest_threads`), the memory that they share (`memory`,
//! `process`), and what slows writes down while merges lag behind (`backpressure`).

pub mod backend;
pub mod figures;
pub mod memory;
pub mod process;

mod backpressure;
pub mod class_threads;
mod decode_threads;
mod ingest_threads;
