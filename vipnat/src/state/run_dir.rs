//! `/run/vipnat`: files of state directories that are no pins. They live as long as bpffs does.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The directory of these files.
pub(crate) const DIRECTORY: &str = "/run/vipnat";

/// Makes the directory. Only root may read it, like the maps: it names apps and their services.
pub(crate) fn directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)
}

/// A file that belongs to a state directory: `/sys/fs/bpf/vipnat` has
/// `/run/vipnat/sys-fs-bpf-vipnat.names`.
pub(crate) fn beside(state: &Path, extension: &str) -> PathBuf {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'/');
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let state = state.to_string_lossy();
    let name = utf8_percent_encode(state.trim_matches('/'), KEEP).to_string();
    Path::new(DIRECTORY).join(name.replace('/', "-")).with_added_extension(extension)
}

/// Renames files of a state directory that an earlier vipnat named after another path of it.
pub(crate) fn adopt(named: &Path, state: &Path, extensions: &[&str]) {
    for extension in extensions {
        let (old, new) = (beside(named, extension), beside(state, extension));
        if old != new && old.exists() && !new.exists() {
            // If that fails, it is as if the file did not exist. A locked file stays locked.
            let _ = fs::rename(old, new);
        }
    }
}

/// Replaces the content of a file: completely or not at all.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let new = new_file(file);
    directory()?;
    let mut options = OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    open.write_all(content)?;
    fs::rename(new, file)
}

/// Removes a file, if it exists, and the leftovers of an interrupted [`replace`].
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    tidy(file)?;
    remove_file(file)
}

/// Removes the leftovers of an interrupted [`replace`].
pub(crate) fn tidy(file: &Path) -> io::Result<()> {
    remove_file(&new_file(file))
}

fn new_file(file: &Path) -> PathBuf {
    file.with_added_extension("new")
}

fn remove_file(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A read-only file system returns its error even for a file that does not exist.
        Err(_)
            if fs::symlink_metadata(file)
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound) =>
        {
            Ok(())
        }
        removed => removed,
    }
}
