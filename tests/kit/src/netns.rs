//! A host: a network namespace without a route out.

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

/// A network namespace without a name: it is gone when the last handle, process and socket in it
/// is gone, however the test ends. Clones are handles to the same namespace.
#[derive(Clone, Debug)]
pub struct NetNs {
    handle: Arc<OwnedFd>,
}

impl NetNs {
    /// A new namespace in which only `lo` exists, and is up.
    #[expect(clippy::new_without_default, reason = "makes a kernel object")]
    pub fn new() -> Self {
        let handle = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare a network namespace (are you root?)");
            File::open("/proc/thread-self/ns/net").expect("open /proc/thread-self/ns/net")
        });
        Self::with_lo_up(handle)
    }

    /// The namespace of a process, which made it for itself.
    pub(crate) fn of(process: u32) -> Self {
        Self::with_lo_up(File::open(format!("/proc/{process}/ns/net")).expect("open a namespace"))
    }

    fn with_lo_up(handle: File) -> Self {
        let host = Self { handle: Arc::new(handle.into()) };
        host.run(set_lo_up).expect("set lo up");
        host
    }

    /// Gives the host another address, on `lo`. Other hosts of its [`Network`](crate::Network)
    /// reach it there if it is in 240.0.0.0/4.
    pub fn add_address(&self, address: Ipv4Addr) {
        self.add_addresses([address]);
    }

    /// The same with several.
    pub fn add_addresses(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        let add = |address| format!("address add {address}/32 dev lo\n");
        self.ip(&addresses.into_iter().map(add).collect::<String>());
    }

    /// Runs commands of the `ip` tool inside, one a line and without the word `ip`.
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

    /// Runs `work` inside, on a thread of its own. Sockets it makes stay in the namespace wherever
    /// they are used.
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

    /// A path that other programs can name it by, as long as this process has a handle.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.handle.as_raw_fd()).into()
    }

    /// Makes a command start inside.
    pub(crate) fn receive(&self, command: &mut Command) {
        let host = self.clone();
        // SAFETY: setns(2) is only a system call, and nothing here allocates.
        unsafe { command.pre_exec(move || Ok(host.enter()?)) };
    }

    /// Moves the calling thread inside. Only a system call: allowed between fork and exec.
    fn enter(&self) -> nix::Result<()> {
        setns(&self.handle, CloneFlags::CLONE_NEWNET)
    }
}

/// What `ip link set lo up` does, in the network namespace of the calling thread, without a process:
/// tests make many namespaces.
pub fn set_lo_up() -> io::Result<()> {
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

    // SAFETY: an `ifreq` is numbers and bytes, which may all be zero.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in iter::zip(&mut request.ifr_name, b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the request is what this ioctl reads, and lives until it returns.
    unsafe { set_flags(any.as_raw_fd(), &request) }?;
    Ok(())
}

/// A thread that changes its namespace must not be used for anything else.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let expected = panics::expected();
    thread::scope(|scope| scope.spawn(|| panics::expecting(expected, work)).join())
        .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}
