//! The mounts of this process, as `/proc/self/mountinfo` lists them.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// The file of the kernel.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A mount: one line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its number. The kernel gives the number of a removed mount to a later one.
    pub(crate) id: u64,
    /// Major and minor number of the device, as in `0:38`.
    pub(crate) device: Vec<u8>,
    /// The directory of the file system that it shows.
    pub(crate) root: PathBuf,
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The type of the file system, such as `cgroup2`.
    pub(crate) kind: Vec<u8>,
}

/// Reads all mounts, in the order in which they were mounted.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(MOUNTINFO)?))
}

/// Parses the lines of the file (`show_mountinfo` in fs/proc_namespace.c).
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.to_owned();
    let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
    fields.find(|field| *field == b"-")?;
    let kind = fields.next()?.to_owned();
    Some(Mount { id, device, root, point, kind })
}

/// Decodes a path. White space, backslashes and `#` are written in octal.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_says_what_is_mounted_where() {
        let text = b"7 1 0:9 /x /a\\040b\\134 rw shared:9 - cgroup2 none rw\n\nnot a line\n";
        let expected = Mount {
            id: 7,
            device: b"0:9".to_vec(),
            root: Path::new("/x").into(),
            point: Path::new("/a b\\").into(),
            kind: b"cgroup2".to_vec(),
        };
        assert_eq!(parse(text), [expected]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
