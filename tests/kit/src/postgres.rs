//! Debian's PostgreSQL on a host, with its own data directory.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, chown},
};
use tempfile::TempDir;

use crate::{
    cgroup::Cgroup, command::CommandExt as _, leftovers, netns::NetNs, shared::Shared,
    this_machine::patient,
};

/// Time limit for the start of a server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database to make, with a user and password of the same name.
#[derive(Debug)]
pub struct Database {
    /// The name of the database, the user and the password.
    pub name: &'static str,
}

/// A data directory made by initdb. Each server gets a copy, because making one takes many times as long. It
/// is removed with the last server.
#[derive(Debug)]
struct Template {
    directory: TempDir,
}

/// A server whose data directory is being copied.
#[derive(Debug)]
pub struct Starting<'a> {
    copy: Child,
    server: Postgres,
    host: &'a NetNs,
    address: Ipv4Addr,
    machine: &'a Cgroup,
}

/// A running server. Dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    programs: PathBuf,
    directory: TempDir,
    template: Arc<Template>,
}

impl Template {
    fn make(programs: &Path, machine: &Cgroup, prefix: &str) -> Result<Self> {
        let template = Self { directory: directory(prefix)? };
        let status = as_postgres(&programs.join("initdb"), template.directory.path())
            .arg("--pgdata")
            .arg(template.data())
            .args(["--no-sync", "--locale=C", "--encoding=UTF8", "--username=postgres"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .stdout(Stdio::null())
            .in_cgroup(machine)
            .status()
            .context("cannot start initdb")?;
        ensure!(status.success(), "initdb ended with {status}");
        Ok(template)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Postgres {
    /// Begins to copy a data directory. Several copies can run at the same time.
    ///
    /// The server will run in the cgroup `machine`. If this process dies by SIGKILL, its leftovers have names
    /// with the prefix: see [`sweep`](crate::sweep).
    pub fn start<'a>(
        host: &'a NetNs,
        address: Ipv4Addr,
        machine: &'a Cgroup,
        prefix: &str,
    ) -> Result<Starting<'a>> {
        static TEMPLATE: Shared<Template> = Shared::new();
        let programs = programs()?;
        let template = TEMPLATE.get(|| Template::make(&programs, machine, prefix))?;
        let server = Self { server: None, programs, directory: directory(prefix)?, template };
        let copy = as_postgres("cp".as_ref(), server.directory.path())
            .args(["--recursive", "--reflink=auto"])
            .arg(server.template.data())
            .arg(server.data())
            .in_cgroup(machine)
            .spawn()
            .context("cannot start cp")?;
        Ok(Starting { copy, server, host, address, machine })
    }

    /// A command of one of PostgreSQL's programs.
    fn as_postgres(&self, program: &str) -> Command {
        as_postgres(&self.programs.join(program), self.directory.path())
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Runs SQL as the superuser, through the server's Unix socket.
    fn sql(&self, statements: &str) -> Result<()> {
        let mut psql = self
            .as_postgres("psql")
            .arg("--host")
            .arg(self.directory.path())
            .args(["--username=postgres", "--quiet", "--set=ON_ERROR_STOP=1", "postgres"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start psql")?;
        let mut stdin = psql.stdin.take().context("no input")?;
        stdin.write_all(statements.as_bytes())?;
        drop(stdin);
        let status = psql.wait()?;
        ensure!(status.success(), "psql ended with {status}");
        Ok(())
    }
}

impl Starting<'_> {
    /// Waits for the data directory, starts the server, and makes the databases.
    pub fn ready(self, databases: &[Database]) -> Result<Postgres> {
        let Self { mut copy, mut server, host, address, machine } = self;
        let status = copy.wait().context("cp")?;
        ensure!(status.success(), "copying a data directory: cp ended with {status}");
        let mut access =
            fs::OpenOptions::new().append(true).open(server.data().join("pg_hba.conf"))?;
        writeln!(access, "host all all 240.0.0.0/4 scram-sha-256")?;

        let log = fs::File::create(server.directory.path().join("log"))?;
        let child = server
            .as_postgres("postgres")
            .arg("-D")
            .arg(server.data())
            .args(["-c", &format!("listen_addresses={address}"), "-c", "fsync=off"])
            .args(["-c", &format!("unix_socket_directories={}", server.directory.path().display())])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .in_netns(host)
            .in_cgroup(machine)
            .spawn()
            .context("cannot start postgres")?;
        server.server = Some(child);
        server.wait_until_up()?;
        for Database { name } in databases {
            server.sql(&format!(
                "create role {name} login password '{name}'; create database {name} owner {name};"
            ))?;
        }
        Ok(server)
    }
}

impl Postgres {
    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + patient(PATIENCE);
        loop {
            let up = self
                .as_postgres("pg_isready")
                .arg("--quiet")
                .arg("--host")
                .arg(self.directory.path())
                .status()?;
            if up.success() {
                return Ok(());
            }
            let ended = match &mut self.server {
                Some(server) => server.try_wait()?,
                None => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("PostgreSQL did not start; its log:\n{log}");
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // Immediate shutdown: the data is not needed any more.
            let pid = Pid::from_raw(server.id().cast_signed());
            let _ = kill(pid, Signal::SIGQUIT);
            let _ = server.wait();
        }
    }
}

/// Makes a directory that belongs to PostgreSQL's user.
fn directory(prefix: &str) -> Result<TempDir> {
    let directory = tempfile::Builder::new()
        .prefix(&leftovers::unique(prefix))
        .rand_bytes(0)
        .tempdir()
        .context("cannot make a data directory")?;
    let user = User::from_name("postgres")?.context("no user postgres: is it installed?")?;
    chown(directory.path(), Some(user.uid), Some(user.gid)).context("chown")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))?;
    Ok(directory)
}

/// A command that runs as PostgreSQL's user, because the server refuses root. It ends with this process.
fn as_postgres(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"])
        .arg(program)
        .current_dir(directory);
    command
}

/// The directory of the newest version's server programs, as Debian's packages install them.
fn programs() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let programs = path.join("bin");
            has_server(&programs).then_some((version, programs))
        })
        .collect();
    versions.sort();
    let newest = versions.pop();
    newest.map(|(_, programs)| programs).context("no PostgreSQL server below /usr/lib/postgresql")
}

fn has_server(programs: &Path) -> bool {
    programs.join("initdb").exists() && programs.join("postgres").exists()
}
