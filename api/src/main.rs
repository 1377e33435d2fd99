//! The `tidelake` program: everything is in the library, so that tests can start it in-process.

use std::ptr;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What is freed is given back within two seconds, by a thread that does nothing else: the next
/// query mostly wants it again before.
#[expect(
    unsafe_code,
    reason = "the allocator looks for its settings by this name"
)]
#[cfg_attr(not(target_os = "macos"), unsafe(export_name = "malloc_conf"))]
#[cfg_attr(target_os = "macos", unsafe(export_name = "_rjem_malloc_conf"))]
pub static SETTINGS: &[u8; 60] = b"background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0\0";

/// Gives back at once what is freed, of all arenas (4096 stands for them).
#[expect(
    unsafe_code,
    reason = "a function of the allocator that has no safe wrapper"
)]
fn give_back() {
    let (name, none) = (c"arena.4096.purge", ptr::null_mut());
    // SAFETY: the name ends with a zero, and the call neither reads nor writes a value.
    let error =
        unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), none, ptr::null_mut(), none, 0) };
    debug_assert_eq!(error, 0);
}

fn main() -> std::process::ExitCode {
    tidelake_api::cli::run(give_back)
}
