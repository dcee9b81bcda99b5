//! The parts of bpf(2) that tests and benchmarks use themselves.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

pub use vipnat_common::hooks::HOOKS;

/// Commands of bpf(2). These and the layouts below follow include/uapi/linux/bpf.h.
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_LINK_DETACH: libc::c_long = 34;

const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;

/// A program of two instructions on a hook of a cgroup. It lets everything pass. `Drop` detaches it.
#[derive(Debug)]
pub struct EmptyProgram(Attached);

impl EmptyProgram {
    /// Loads the program and attaches it by a link, as vipnat does.
    pub fn attach(cgroup: &Path, attach_type: u32) -> io::Result<Self> {
        Attached::new(cgroup, attach_type, 1).map(Self)
    }

    /// The time it has run, and the number of runs.
    pub fn runs(&self) -> io::Result<Runs> {
        let Self(attached) = self;
        Ok(Runs::of(&Info::read(attached.program.try_clone()?, [0; 256])))
    }
}

/// Programs on hooks of a cgroup that refuse every call with EPERM, as another tool's policy may.
///
/// They run after the programs that were attached to the cgroup before, and before those of its ancestors.
/// `Drop` detaches them, and from then on nothing is refused.
#[derive(Debug)]
pub struct Refusal(Vec<Attached>);

impl Refusal {
    /// Attaches a program to each of these [`HOOKS`].
    pub fn attach(cgroup: &Path, hooks: &[&str]) -> io::Result<Self> {
        let wanted = HOOKS.iter().filter(|(name, _)| hooks.contains(name));
        wanted.map(|&(_, hook)| Attached::new(cgroup, hook, 0)).collect::<io::Result<_>>().map(Self)
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        let Self(programs) = self;
        for program in programs {
            // Closing the descriptor is not enough: the kernel then detaches the program some time later.
            let detached =
                Attr::default().u32(0, program.link.as_raw_fd() as u32).call(BPF_LINK_DETACH);
            if let Err(error) = detached {
                eprintln!("detach a program of this test: {error}");
            }
        }
    }
}

/// A program that redirects connects from one address to another, as other redirectors do. `Drop` detaches
/// it.
#[derive(Debug)]
pub struct Redirector {
    _attached: Attached,
}

impl Redirector {
    /// Attaches it to `connect4` of a cgroup, behind the present programs.
    pub fn attach(cgroup: &Path, from: Ipv4Addr, to: Ipv4Addr) -> io::Result<Self> {
        /// `bpf_sock_addr.user_ip4`
        const USER_IP4: u8 = 4;
        let number = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
        let lead = [
            // r2 = user_ip4; if it is not `from`, skip the next two instructions
            instruction(0x61, 0x12, USER_IP4, 0),
            instruction(0x56, 0x02, 2, number(from)),
            // user_ip4 = to
            instruction(0xb4, 0x02, 0, number(to)),
            instruction(0x63, 0x21, USER_IP4, 0),
        ];
        let instructions = [&lead[..], &returning(1)].concat();
        let (_, connect4) = HOOKS.into_iter().find(|(name, _)| *name == "connect4").unwrap();
        let program = load(connect4, &instructions, *b"redirector\0\0\0\0\0\0")?;
        let link = link(&program, cgroup, connect4)?;
        Ok(Self { _attached: Attached { program, link } })
    }
}

/// A program and its link.
#[derive(Debug)]
struct Attached {
    program: OwnedFd,
    link: OwnedFd,
}

impl Attached {
    /// Attaches a program that returns a constant.
    fn new(cgroup: &Path, attach_type: u32, result: u32) -> io::Result<Self> {
        let program = load(attach_type, &returning(result), *b"empty\0\0\0\0\0\0\0\0\0\0\0")?;
        let link = link(&program, cgroup, attach_type)?;
        Ok(Self { program, link })
    }
}

/// `r0 = result; exit`: 1 lets everything pass, 0 refuses everything.
fn returning(result: u32) -> [[u8; 8]; 2] {
    [instruction(0xb7, 0, 0, result), instruction(0x95, 0, 0, 0)]
}

/// `struct bpf_insn`. `registers` has the source, then the destination, with four bits each.
fn instruction(code: u8, registers: u8, offset: u8, number: u32) -> [u8; 8] {
    let [e, f] = u16::from(offset).to_ne_bytes();
    let [a, b, c, d] = number.to_ne_bytes();
    [code, registers, e, f, a, b, c, d]
}

/// Loads a program for a hook.
fn load(attach_type: u32, instructions: &[[u8; 8]], name: [u8; 16]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut load = Attr::default();
    load.u32(0, BPF_PROG_TYPE_CGROUP_SOCK_ADDR).u32(4, instructions.len() as u32);
    load.u64(8, instructions.as_ptr() as u64).u64(16, license.as_ptr() as u64);
    load.0[48..64].copy_from_slice(&name);
    load.u32(68, attach_type).object(BPF_PROG_LOAD)
}

/// Attaches a program to a cgroup by a link. The kernel detaches it once the link is closed everywhere.
pub fn link(program: &OwnedFd, cgroup: &Path, attach_type: u32) -> io::Result<OwnedFd> {
    let cgroup = File::open(cgroup)?;
    let mut link = Attr::default();
    link.u32(0, program.as_raw_fd() as u32).u32(4, cgroup.as_raw_fd() as u32);
    link.u32(8, attach_type).object(BPF_LINK_CREATE)
}

/// Pins an object.
pub fn pin(object: &OwnedFd, at: &Path) {
    let path = CString::new(at.as_os_str().as_bytes()).expect("a path");
    let mut attr = Attr::default();
    attr.u64(0, path.as_ptr() as u64).u32(8, object.as_raw_fd() as u32);
    attr.call(BPF_OBJ_PIN).unwrap_or_else(|error| panic!("pin {}: {error}", at.display()));
}

/// The number of programs on a cgroup itself, at all hooks of vipnat together.
pub fn attached(cgroup: &Path) -> usize {
    let cgroup = File::open(cgroup).expect("open a cgroup");
    let count = |(_, attach_type): (&str, u32)| {
        let mut attr = Attr::default();
        attr.u32(0, cgroup.as_raw_fd() as u32).u32(4, attach_type);
        attr.call(BPF_PROG_QUERY).expect("query a cgroup");
        attr.read(24) as usize
    };
    HOOKS.map(count).iter().sum()
}

/// The attach mode of a program without a link: which other programs may be attached.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    /// No other program, on this cgroup or below.
    Nobody = 0,
    /// Programs of cgroups below, which replace this one (`BPF_F_ALLOW_OVERRIDE`).
    Override = 1,
    /// Any number of programs (`BPF_F_ALLOW_MULTI`).
    Multi = 2,
}

/// Another tool's policy on a hook of a cgroup: a program named `policy` that refuses everything with EPERM.
/// `Drop` detaches it.
#[derive(Debug)]
pub struct Policy {
    program: OwnedFd,
    cgroup: File,
    attach_type: u32,
}

impl Policy {
    /// Loads the program and attaches it.
    pub fn attach(cgroup: &Path, hook: &str, beside: Beside) -> Self {
        let (_, attach_type) = *HOOKS.iter().find(|(name, _)| *name == hook).expect("a hook");
        let program = load(attach_type, &returning(0), *b"policy\0\0\0\0\0\0\0\0\0\0");
        let program = program.expect("load a policy");
        let cgroup = File::open(cgroup).expect("open a cgroup");
        let policy = Self { program, cgroup, attach_type };
        policy.call(BPF_PROG_ATTACH, beside as u32).expect("attach a policy");
        policy
    }

    /// The id of the program.
    pub fn id(&self) -> u32 {
        let program = self.program.try_clone().expect("duplicate a descriptor");
        Info::read(program, [0; 256]).u32(4)
    }

    fn call(&self, command: libc::c_long, flags: u32) -> io::Result<i32> {
        let mut attr = Attr::default();
        attr.u32(0, self.cgroup.as_raw_fd() as u32).u32(4, self.program.as_raw_fd() as u32);
        attr.u32(8, self.attach_type).u32(12, flags).call(command)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let _ = self.call(BPF_PROG_DETACH, 0);
    }
}

/// The kernel's statistics of a program. The kernel keeps them while [`statistics`] are on.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// The total time of all runs, in nanoseconds.
    pub nanoseconds: u64,
    /// The number of runs.
    pub count: u64,
}

impl Runs {
    /// Reads those of a pinned program.
    pub fn of_pin(pin: &Path) -> Self {
        Self::of(&Info::of(pin))
    }

    /// Reads `run_time_ns` and `run_cnt` of `struct bpf_prog_info`.
    fn of(info: &Info) -> Self {
        Self { nanoseconds: info.u64(192), count: info.u64(200) }
    }
}

/// Makes the kernel keep statistics of all programs until the result is dropped.
pub fn statistics() -> io::Result<OwnedFd> {
    Attr::default().object(BPF_ENABLE_STATS)
}

/// Opens a pin.
pub fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    Attr::default().u64(0, path.as_ptr() as u64).object(BPF_OBJ_GET)
}

/// Writes an element of a pinned map. Key and value must have the sizes of the map.
pub(crate) fn write(pin: &Path, key: &[u8], value: &[u8]) -> io::Result<()> {
    let map = open(pin)?;
    let mut attr = Attr::default();
    attr.u32(0, map.as_raw_fd() as u32).u64(8, key.as_ptr() as u64);
    attr.u64(16, value.as_ptr() as u64).call(BPF_MAP_UPDATE_ELEM).map(drop)
}

/// The bytes of a pinned map, according to the kernel's information on an open map (accurate since Linux
/// 6.4).
///
/// Records that sockets and cgroups keep themselves are not included.
pub fn memory(pin: &Path) -> io::Result<u64> {
    let map = open(pin)?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let bytes = about.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes
        .and_then(|bytes| bytes.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("no memlock in {about}")))
}

/// `struct bpf_map_info`, `bpf_prog_info` or `bpf_link_info` of a pin.
pub(crate) struct Info {
    pub(crate) object: OwnedFd,
    bytes: [u8; 256],
}

impl Info {
    pub(crate) fn of(pin: &Path) -> Self {
        Self::try_of(pin).unwrap_or_else(|error| panic!("open {}: {error}", pin.display()))
    }

    /// The same for a pin that may be gone.
    pub(crate) fn try_of(pin: &Path) -> io::Result<Self> {
        Ok(Self::read(open(pin)?, [0; 256]))
    }

    fn read(object: OwnedFd, mut bytes: [u8; 256]) -> Self {
        let mut attr = Attr::default();
        attr.u32(0, object.as_raw_fd() as u32).u32(4, bytes.len() as u32);
        attr.u64(8, bytes.as_mut_ptr() as u64);
        attr.call(BPF_OBJ_GET_INFO_BY_FD).expect("inspect a pin");
        Self { object, bytes }
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// The ids of the maps that a program uses. A second call asks for them, with room for 64.
    pub(crate) fn maps(self) -> Vec<u32> {
        let mut ids = [0_u32; 64];
        let mut bytes = [0; 256];
        bytes[52..56].copy_from_slice(&(ids.len() as u32).to_ne_bytes());
        bytes[56..64].copy_from_slice(&(ids.as_mut_ptr() as u64).to_ne_bytes());
        let info = Self::read(self.object, bytes);
        ids[..info.u32(52) as usize].to_vec()
    }
}

/// `union bpf_attr`, accessed by offsets.
#[repr(C, align(8))]
pub(crate) struct Attr([u8; 128]);

impl Default for Attr {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attr {
    pub(crate) fn u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn u64(&mut self, at: usize, value: u64) -> &mut Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Reads a value that the kernel wrote.
    pub(crate) fn read(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    pub(crate) fn call(&mut self, command: libc::c_long) -> io::Result<i32> {
        let Self(bytes) = self;
        // SAFETY: the callers point to buffers that have the stated size and outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, bytes.as_mut_ptr(), size_of_val(bytes))
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    /// The same for a command that makes a file descriptor.
    fn object(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: the command returned a new file descriptor, which has no other owner.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
