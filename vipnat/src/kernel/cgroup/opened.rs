//! Directories of the hierarchy, opened, and the mount that each was opened in.

use std::{
    fs::{File, OpenOptions},
    io,
    mem::zeroed,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

use nix::fcntl::OFlag;

/// Flags to open a directory without reading it. They follow no symbolic link: no cgroup is one.
pub(super) const LOOKUP: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Asks for a mount number that the kernel never reuses (`STATX_MNT_ID_UNIQUE`, kernel 6.8).
const UNIQUE: libc::c_uint = 0x4000;

/// An open file: its file system, mount and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// The device number of the file system. Every hierarchy has its own.
    pub(super) device: (u32, u32),
    /// The number of the mount. Kernels without unique numbers give that of a removed mount to the next one.
    pub(super) mount: u64,
    pub(super) inode: u64,
    pub(super) is_directory: bool,
}

/// Opens a directory by its whole path.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Reads the status of an open file, with a unique mount number if the kernel has one.
pub(super) fn seen(opened: &impl AsFd) -> io::Result<Status> {
    status(opened, libc::STATX_MNT_ID | UNIQUE)
}

/// Reads the status of an open file. `number` selects the kind of mount number.
pub(super) fn status(opened: &impl AsFd, number: libc::c_uint) -> io::Result<Status> {
    let mask = libc::STATX_TYPE | libc::STATX_INO | number;
    // SAFETY: plain data, for which zeroes are valid.
    let mut found: libc::statx = unsafe { zeroed() };
    let opened = opened.as_fd().as_raw_fd();
    // SAFETY: the path ends in a zero, and the kernel writes only this structure.
    let result =
        unsafe { libc::statx(opened, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &raw mut found) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Kernels before 5.8 return no mount number.
    if found.stx_mask & number == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel names no mounts"));
    }
    let is_directory = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
    let device = (found.stx_dev_major, found.stx_dev_minor);
    Ok(Status { device, mount: found.stx_mnt_id, inode: found.stx_ino, is_directory })
}
