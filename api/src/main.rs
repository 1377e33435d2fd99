//! The `tidelake` program: everything is in the library, so that tests can start it in-process.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: how long freed pages wait to be given back, in milliseconds.
const PURGE_DELAY: c_int = 15;
/// Pages are wanted again within this time or not for long: a flush and a merge go on to other sizes
/// of what they hold. With the second that is the default a million new series take a tenth more.
const PURGE_DELAY_MS: c_long = 5;

#[expect(
    unsafe_code,
    reason = "functions of the allocator that have no safe wrappers"
)]
unsafe extern "C" {
    /// Gives freed memory of all threads back to the system.
    safe fn mi_collect(force: bool);
    /// Sets an option, unless the environment has it.
    safe fn mi_option_set_default(option: c_int, value: c_long);
}

fn main() -> std::process::ExitCode {
    mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS);
    tidelake_api::cli::run(|| mi_collect(true))
}
