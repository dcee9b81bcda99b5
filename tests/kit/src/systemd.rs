//! A private systemd, separate from the machine's own.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    cgroup::Cgroup,
    command::{CommandExt as _, outcome},
    leftovers,
    this_machine::patient,
};

/// Time limit for its start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The script of the first process of the new namespaces, in a directory with `root` and `tree`.
///
/// It shows the machine's files read-only, with the tree on top, a new bpffs, and kernel settings that can't
/// be changed. All cgroups are in view, as they are to the systemd of a machine, but only its own can be
/// changed.
const SETUP: &str = "\
set -e
R=$PWD/root
mount --rbind / $R
mount --make-rprivate $R
mount -o remount,bind,ro $R
for d in run etc var tmp home usr/local/bin; do mount -t tmpfs none $R/$d; done
for f in passwd group nsswitch.conf ld.so.cache; do cp -L /etc/$f $R/etc/; done
for d in run etc usr/local/bin; do cp -a tree/$d/. $R/$d; done
umount -l $R/sys
mount -t sysfs none $R/sys
mount -t bpf -o mode=0700 none $R/sys/fs/bpf
C=$R/sys/fs/cgroup
mount -t cgroup2 none $C
O=$C$(sed -n s/^0:://p /proc/self/cgroup)
mount --bind $O $O
mount -o remount,bind,ro $C
mkdir $R/tmp/old
cd $R
pivot_root . tmp/old
umount -l /tmp/old
rmdir /tmp/old
mount -t proc none /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
export container=test SYSTEMD_UNIT_PATH=/run/systemd/system
export SYSTEMD_GENERATOR_PATH=/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/none
exec /lib/systemd/systemd --system --log-target=null --unit=sysinit.target
";

/// A systemd in its own namespaces and cgroup. It has only the units it is given, and starts none of them.
/// `Drop` ends it with all its services.
#[derive(Debug)]
pub struct Systemd {
    unshare: Child,
    /// The id of its process outside.
    pid: u32,
    /// Removing the cgroup ends systemd. `Some` until dropped.
    cgroup: Option<Cgroup>,
    _files: TempDir,
}

impl Systemd {
    /// Starts a systemd.
    ///
    /// `fill` gets a directory that stands for `/`, and the cgroup. It puts files below `etc`, `run` and
    /// `usr/local/bin`. Units belong in `run/systemd/system`.
    pub fn start(fill: impl FnOnce(&Path, &Cgroup)) -> Self {
        let files = tempfile::Builder::new()
            .prefix(&leftovers::test_name())
            .rand_bytes(0)
            .tempdir()
            .expect("make a directory");
        let units = files.path().join("tree/run/systemd/system");
        let places =
            ["root", "tree/etc", "tree/usr/local/bin"].map(|place| files.path().join(place));
        for directory in places.iter().chain([&units]) {
            fs::create_dir_all(directory).expect("make a directory");
        }
        for target in ["sysinit", "basic", "shutdown"] {
            fs::write(units.join(format!("{target}.target")), "[Unit]\nDefaultDependencies=no\n")
                .expect("write a unit");
        }
        let cgroup = Cgroup::new();
        fill(&files.path().join("tree"), &cgroup);

        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc"])
            .args(["--net", "sh", "-c", SETUP])
            .current_dir(files.path())
            .in_cgroup(&cgroup)
            .stdin(Stdio::null());
        let unshare = unshare.spawn().expect("start unshare");
        let mut systemd = Self { unshare, pid: 0, cgroup: Some(cgroup), _files: files };
        let begun = Instant::now();
        while !systemd.answers() {
            let ended = systemd.unshare.try_wait().expect("wait for systemd");
            assert!(ended.is_none(), "systemd ended with {ended:?}");
            assert!(begun.elapsed() < patient(PATIENCE), "systemd does not answer");
            sleep(Duration::from_millis(50));
        }
        systemd
    }

    fn answers(&mut self) -> bool {
        let unshare = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        let child = children.ok().and_then(|children| children.trim().parse().ok());
        self.pid = child.unwrap_or(0);
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid));
        name.is_ok_and(|name| name.trim() == "systemd")
            && outcome(self.command("systemctl").arg("is-active").arg("sysinit.target"))
                .status
                .success()
    }

    /// The cgroup that contains all its cgroups.
    pub fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().expect("there until dropped")
    }

    /// A command that runs inside its namespaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.pid.to_string()).arg("--all").arg(program);
        command
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(self.cgroup.take());
        // The process is killed by now, and only has to be reaped.
        let _ = self.unshare.wait();
    }
}
