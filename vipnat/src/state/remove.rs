//! Removes directories of pins, and detaches the links in them.

use std::{fs, io, path::Path};

use crate::kernel::{
    bpf_syscall,
    dir_names::names,
    error::{Attempt as _, Result},
    hook_query,
};

/// Detaches the links in a directory of pins, and removes the directory. It is no error if it does not exist.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    remove_tree_but(path, &[])
}

/// As [`remove_tree`], but the links with the ids in `stay` stay attached: they are pinned elsewhere, too.
pub(crate) fn remove_tree_but(path: &Path, stay: &[u32]) -> Result<()> {
    if path.exists() && !path.is_dir() {
        detach_but(path, stay)?;
        return fs::remove_file(path).attempt(|| format!("remove {}", path.display()));
    }
    for name in names(path)? {
        let entry = path.join(name);
        if entry.is_dir() { remove_tree_but(&entry, stay)? } else { detach_but(&entry, stay)? }
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).attempt(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn detach_but(pin: &Path, stay: &[u32]) -> Result<()> {
    let stays =
        !stay.is_empty() && bpf_syscall::link_info(pin).is_ok_and(|link| stay.contains(&link.id));
    if stays { Ok(()) } else { detach(pin) }
}

/// Detaches a pinned link; other pins stay as they are. An unlinked link would stay attached until a kernel
/// worker runs, and as long as a process has it open.
fn detach(pin: &Path) -> Result<()> {
    match hook_query::detach_pinned_link(pin) {
        // The pin is gone, or it is no link: for maps and programs the kernel returns EINVAL.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::EINVAL) =>
        {
            Ok(())
        }
        detached => detached.attempt(|| format!("detach {}", pin.display())),
    }
}
