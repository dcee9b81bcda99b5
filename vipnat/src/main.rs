//! The `vipnat` program; everything is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_memory();
    vipnat::cli::main()
}

/// A large table makes large blocks, one after the other. Left to itself, malloc gives each back to the
/// kernel, and the next one begins with a page fault for every 4 KiB: a third of all faults of an apply.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: no other thread runs yet; the largest value that malloc takes.
        unsafe { libc::mallopt(parameter, 32 << 20) };
    }
}
