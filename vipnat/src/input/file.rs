//! Reads a file that a user names, without waiting for a FIFO or a device.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use anyhow::Result;
use vipnat_core::text::shown_name;

use super::error_text::InvalidInput;

/// The largest input. A larger one would only fill the memory.
const MAX_INPUT: u64 = 256 << 20;

/// The name of an input in messages.
pub(crate) fn display_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { shown_name(path) }
}

/// Reads a regular file; `-` is standard input, of any kind.
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
        // `take` hides the size of the file. Without it, the bytes move to larger blocks.
        let size = file.metadata().map_or(0, |metadata| metadata.len().min(MAX_INPUT));
        bytes.reserve_exact(size as usize + 1);
        file.take(MAX_INPUT + 1).read_to_end(&mut bytes)
    };
    read.map_err(|error| invalid(format!("cannot read it: {error}")))?;
    if bytes.len() as u64 > MAX_INPUT {
        let mib = MAX_INPUT >> 20;
        return Err(invalid(format!("larger than {mib} MiB; is this the right file?")).into());
    }
    Ok(bytes)
}

/// Opens a regular file. The inner error names the kind of any other file.
///
/// Opening a FIFO would wait for a writer, and opening a device may have effects. So the kind is read from
/// a descriptor that does not open the file (`O_PATH`). The same inode is then opened through `/proc`, even
/// if the path leads to another file by now.
fn open(path: &Path) -> io::Result<Result<File, &'static str>> {
    // O_PATH ignores the access mode, but std requires one.
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    match kind(place.metadata()?.file_type()) {
        None => File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map(Ok),
        Some(kind) => Ok(Err(kind)),
    }
}

/// Names the kind of a file that is not regular.
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
