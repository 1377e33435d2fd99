//! The `tidelake` program: everything is in the library, so that tests can start it in-process.

use std::ffi::{c_int, c_long};

use tidelake_catalog::memory::Allocator;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, how long freed pages wait to be given back, in milliseconds.
const PURGE_DELAY: c_int = 15;

#[expect(
    unsafe_code,
    reason = "functions of the allocator that have no safe wrappers"
)]
unsafe extern "C" {
    /// Gives freed memory of this thread, and of those that ended, back to the system.
    safe fn mi_collect(force: bool);
    /// Sets an option.
    safe fn mi_option_set(option: c_int, value: c_long);
}

fn main() -> std::process::ExitCode {
    tidelake_api::cli::run(Some(Allocator {
        give_back: || mi_collect(true),
        keep_for_ms: |milliseconds| mi_option_set(PURGE_DELAY, milliseconds),
    }))
}
