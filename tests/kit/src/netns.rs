//! A host: a network namespace without a route to the outside.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    iter, mem,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    panic,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::panics;

/// A network namespace without a name.
///
/// The kernel removes it with its last handle, process and socket, however the test ends. Clones are handles
/// to the same namespace.
#[derive(Clone, Debug)]
pub struct NetNs {
    handle: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes a namespace that has only `lo`, which is up.
    #[expect(clippy::new_without_default, reason = "makes a kernel object")]
    pub fn new() -> Self {
        let handle = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare a network namespace (are you root?)");
            File::open("/proc/thread-self/ns/net").expect("open /proc/thread-self/ns/net")
        });
        Self::with_lo_up(handle)
    }

    /// The namespace of a process that made it for itself.
    pub(crate) fn of(process: u32) -> Self {
        Self::with_lo_up(File::open(format!("/proc/{process}/ns/net")).expect("open a namespace"))
    }

    fn with_lo_up(handle: File) -> Self {
        let host = Self { handle: Arc::new(handle.into()) };
        host.run(set_lo_up).expect("set lo up");
        host
    }

    /// Adds an address on `lo`. Other hosts of the [`Network`](crate::Network) reach it if it is in
    /// 240.0.0.0/4.
    pub fn add_address(&self, address: Ipv4Addr) {
        self.add_addresses([address]);
    }

    /// Adds several addresses.
    pub fn add_addresses(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        let add = |address| format!("address add {address}/32 dev lo\n");
        self.ip(&addresses.into_iter().map(add).collect::<String>());
    }

    /// Runs commands of the `ip` tool inside, one a line, without the word `ip`.
    pub fn ip(&self, commands: &str) {
        let mut ip = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("start ip (package iproute2)");
        let mut stdin = ip.stdin.take().expect("stdin is piped");
        stdin.write_all(commands.as_bytes()).expect("write to ip");
        drop(stdin);
        let status = ip.wait().expect("wait for ip");
        assert!(status.success(), "ip: {status}, commands:\n{commands}");
    }

    /// Runs `work` inside, on a new thread. Sockets that it makes stay in the namespace wherever they are
    /// used.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            self.enter().expect("enter the network namespace");
            work()
        })
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.receive(&mut command);
        command
    }

    /// A path by which other programs can open it, as long as this process has a handle.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.handle.as_raw_fd()).into()
    }

    /// Makes a command start inside.
    pub(crate) fn receive(&self, command: &mut Command) {
        let host = self.clone();
        // SAFETY: setns(2) is only a system call, and nothing here allocates.
        unsafe { command.pre_exec(move || Ok(host.enter()?)) };
    }

    /// Moves the calling thread inside. This is only a system call, so it is allowed between fork and exec.
    fn enter(&self) -> nix::Result<()> {
        setns(&self.handle, CloneFlags::CLONE_NEWNET)
    }
}

/// Sets `lo` up in the network namespace of the calling thread, as `ip link set lo up` does.
///
/// It starts no process, because tests make many namespaces.
pub fn set_lo_up() -> io::Result<()> {
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

    // SAFETY: an `ifreq` consists of numbers and bytes, which may all be zero.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in iter::zip(&mut request.ifr_name, b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the ioctl reads this request, which lives until it returns.
    unsafe { set_flags(any.as_raw_fd(), &request) }?;
    Ok(())
}

/// Runs work on a new thread, because a thread that changes its namespace must not do any other work.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let expected = panics::expected();
    thread::scope(|scope| scope.spawn(|| panics::expecting(expected, work)).join())
        .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}
