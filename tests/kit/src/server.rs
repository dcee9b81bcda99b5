//! Servers from Debian's packages: HTTP, Redis, DNS and TFTP.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    cgroup::Cgroup,
    command::{CommandExt as _, outcome},
    leftovers,
    netns::NetNs,
    programs::installed,
    this_machine::patient,
};

/// Time limit for the start of a server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with an address and a name. Clients can ask for the name, to learn which server they reached.
/// `Drop` ends it with all its processes, and removes its files.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Removing the cgroup ends the server. `Some` until dropped.
    cgroup: Option<Cgroup>,
    _files: Option<TempDir>,
}

impl Server {
    /// Redis. `get who` returns the name.
    pub fn redis(host: &NetNs, ip: Ipv4Addr, name: &str) -> Self {
        // Debian's tools package contains the server's program as redis-check-rdb, a name under which it
        // checks files. The server package only adds a link to it, and starts a service.
        let mut redis = host.command("redis-check-rdb");
        redis.arg0("redis-server").args(["--bind", &ip.to_string(), "--protected-mode", "no"]);
        redis.args(["--save", "", "--appendonly", "no"]);
        let server = Self::start(host, SocketAddrV4::new(ip, 6379), redis, None);
        let mut cli = host.command("redis-cli");
        let set = outcome(cli.args(["-h", &ip.to_string(), "set", "who", name]));
        assert_eq!(set.stdout.trim(), "OK", "redis-cli: {set}");
        server
    }

    /// dnsmasq. It knows only `who.test`: an address that ends with the number, and a TXT record with the
    /// number.
    pub fn dns(host: &NetNs, ip: Ipv4Addr, number: u8) -> Self {
        let mut dns = host.command(installed("dnsmasq").expect("dnsmasq is installed"));
        dns.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="])
            .args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/test/"])
            .arg(format!("--listen-address={ip}"))
            .arg(format!("--host-record=who.test,10.0.0.{number}"))
            .arg(format!("--txt-record=who.test,{number}"));
        Self::start(host, SocketAddrV4::new(ip, 53), dns, None)
    }

    /// TFTP, with a file `small` of one block and a file `large` of several. As in most servers, each
    /// transfer has its own port.
    pub fn tftp(host: &NetNs, ip: Ipv4Addr) -> Self {
        let files = files();
        for (name, size) in [("small", 300), ("large", 3000)] {
            fs::write(files.path().join(name), "x".repeat(size)).expect("write a file");
        }
        let mut tftp = host.command(installed("dnsmasq").expect("dnsmasq is installed"));
        // It is a name server too, so that a connect to port 53 shows when it has started.
        tftp.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="])
            .args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--enable-tftp"])
            .arg(format!("--listen-address={ip}"))
            .arg(format!("--tftp-root={}", files.path().display()));
        Self::start(host, SocketAddrV4::new(ip, 53), tftp, Some(files))
    }

    /// HTTP with persistent connections. `/who` returns the name.
    pub fn http(host: &NetNs, address: SocketAddrV4, name: &str) -> Self {
        let files = files();
        fs::write(files.path().join("who"), name).expect("write a file");
        let mut http = host.command("python3");
        http.args(["-m", "http.server", "--protocol", "HTTP/1.1", "--directory"])
            .arg(files.path())
            .args(["--bind", &address.ip().to_string(), &address.port().to_string()]);
        Self::start(host, address, http, Some(files))
    }

    /// Starts the server, and waits until clients can connect.
    fn start(
        host: &NetNs,
        address: SocketAddrV4,
        mut command: Command,
        files: Option<TempDir>,
    ) -> Self {
        let cgroup = Cgroup::new();
        let process = command
            .in_cgroup(&cgroup)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let mut server = Self { process, cgroup: Some(cgroup), _files: files };
        let deadline = Instant::now() + patient(PATIENCE);
        while host.run(|| TcpStream::connect(address)).is_err() {
            let ended = server.process.try_wait().expect("wait for a server");
            assert!(ended.is_none(), "{command:?} ended with {ended:?}");
            assert!(Instant::now() < deadline, "{command:?} does not listen on {address}");
            sleep(Duration::from_millis(20));
        }
        server
    }
}

/// A directory for the files that a server serves.
fn files() -> TempDir {
    tempfile::Builder::new()
        .prefix(&leftovers::test_name())
        .rand_bytes(0)
        .tempdir()
        .expect("make a directory")
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.cgroup.take());
        // The process is killed by now, and only has to be reaped.
        let _ = self.process.wait();
    }
}
