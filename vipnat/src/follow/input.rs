//! Files that users name: opened so that nothing but a regular file is ever waited for.

use std::{
    fmt,
    fs::{File, FileType, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Error, Result};
use vipnat_core::{
    table::{Table, TableError},
    text::{shown, shown_name},
};

use crate::kernel::cgroup::Tree;

/// Input that is wrong, as opposed to something that failed: exit status 2.
#[derive(Debug)]
pub(crate) struct InvalidInput(pub(crate) String);

impl std::error::Error for InvalidInput {}

impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a table is called in messages.
pub(crate) fn display_name(table: &Path) -> String {
    if table == Path::new("-") { "standard input".to_owned() } else { shown_name(table) }
}

/// Reads and checks a table; `-` is standard input.
pub(crate) fn parse_table(path: &Path) -> Result<Table> {
    let bytes = read_input(path)?;
    Ok(Table::parse(&bytes, &display_name(path), &cgroup_mount())?)
}

/// What whole paths of cgroups begin with. Where none is in view, a table can still be checked.
pub(crate) fn cgroup_mount() -> PathBuf {
    let tree = Tree::find();
    tree.map_or_else(|_| PathBuf::from("/sys/fs/cgroup"), |tree| tree.mount().to_owned())
}

/// An error and its reasons, on one line but for those that are lists of mistakes. Some errors of libraries
/// say their reason themselves; then it is not said again.
pub(crate) fn with_reasons(error: &Error) -> String {
    let mut text = String::new();
    for reason in error.chain() {
        let is_list = reason.is::<TableError>() || reason.is::<InvalidInput>();
        let reason = reason.to_string();
        let reason = if is_list { reason } else { shown(&reason).into_owned() };
        if text.is_empty() {
            text = reason;
        } else if !text.ends_with(&reason) {
            text = text + ": " + &reason;
        }
    }
    text
}

/// No input is larger; what is would only fill the memory.
const MAX_INPUT: u64 = 256 << 20;

/// Reads a regular file; `-` is standard input, which may be anything.
pub(crate) fn read_input(path: &Path) -> Result<Vec<u8>> {
    let invalid = |what: String| InvalidInput(format!("{}: {what}", display_name(path)));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(MAX_INPUT + 1).read_to_end(&mut bytes)
    } else {
        let opened = open(path).map_err(|error| invalid(format!("cannot read it: {error}")))?;
        let file = opened.map_err(|kind| {
            invalid(format!(
                "this is a {kind}, not a file; name a regular file, or let vipnat read standard \
                 input: `-`"
            ))
        })?;
        file.take(MAX_INPUT + 1).read_to_end(&mut bytes)
    };
    read.map_err(|error| invalid(format!("cannot read it: {error}")))?;
    if bytes.len() as u64 > MAX_INPUT {
        let mib = MAX_INPUT >> 20;
        return Err(invalid(format!("larger than {mib} MiB; is this the right file?")).into());
    }
    Ok(bytes)
}

/// Opens a regular file. The inner error is the kind of anything else.
///
/// The kind is asked of a descriptor that opens nothing (`O_PATH`), and that very inode is then opened:
/// opening a FIFO would wait for a writer, opening a device may do anything, and whatever takes the
/// place of the file in between is not opened.
fn open(path: &Path) -> io::Result<Result<File, &'static str>> {
    // The access mode is ignored with O_PATH, but must be given.
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    match kind(place.metadata()?.file_type()) {
        None => File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map(Ok),
        Some(kind) => Ok(Err(kind)),
    }
}

/// What people call a file that is no regular one.
fn kind(file: FileType) -> Option<&'static str> {
    let kinds = [
        (file.is_file(), None),
        (file.is_dir(), Some("directory")),
        (file.is_fifo(), Some("pipe (FIFO)")),
        (file.is_socket(), Some("socket")),
        (file.is_char_device(), Some("character device")),
        (file.is_block_device(), Some("block device")),
    ];
    kinds.into_iter().find_map(|(is, kind)| is.then_some(kind)).unwrap_or(Some("special file"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn nothing_but_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        assert_eq!(read_input(&at("file")).unwrap(), b"text");
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("fifo", at("link")).unwrap();
        for (path, kind) in [
            (at("fifo"), "a pipe (FIFO)"),
            (at("link"), "a pipe (FIFO)"),
            (at("socket"), "a socket"),
            (at(""), "a directory"),
            ("/dev/zero".into(), "a character device"),
        ] {
            let error = read_input(&path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: this is {kind}, ", path.display())), "{error}");
        }
        let error = read_input(&at("none")).unwrap_err().to_string();
        assert!(error.contains("cannot read it: No such file"), "{error}");
    }
}
