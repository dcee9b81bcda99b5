//! Debian packages that are unpacked but not installed.
//!
//! The machine's apt fetches them, with separate sources and a separate state. Checksums are kept beside the
//! packages.

use std::{
    fmt::{self, Write as _},
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use xshell::{Cmd, Shell, cmd};

use crate::{
    command::{CmdExt as _, shell},
    progress::say,
};

/// The age at which package lists are fetched again.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A list of files and checksums, as `sha256sum` writes it. It is written once all its files are there.
const PACKAGES: &str = "packages";

/// Marks errors that come from the lack of a network, and no other errors.
#[derive(Debug)]
pub(super) struct OutOfReach;

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Debian's archive can't be reached, and nothing is kept from an earlier run")
    }
}

/// The files of unpacked packages. While this lives, no other process removes them.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) root: PathBuf,
    _in_use: File,
}

/// Packages that belong together, in a folder of the cache.
pub(super) struct Packages {
    folder: PathBuf,
    /// For example `bookworm`, `bookworm-security`.
    suites: &'static [&'static str],
}

/// A package to fetch.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
}

impl Packages {
    pub(super) fn new(folder: PathBuf, suites: &'static [&'static str]) -> Self {
        Self { folder, suites }
    }

    /// Unpacks the packages that `select` chooses from the current lists. Without a network, these are the
    /// packages of the last run.
    pub(super) fn unpacked(
        &self,
        select: impl Fn(&Self) -> Result<Vec<Package>>,
    ) -> Result<Unpacked> {
        self.prepare()?;
        // Another process may be doing the same.
        let lock = self.folder.join("lock");
        let lock = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
        lock.lock().context("locking the cache")?;
        let fetched = self.update().and_then(|()| self.fetch(&select(self)?));
        if let Err(error) = fetched {
            if !self.folder.join(PACKAGES).exists() {
                return Err(error);
            }
            say("vm", &format!("going on with the packages of before: {error:#}"));
        }
        self.unpack()
    }

    /// apt's records of the packages whose name matches.
    pub(super) fn search(&self, pattern: &str) -> Result<String> {
        let sh = shell();
        self.apt(&sh, "apt-cache").args(["search", "--full", "--names-only", pattern]).read_stdout()
    }

    /// The packages that installing `names` on an empty machine would install.
    pub(super) fn closure(&self, names: &[&str]) -> Result<Vec<Package>> {
        let sh = shell();
        let uris = self
            .apt(&sh, "apt-get")
            // apt would leave out packages that are in its cache.
            .args(["-o", "Dir::Cache::archives=/nowhere"])
            .args(["-qq", "--yes", "--no-install-recommends", "--print-uris", "install"])
            .args(names)
            .read_stdout()?;
        // 'http://.../x_1%3a2_amd64.deb' x_1%3a2_amd64.deb 12345 MD5Sum:...
        uris.lines()
            .map(|line| {
                let file = line.split(' ').nth(1).unwrap_or("");
                let mut parts = file.split('_');
                let (name, version) = (parts.next(), parts.next());
                let version = version.with_context(|| format!("apt-get says {line:?}"))?;
                let name = name.unwrap_or_default().to_owned();
                Ok(Package { name, version: version.replace("%3a", ":") })
            })
            .collect()
    }

    /// Fetches the package lists again, unless they are new enough.
    fn update(&self) -> Result<()> {
        let (sources, updated) = (self.folder.join("sources"), self.folder.join("updated"));
        let text = sources_of(self.suites)?;
        let age =
            || SystemTime::now().duration_since(updated.metadata().ok()?.modified().ok()?).ok();
        if fs::read_to_string(&sources).is_ok_and(|old| old == text)
            && age().is_some_and(|age| age < FRESH)
        {
            return Ok(());
        }
        say("vm", &format!("reading the package lists of {}", self.suites.join(", ")));
        fs::write(&sources, text).with_context(|| format!("writing {}", sources.display()))?;
        self.apt(&shell(), "apt-get")
            .args(["-q", "update", "--error-on=any"])
            .run_quietly()
            .context(OutOfReach)?;
        fs::write(&updated, "").with_context(|| format!("writing {}", updated.display()))
    }

    /// Fetches the missing packages. apt checks the signatures of the lists, which have the checksums.
    fn fetch(&self, wanted: &[Package]) -> Result<()> {
        let exact: Vec<_> =
            wanted.iter().map(|Package { name, version }| format!("{name}={version}")).collect();
        let sh = shell();
        let shown = self.apt(&sh, "apt-cache").arg("show").args(&exact).read_stdout()?;
        let mut list = String::new();
        let mut missing = Vec::new();
        for Package { name, version } in wanted {
            let record = records(&shown)
                .find(|record| {
                    record.field("Package") == name && record.field("Version") == version
                })
                .with_context(|| format!("apt does not know {name}={version}"))?;
            let checksum = record.field("SHA256");
            ensure!(checksum.len() == 64, "apt knows no SHA256 of {name}={version}");
            let file = format!(
                "{name}_{}_{}.deb",
                version.replace(':', "%3a"),
                record.field("Architecture")
            );
            let path = self.folder.join("debs").join(&file);
            if sha256(&path).ok().as_deref() != Some(checksum) {
                missing.push(format!("{name}={version}"));
            }
            writeln!(list, "{checksum}  debs/{file}").expect("a string takes everything");
        }
        if !missing.is_empty() {
            match missing.as_slice() {
                [one] => say("vm", &format!("fetching {one}")),
                many => say(
                    "vm",
                    &format!(
                        "fetching {} packages, among them {}",
                        many.len(),
                        wanted_last(wanted)
                    ),
                ),
            }
            sh.change_dir(self.folder.join("debs"));
            self.apt(&sh, "apt-get")
                .args(["-q", "download"])
                .args(missing)
                .run_quietly()
                .context(OutOfReach)?;
        }
        check(&self.folder, &list)?;
        let (new, path) = (self.folder.join("packages.new"), self.folder.join(PACKAGES));
        fs::write(&new, list)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Checks the packages, and unpacks them if necessary.
    fn unpack(&self) -> Result<Unpacked> {
        let list = self.folder.join(PACKAGES);
        let list =
            fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
        check(&self.folder, &list)?;
        let name = format!("root-{}", &hex(&Sha256::digest(&list))[..12]);
        let root = self.folder.join(&name);
        if root.exists() {
            return in_use(root);
        }
        let keep: Vec<_> = files(&list).map(|(_, file)| file.trim_start_matches("debs/")).collect();
        remove_others(&self.folder.join("debs"), &keep)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            // Removes the old files, unless machines still run from them.
            if entry.file_name().to_string_lossy().starts_with("root-") {
                remove_unused(&entry.path())?;
            }
        }
        let (sh, new) = (shell(), self.folder.join("root-new"));
        for (_, file) in files(&list) {
            let package = self.folder.join(file);
            cmd!(sh, "dpkg-deb -x {package} {new}").run_quietly()?;
        }
        fs::rename(&new, &root).with_context(|| format!("renaming {}", new.display()))?;
        in_use(root)
    }

    /// `apt-get` or `apt-cache` with these sources instead of the machine's.
    fn apt<'a>(&self, sh: &'a Shell, program: &str) -> Cmd<'a> {
        let configuration = self.folder.join("apt.conf");
        cmd!(sh, "{program} -c {configuration}").env("LC_ALL", "C")
    }

    /// Makes the folders, and apt's configuration for them.
    fn prepare(&self) -> Result<()> {
        for folder in ["lists/partial", "debs/partial"] {
            let folder = self.folder.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let conf = self.folder.join("apt.conf");
        let text = CONFIGURATION.replace("FOLDER", &self.folder.display().to_string());
        fs::write(&conf, text).with_context(|| format!("writing {}", conf.display()))
    }
}

/// Locks the files against [`remove_unused`].
fn in_use(root: PathBuf) -> Result<Unpacked> {
    let folder = File::open(&root).with_context(|| format!("opening {}", root.display()))?;
    folder.lock_shared().with_context(|| format!("locking {}", root.display()))?;
    Ok(Unpacked { root, _in_use: folder })
}

fn remove_unused(root: &Path) -> Result<()> {
    let folder = File::open(root).with_context(|| format!("opening {}", root.display()))?;
    match folder.try_lock() {
        Ok(()) => fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display())),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", root.display()))
        }
    }
}

/// Only root may see the cache, so apt works as root.
const CONFIGURATION: &str = r#"
Dir::Etc::sourcelist "FOLDER/sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "FOLDER/lists";
Dir::State::status "/dev/null";
Dir::Cache::archives "FOLDER/debs";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Debug::NoLocking "1";
APT::Sandbox::User "root";
"#;

fn wanted_last(wanted: &[Package]) -> &str {
    wanted.last().map_or("", |package| &package.name)
}

/// The lines of apt's output about one package.
#[derive(Clone, Copy)]
pub(super) struct Record<'a>(&'a str);

impl<'a> Record<'a> {
    /// The value of a field; empty if the record lacks it.
    pub(super) fn field(self, name: &str) -> &'a str {
        let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
        self.0.lines().find_map(value).unwrap_or("")
    }
}

pub(super) fn records(text: &str) -> impl Iterator<Item = Record<'_>> {
    text.split("\n\n").map(Record)
}

/// apt sources for these suites, in the archive of the machine's own packages.
fn sources_of(suites: &[&str]) -> Result<String> {
    let sh = shell();
    let format = "$(RELEASE) $(COMPONENT) $(REPO_URI)";
    let targets = cmd!(sh, "apt-get indextargets --format {format}")
        .arg("Created-By: Packages")
        .read_stdout()
        .context("this takes Debian's apt")?;
    let mut text = String::new();
    for suite in suites {
        let security = suite.ends_with("-security");
        let uri = archive(&targets, security).with_context(|| {
            let kind = if security { "Debian's security updates" } else { "Debian's archive" };
            format!("the machine's apt has no source of {kind}")
        })?;
        writeln!(text, "deb [target=Packages] {uri} {suite} main")
            .expect("a string takes everything");
    }
    Ok(text)
}

/// Debian's archive, or that of its security updates, from the output of `apt-get indextargets`.
fn archive(targets: &str, security: bool) -> Option<&str> {
    const RELEASES: [&str; 4] = ["bookworm", "trixie", "forky", "sid"];
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (release, component, uri) = (words.next()?, words.next()?, words.next()?);
        let base = if security { release.strip_suffix("-security")? } else { release };
        (RELEASES.contains(&base) && component == "main").then_some(uri)
    })
}

/// Checks files against a list of checksums.
fn check(folder: &Path, list: &str) -> Result<()> {
    for (checksum, file) in files(list) {
        let path = folder.join(file);
        let found = sha256(&path).with_context(|| format!("reading {}", path.display()))?;
        if found != checksum {
            bail!("{} has another checksum than Debian says: {found}", path.display());
        }
    }
    Ok(())
}

fn files(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| line.split_once("  "))
}

fn sha256(path: &Path) -> std::io::Result<String> {
    Ok(hex(&Sha256::digest(fs::read(path)?)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes all files of a folder except those named.
fn remove_others(folder: &Path, keep: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let named = entry.file_name().to_str().is_some_and(|name| keep.contains(&name));
        if !named && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_fields() {
        let text = "Package: a\nVersion: 1:2-3\nDepends: b, c\n\nPackage: b\nVersion: 4\n";
        let versions: Vec<_> = records(text).map(|record| record.field("Version")).collect();
        assert_eq!(versions, ["1:2-3", "4"]);
        assert_eq!(records(text).next().unwrap().field("SHA256"), "");
    }

    #[test]
    fn the_archive_is_debians_and_not_that_of_somebody_who_names_suites_alike() {
        let targets = "bookworm stable http://other/\nbookworm-updates main http://debian/\n\
                       bookworm main http://debian/\nbookworm-security main http://security/\n";
        assert_eq!(archive(targets, false), Some("http://debian/"));
        assert_eq!(archive(targets, true), Some("http://security/"));
        assert_eq!(archive("cloud-sdk-bookworm main http://other/\n", false), None);
    }
}
