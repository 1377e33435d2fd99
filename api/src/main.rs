//! The `tidelake` program: everything is in the library, so that tests can start it in-process.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tidelake_api::cli::run()
}
