//! The `tidelake` program: everything is in the library, so that tests can start it in-process.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(
    unsafe_code,
    reason = "a function of the allocator that has no safe wrapper"
)]
unsafe extern "C" {
    /// Gives freed memory of all threads back to the system.
    safe fn mi_collect(force: bool);
}

fn main() -> std::process::ExitCode {
    tidelake_api::cli::run(|| mi_collect(true))
}
