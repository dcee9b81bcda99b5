//! Settings of this process: how malloc keeps memory, and the effect of a closed standard output.

use nix::sys::signal::{SIGPIPE, SigHandler};

/// Lets malloc keep freed blocks of up to 32 MiB. Call it before any other thread starts.
///
/// A large table needs large blocks, one after the other. By default malloc returns each to the kernel,
/// so that the next one costs a page fault for every 4 KiB: a third of all page faults of an apply. A
/// process that stays, such as `vipnat run`, would keep that memory, and must not call this.
///
/// In figure 3 of the benchmarks (`cargo xtask bench --only apply`, 60,000 VIPs, medians of five paired
/// rounds), one change takes 49 ms with this and 52 ms without. A table from nothing shows no clear gain.
pub(crate) fn tune_malloc() {
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: no other thread runs yet, and 32 MiB is the largest value that malloc takes.
        unsafe { libc::mallopt(parameter, 32 << 20) };
    }
}

/// Prepares malloc for blocks of this size together. The kernel then gives memory in pages of 2 MiB, if it has
/// them for programs that ask (`/sys/kernel/mm/transparent_hugepage/enabled`). Call it after [`tune_malloc`].
///
/// Otherwise each 4 KiB cost a page fault. With 60,000 VIPs, an apply that makes one change has 1,150 page faults
/// instead of 4,560, and takes 37 ms instead of 44 (medians of 21 paired runs).
pub(crate) fn expect_heap(size: usize) {
    const HUGE: usize = 2 << 20;
    // malloc takes larger blocks than this elsewhere.
    let size = size.min(30 << 20);
    if !cfg!(target_env = "gnu") || size < 2 * HUGE {
        return;
    }
    // The heap grows for this block, and keeps the memory when the block is freed.
    let mut block = Vec::<u8>::with_capacity(size);
    let start = block.as_mut_ptr();
    let aligned = start.align_offset(HUGE);
    // SAFETY: these addresses are within the block, which has no content. The advice changes none.
    unsafe {
        libc::madvise(start.add(aligned).cast(), size - aligned, libc::MADV_HUGEPAGE);
    }
}

/// The effect of a write to a closed standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosedOutput {
    /// It ends the process quietly.
    Ends,
    /// It fails, and the process goes on.
    Fails,
}

/// Sets the effect of a write to a closed standard output on this process (SIGPIPE).
pub(crate) fn on_closed_output(then: ClosedOutput) {
    let action = match then {
        ClosedOutput::Ends => SigHandler::SigDfl,
        ClosedOutput::Fails => SigHandler::SigIgn,
    };
    // SAFETY: neither action is a handler of ours.
    let _ = unsafe { nix::sys::signal::signal(SIGPIPE, action) };
}
