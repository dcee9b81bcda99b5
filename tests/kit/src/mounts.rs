//! The mount points of the kernel's file systems.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
};

/// The usual mount point of a bpffs.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// The mount point of cgroup v2: `/sys/fs/cgroup`, or a directory below it on hybrid systems.
pub(crate) fn cgroup2() -> PathBuf {
    // The first mount may be hidden, or show only a part. The root has inode 1, and no `cgroup.type`.
    let is_root = |path: &PathBuf| {
        path.metadata().is_ok_and(|root| root.ino() == 1)
            && path.join("cgroup.procs").exists()
            && !path.join("cgroup.type").exists()
    };
    mounted("cgroup2").find(is_root).expect("cgroup v2 is not mounted")
}

/// Mounts the bpffs if it is not mounted.
///
/// Tests run at the same time, and a second mount over the first would hide the pins there. So this takes a
/// lock and then checks again.
pub(crate) fn ensure_bpffs() {
    let is_mounted = || mounted("bpf").any(|path| path == Path::new(BPFFS));
    if is_mounted() {
        return;
    }
    let directory = File::open(BPFFS).expect("open /sys/fs/bpf");
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .expect("lock /sys/fs/bpf");
    if !is_mounted() {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .expect("mount a bpffs on /sys/fs/bpf (are you root?)");
    }
}

/// The mount points of a type of file system, in the order of mounting.
fn mounted(kind: &str) -> impl Iterator<Item = PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read /proc/self/mounts");
    let paths: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_device, path, fstype) = (fields.next()?, fields.next()?, fields.next()?);
            (fstype == kind).then(|| path.into())
        })
        .collect();
    paths.into_iter()
}
