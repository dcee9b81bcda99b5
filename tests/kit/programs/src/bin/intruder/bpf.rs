//! The commands of bpf(2) that the intruder tries.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Result},
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// From `enum bpf_cmd` (include/uapi/linux/bpf.h).
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const OBJ_GET: libc::c_int = 7;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;
const LINK_DETACH: libc::c_int = 34;
const TOKEN_CREATE: libc::c_int = 36;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`, `BPF_CGROUP_INET4_CONNECT`, `BPF_F_ALLOW_MULTI`
const SOCK_ADDR: u32 = 18;
const CONNECT4: u32 = 10;
const ALLOW_MULTI: u32 = 2;

/// Kinds of objects that have ids.
///
/// Each has two commands: one gives the next id, the other opens an id.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Program,
    Map,
    Link,
}

impl Kind {
    fn commands(self) -> (libc::c_int, libc::c_int) {
        match self {
            Self::Program => (11, 13),
            Self::Map => (12, 14),
            Self::Link => (31, 30),
        }
    }
}

/// `union bpf_attr`
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    /// Sets fields of four bytes, beginning at an offset.
    fn words(offset: usize, words: &[u32]) -> Self {
        let mut attr = Self([0; 128]);
        for (number, word) in words.iter().enumerate() {
            let at = offset + 4 * number;
            attr.0[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        attr
    }

    /// Sets a field of eight bytes to an address.
    fn with_address<T>(mut self, offset: usize, address: *const T) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&(address as u64).to_ne_bytes());
        self
    }
}

fn bpf(command: libc::c_int, mut attr: Attr) -> Result<RawFd> {
    // SAFETY: the kernel reads and writes as many bytes as the size says. All data that the attribute points
    // to lives in the caller.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), attr.0.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

fn object(command: libc::c_int, attr: Attr) -> Result<OwnedFd> {
    // SAFETY: these commands return a new descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(bpf(command, attr)?) })
}

fn word(fd: &impl AsRawFd) -> u32 {
    fd.as_raw_fd() as u32
}

/// Opens a pin.
pub(crate) fn open_pin(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    object(OBJ_GET, Attr::words(0, &[]).with_address(0, path.as_ptr()))
}

/// Opens an object by its id.
pub(crate) fn open_id(kind: Kind, id: u32) -> Result<OwnedFd> {
    object(kind.commands().1, Attr::words(0, &[id]))
}

/// Asks for the first id of a kind.
pub(crate) fn first_id(kind: Kind) -> Result<()> {
    bpf(kind.commands().0, Attr::words(0, &[0])).map(drop)
}

/// Asks which programs are attached to a cgroup.
pub(crate) fn query(cgroup: &File) -> Result<()> {
    bpf(PROG_QUERY, Attr::words(0, &[word(cgroup), CONNECT4])).map(drop)
}

/// Detaches the program of a cgroup, without naming it.
pub(crate) fn detach(cgroup: &File) -> Result<()> {
    bpf(PROG_DETACH, Attr::words(0, &[word(cgroup), 0, CONNECT4])).map(drop)
}

/// Detaches a link for all processes that have it open.
pub(crate) fn detach_link(link: &OwnedFd) -> Result<()> {
    bpf(LINK_DETACH, Attr::words(0, &[word(link)])).map(drop)
}

/// Loads a program that lets every connect pass.
pub(crate) fn load() -> Result<OwnedFd> {
    // r0 = 1; exit
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    let instructions = [[0xb7, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"GPL";
    let mut attr = Attr::words(0, &[SOCK_ADDR, instructions.len() as u32])
        .with_address(8, instructions.as_ptr())
        .with_address(16, license.as_ptr());
    attr.0[68..72].copy_from_slice(&CONNECT4.to_ne_bytes());
    object(PROG_LOAD, attr)
}

/// Attaches a program beside others, and detaches it.
pub(crate) fn attach(cgroup: &File, program: &OwnedFd) -> Result<()> {
    let (cgroup, program) = (word(cgroup), word(program));
    bpf(PROG_ATTACH, Attr::words(0, &[cgroup, program, CONNECT4, ALLOW_MULTI]))?;
    bpf(PROG_DETACH, Attr::words(0, &[cgroup, program, CONNECT4])).map(drop)
}

/// Attaches a program by a link, and closes that at once.
pub(crate) fn link(cgroup: &File, program: &OwnedFd) -> Result<()> {
    object(LINK_CREATE, Attr::words(0, &[word(program), word(cgroup), CONNECT4])).map(drop)
}

/// Makes a map.
pub(crate) fn create_map() -> Result<()> {
    const ARRAY: u32 = 2;
    object(MAP_CREATE, Attr::words(0, &[ARRAY, 4, 4, 1])).map(drop)
}

/// Asks a bpffs for a token. A token carries rights that the mounter of the bpffs delegated.
pub(crate) fn token(bpffs: &File) -> Result<()> {
    object(TOKEN_CREATE, Attr::words(0, &[0, word(bpffs)])).map(drop)
}
