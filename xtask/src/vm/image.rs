//! The initial file system of a machine: a few modules and a script.
//!
//! The script mounts this machine's files read-only, with an overlay for changes. Then it starts the
//! real first process from there.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The name of the file system that the host serves.
pub(super) const TAG: &str = "host";

/// The real first process makes all further mounts.
const SCRIPT: &str = "\
#!/bin/busybox sh
b=/bin/busybox
for module in $($b ls /modules); do
    $b insmod /modules/$module || echo \"vipnat-vm: $module can't be loaded\"
done
$b mount -t virtiofs -o ro TAG /lower &&
$b mount -t tmpfs -o mode=0755 none /upper &&
$b mkdir /upper/files /upper/work &&
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work none /root &&
exec $b switch_root /root INIT
echo \"vipnat-vm: the files of the host can't be mounted: are virtio_pci, virtiofs and overlay in the kernel,\" \\
    \"or among the modules of its folder?\"
$b poweroff -f
";

/// The archive that the kernel boots from. `init` is a path on this machine.
pub(super) fn build(busybox: &Path, modules: &[PathBuf], init: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "modules", "lower", "upper", "root"] {
        archive.directory(directory);
    }
    archive.program("bin/busybox", &read(busybox)?);
    for (number, module) in modules.iter().enumerate() {
        let name = module.file_name().map_or_else(OsString::new, OsString::from);
        // The names keep the load order.
        let path = format!("modules/{number:02}-{}", name.to_string_lossy());
        archive.program(&path, &read(module)?);
    }
    let script = SCRIPT.replace("TAG", TAG).replace("INIT", &init.display().to_string());
    archive.program("init", script.as_bytes());
    Ok(archive.finish())
}

/// A cpio archive as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn program(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, 0o100_755, contents);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("files are small");
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // time of change
            length(contents),
            0, // device
            0,
            0, // device that it is
            0,
            length(name.as_bytes()) + 1,
            0, // checksum
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.program("init", b"12345");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"12345");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
